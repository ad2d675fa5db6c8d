// Patches the tables that FeaturesCard.razor and TrendCard.razor rendered: row by row, in place.
import type { FeatureUsage, OverviewData, Trend } from "./data";
import { write, type Numbers } from "./numbers";

export function updateFeatures(features: FeatureUsage[], chosen: string | null, numbers: Numbers): void {
  const body = document.querySelector<HTMLTableSectionElement>("[data-feature-rows]");
  if (!body) {
    return;
  }

  const shown = features.slice(0, Number(body.dataset["rowsMax"]));
  if (body.rows.length === 0 && shown.length > 0) {
    // The page was rendered empty and has no row to copy.
    location.reload();
    return;
  }

  shown.forEach((feature, index) => {
    const row = body.rows[index] ?? body.appendChild(body.rows[0]!.cloneNode(true) as HTMLTableRowElement);
    const isChosen = feature.featureName === chosen;
    const link = row.querySelector("a")!;
    if (link.title !== feature.featureName || row.classList.contains("is-chosen") !== isChosen) {
      write(link, feature.featureName);
      link.title = feature.featureName;
      link.href = address(isChosen ? null : feature.featureName);
      row.classList.toggle("is-chosen", isChosen);
      isChosen ? link.setAttribute("aria-current", "true") : link.removeAttribute("aria-current");
    }

    write(row.cells[1]!, numbers.whole(feature.usageCount));
    write(row.cells[2]!, numbers.whole(feature.activeUsers));
    write(row.querySelector(".share-text"), numbers.percent(feature.share));
    row.querySelector(".share-fill")?.setAttribute("width", `${Number((feature.share * 100).toFixed(2))}%`);
  });
  while (body.rows.length > Math.max(1, shown.length)) {
    body.deleteRow(-1);
  }

  write(document.querySelector("[data-feature-count]"), numbers.whole(features.length));
}

export function updateTrendTable(trend: Trend, page: OverviewData, numbers: Numbers): void {
  const body = document.querySelector<HTMLTableSectionElement>("[data-trend-rows]");
  trend.points.forEach((point, index) => {
    const row = body?.rows[index];
    if (row) {
      write(row.cells[1]!, numbers.whole(point.usageCount));
      write(row.cells[2]!, numbers.whole(point.activeUsers));
      write(row.cells[3]!, index < page.previous.length ? numbers.whole(page.previous[index]!) : "–");
    }
  });
}

function address(feature: string | null): string {
  const url = new URL(location.href);
  feature === null ? url.searchParams.delete("feature") : url.searchParams.set("feature", feature);
  return url.pathname + url.search;
}
