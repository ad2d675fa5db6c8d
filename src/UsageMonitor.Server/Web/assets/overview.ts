// The overview's island: draws the chart from what the page carries, then keeps everything fresh.
import { TrendChart } from "./chart";
import { fetchFresh, readPage, SignedOut } from "./data";
import { updateFeatures, updateTrendTable } from "./features";
import { Live, type LiveState } from "./live";
import { Numbers, write } from "./numbers";
import { Tiles } from "./tiles";

const page = readPage();
const numbers = new Numbers(page.culture);
const tiles = new Tiles(numbers, page);
const canvas = document.getElementById("trend-chart");
const chart = canvas ? new TrendChart(canvas, page, numbers) : undefined;
const freshness = document.querySelector<HTMLElement>("[data-live]");
const isNew = freshness?.dataset["live"] === "new";
const clock = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium", timeZone: page.timeZone });

async function refresh(): Promise<void> {
  if (page.reloadAt !== null && Date.now() >= page.reloadAt) {
    // Another day has begun: "the last 7 days" are others now.
    location.reload();
    return;
  }

  try {
    const fresh = await fetchFresh(page);
    if (isNew) {
      if (fresh.summary.usageCount > 0) {
        location.reload();
      }

      return;
    }

    page.asOf = Date.parse(fresh.summary.asOf);
    tiles.update(fresh.summary, fresh.all);
    updateFeatures(fresh.features, page.feature, numbers);
    updateTrendTable(fresh.trend, page, numbers);
    page.events = fresh.trend.points.map((point) => point.usageCount);
    page.users = fresh.trend.points.map((point) => point.activeUsers);
    chart?.update();
    showClock();
  } catch (error) {
    if (error instanceof SignedOut) {
      // The server sends the person to sign in, and back to this page.
      location.reload();
      return;
    }

    throw error;
  }
}

function showClock(): void {
  const time = document.querySelector<HTMLTimeElement>("[data-as-of]");
  if (time) {
    time.dateTime = new Date(page.asOf).toISOString();
    write(time, clock.format(page.asOf));
  }
}

function showState(state: LiveState): void {
  if (!freshness) {
    return;
  }

  freshness.dataset["live"] = state;
  write(
    freshness.querySelector("[data-live-state]"),
    { on: "Live · as of", off: "Connecting… as of", paused: "Paused · as of" }[state],
  );
  write(freshness.querySelector("[data-live-toggle]"), state === "paused" ? "Resume" : "Pause");
}

const live = new Live(refresh, showState);
const toggle = freshness?.querySelector<HTMLButtonElement>("[data-live-toggle]");
if (toggle) {
  // What moves by itself must be possible to stop (WCAG 2.2.2).
  toggle.hidden = false;
  toggle.addEventListener("click", () => live.toggle());
}

live.start();
