// What the server put into the page, and the API that keeps it fresh.

export interface OverviewData {
  from: string;
  to: string;
  interval: string;
  feature: string | null;
  culture: string;
  timeZone: string;
  labels: string[];
  starts: number[];
  events: number[];
  users: number[];
  previous: number[];
  /** Of each hour; null where nothing was expected, and of days and weeks. */
  expected: ({ low: number; high: number } | null)[] | null;
  anomalies: { index: number; detail: string }[];
  asOf: number;
  reloadAt: number | null;
  usageCount: number;
  activeUsers: number;
  featureCount: number;
}

export interface Totals {
  usageCount: number;
  activeUsers: number;
  features: number;
}

export interface FeatureUsage {
  featureName: string;
  usageCount: number;
  activeUsers: number;
  share: number;
}

export interface Summary extends Totals {
  topFeatures: FeatureUsage[];
  previous: Totals;
  asOf: string;
}

export interface Trend {
  points: { timeBucket: string; usageCount: number; activeUsers: number }[];
}

export interface Fresh {
  summary: Summary;
  features: FeatureUsage[];
  trend: Trend;
  all: Trend;
}

export class SignedOut extends Error {}

export function readPage(): OverviewData {
  return JSON.parse(document.getElementById("overview-data")?.textContent ?? "{}") as OverviewData;
}

export async function fetchFresh(page: OverviewData): Promise<Fresh> {
  const days = { from: page.from, to: page.to };
  const trends = (feature: string | null) =>
    get<Trend>("usage/trends", { ...days, interval: page.interval, ...(feature === null ? {} : { feature }) });
  const trend = trends(page.feature);
  const [summary, features, narrowed, all] = await Promise.all([
    get<Summary>("summary", days),
    get<{ features: FeatureUsage[] }>("usage/by-feature", days),
    trend,
    page.feature === null ? trend : trends(null),
  ]);
  return { summary, features: features.features, trend: narrowed, all };
}

async function get<T>(path: string, query: Record<string, string>): Promise<T> {
  const response = await fetch(`/v1/dashboard/${path}?${new URLSearchParams(query)}`, {
    headers: { accept: "application/json" },
    cache: "no-cache",
  });
  if (response.status === 401) {
    throw new SignedOut();
  }

  if (!response.ok) {
    throw new Error(`${path}: ${response.status}`);
  }

  return (await response.json()) as T;
}
