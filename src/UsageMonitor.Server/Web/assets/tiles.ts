// Patches the tiles that Tiles.razor rendered.
import type { Summary, Trend } from "./data";
import { count, write, type Numbers } from "./numbers";

const sparklineWidth = 120;
const sparklineHeight = 32;
const sparklineMargin = 2;
const stripFeaturesMax = 6;
const stripGap = 0.8;
const noticeableChange = 0.0005;

export class Tiles {
  readonly #numbers: Numbers;
  #shown: Record<string, number>;

  constructor(numbers: Numbers, shown: { usageCount: number; activeUsers: number; featureCount: number }) {
    this.#numbers = numbers;
    this.#shown = {
      events: shown.usageCount,
      users: shown.activeUsers,
      features: shown.featureCount,
      ratio: ratio(shown.usageCount, shown.activeUsers),
    };
  }

  update(summary: Summary, all: Trend): void {
    const before = summary.previous;
    const asOf = Date.parse(summary.asOf);
    const past = all.points.filter((point) => Date.parse(point.timeBucket) <= asOf);
    const { whole } = this.#numbers;
    this.#tile("events", summary.usageCount, before.usageCount, whole, past.map((point) => point.usageCount));
    this.#tile("users", summary.activeUsers, before.activeUsers, whole, past.map((point) => point.activeUsers));
    this.#tile("features", summary.features, before.features, whole, []);
    this.#tile(
      "ratio",
      ratio(summary.usageCount, summary.activeUsers),
      ratio(before.usageCount, before.activeUsers),
      this.#numbers.ratio,
      past.map((point) => ratio(point.usageCount, point.activeUsers)),
    );
    strip(summary.topFeatures.map((feature) => feature.share));
  }

  #tile(key: string, now: number, before: number, format: (value: number) => string, values: number[]): void {
    const tile = document.querySelector(`[data-tile=${key}]`);
    if (!tile) {
      return;
    }

    count(tile.querySelector("[data-value]"), this.#shown[key] ?? 0, now, format);
    this.#shown[key] = now;
    const [direction, text] = this.#change(now, before);
    tile.querySelector("[data-change]")?.setAttribute("data-change", direction);
    write(tile.querySelector("[data-change-word]"), direction === "same" ? "" : direction);
    write(tile.querySelector("[data-change-text]"), text);
    if (values.length > 1) {
      tile.querySelector("[data-sparkline]")?.setAttribute("d", sparkline(values));
    }
  }

  #change(now: number, before: number): [string, string] {
    const change = before === 0 ? 0 : (now - before) / before;
    if (before === 0 && now > 0) {
      return ["up", "New"];
    }

    return Math.abs(change) < noticeableChange
      ? ["same", "No change"]
      : [change > 0 ? "up" : "down", this.#numbers.percent(Math.abs(change))];
  }
}

function ratio(events: number, users: number): number {
  return users === 0 ? 0 : events / users;
}

function sparkline(values: number[]): string {
  const max = Math.max(...values, Number.MIN_VALUE);
  const points = values.map((value, index) => {
    const x = (index * sparklineWidth) / (values.length - 1);
    const y = sparklineHeight - sparklineMargin - (value / max) * (sparklineHeight - 2 * sparklineMargin);
    return `${round(x, 1)} ${round(y, 1)}`;
  });
  return `M${points.join("L")}`;
}

function strip(shares: number[]): void {
  const svg = document.querySelector("[data-share-strip]");
  if (!svg) {
    return;
  }

  let at = 0;
  shares.slice(0, stripFeaturesMax).forEach((share, index) => {
    const rect = svg.children[index] ?? svg.appendChild(document.createElementNS("http://www.w3.org/2000/svg", "rect"));
    rect.setAttribute("x", round(at, 2));
    rect.setAttribute("y", "0");
    rect.setAttribute("height", "8");
    rect.setAttribute("width", round(Math.max(0, share * 100 - stripGap), 2));
    at += share * 100;
  });
}

function round(value: number, digits: number): string {
  return String(Number(value.toFixed(digits)));
}
