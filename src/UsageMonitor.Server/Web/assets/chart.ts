// Events as bars, active users as a line on its own axis, the period before as a faint dashed line.
import { BarChart, LineChart } from "echarts/charts";
import { GridComponent, TooltipComponent } from "echarts/components";
import { init, use, type EChartsType } from "echarts/core";
import { CanvasRenderer } from "echarts/renderers";
import type { OverviewData } from "./data";
import { calm, type Numbers } from "./numbers";

use([BarChart, LineChart, GridComponent, TooltipComponent, CanvasRenderer]);

const narrowPixels = 560;
const animationMilliseconds = 300;
const unfinishedOpacity = 0.45;

export class TrendChart {
  readonly #element: HTMLElement;
  readonly #page: OverviewData;
  readonly #numbers: Numbers;
  readonly #chart: EChartsType;

  constructor(element: HTMLElement, page: OverviewData, numbers: Numbers) {
    this.#element = element;
    this.#page = page;
    this.#numbers = numbers;
    this.#chart = init(element);
    this.#draw();
    new ResizeObserver(() => {
      this.#chart.resize();
      this.#draw();
    }).observe(element);
    document.addEventListener("themechange", () => this.#draw());
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#draw());
  }

  update(): void {
    const { events, users } = this.#visible();
    this.#chart.setOption({
      series: [{ id: "events", data: events }, { id: "users", data: users }, { id: "anomalies", data: this.#strange() }],
    });
  }

  /** A point on each bar that stood out. */
  #strange(): (number | null)[] {
    const places = new Set(this.#page.anomalies.map((anomaly) => anomaly.index));
    return this.#page.events.map((value, index) => (places.has(index) ? value : null));
  }

  /** What was expected: a clear line at its lower end, and the range stacked on it. */
  #band(colour: string) {
    const expected = this.#page.expected ?? [];
    const band = { type: "line" as const, stack: "expected", symbol: "none", silent: true, lineStyle: { opacity: 0 }, z: 1 };
    return [
      { ...band, id: "low", data: expected.map((range) => range?.low ?? null) },
      {
        ...band,
        id: "range",
        data: expected.map((range) => (range ? range.high - range.low : null)),
        areaStyle: { color: colour, opacity: 0.16 },
      },
    ];
  }

  /** What has not begun yet is no zero, and what has not ended is drawn lighter. */
  #visible() {
    const { starts, asOf } = this.#page;
    const current = starts.findLastIndex((start) => start <= asOf);
    const isUnfinished = current === starts.length - 1 ? this.#page.reloadAt !== null : current >= 0;
    return {
      events: this.#page.events.map((value, index) => {
        if (index > current) {
          return { value: null };
        }

        return index === current && isUnfinished ? { value, itemStyle: { opacity: unfinishedOpacity } } : { value };
      }),
      users: this.#page.users.map((value, index) => (index > current ? null : value)),
    };
  }

  #draw(): void {
    const style = getComputedStyle(this.#element);
    // A registered colour property: the browser has already resolved light-dark() in it.
    const colour = (name: string) => style.getPropertyValue(`--um-${name}`).trim();
    const narrow = this.#element.clientWidth < narrowPixels;
    const text = { color: colour("text-muted"), fontFamily: style.fontFamily, fontSize: 12 };
    const { events, users } = this.#visible();
    const axis = (name: string, split: boolean) => ({
      type: "value" as const,
      name: narrow ? "" : name,
      nameTextStyle: { ...text, align: split ? ("left" as const) : ("right" as const), padding: split ? [0, 0, 4, -32] : [0, -32, 4, 0] },
      minInterval: 1,
      splitNumber: 4,
      axisLabel: { ...text, formatter: (value: number) => this.#numbers.short(value) },
      splitLine: { show: split, lineStyle: { color: colour("grid") } },
    });
    this.#chart.setOption({
      animation: !calm.matches,
      animationDuration: animationMilliseconds,
      animationDurationUpdate: animationMilliseconds,
      grid: { left: 44, right: 44, top: narrow ? 12 : 34, bottom: 28 },
      tooltip: {
        trigger: "axis",
        confine: true,
        transitionDuration: 0,
        className: "chart-tooltip",
        backgroundColor: colour("surface"),
        borderColor: colour("border"),
        padding: 0,
        axisPointer: { type: "shadow", z: -1, shadowStyle: { color: colour("hover") } },
        formatter: (points: unknown) => this.#tooltip((points as { dataIndex: number }[])[0]?.dataIndex ?? 0),
      },
      xAxis: {
        type: "category",
        data: this.#page.labels,
        axisTick: { show: false },
        axisLine: { lineStyle: { color: colour("border") } },
        axisLabel: { ...text, hideOverlap: true, margin: 12 },
      },
      yAxis: [axis("Events", true), axis("Active users", false)],
      series: [
        ...this.#band(colour("good")),
        {
          id: "anomalies",
          type: "line",
          data: this.#strange(),
          showAllSymbol: true,
          symbol: "circle",
          symbolSize: 10,
          lineStyle: { opacity: 0 },
          itemStyle: { color: colour("bad"), borderColor: colour("surface"), borderWidth: 2 },
          z: 5,
        },
        {
          id: "events",
          type: "bar",
          data: events,
          barMaxWidth: 36,
          barCategoryGap: "32%",
          itemStyle: { color: colour("bar"), borderRadius: [3, 3, 0, 0] },
          emphasis: { disabled: true },
        },
        {
          id: "previous",
          type: "line",
          data: this.#page.previous.slice(0, this.#page.labels.length),
          symbol: "none",
          lineStyle: { color: colour("previous"), width: 1.5, type: "dashed" },
          itemStyle: { color: colour("previous") },
          emphasis: { disabled: true },
        },
        {
          id: "users",
          type: "line",
          yAxisIndex: 1,
          data: users,
          showSymbol: users.length === 1,
          symbol: "circle",
          symbolSize: 7,
          lineStyle: { color: colour("users"), width: 2 },
          itemStyle: { color: colour("users"), borderColor: colour("surface"), borderWidth: 2 },
          z: 4,
        },
      ],
    });
  }

  /** An element, not markup: markup with inline styles would be refused by the page's content security policy. */
  #tooltip(index: number): HTMLElement {
    const page = this.#page;
    const box = document.createElement("div");
    box.className = "tooltip-box";
    const title = box.appendChild(document.createElement("div"));
    title.className = "tooltip-title";
    title.textContent = page.labels[index] ?? "";
    const begun = (page.starts[index] ?? Infinity) <= page.asOf;
    const row = (key: string, label: string, value: number | undefined) => {
      const line = box.appendChild(document.createElement("div"));
      line.className = `tooltip-row legend-${key}`;
      line.appendChild(document.createElement("span")).textContent = label;
      line.appendChild(document.createElement("strong")).textContent = value === undefined ? "–" : this.#numbers.whole(value);
    };
    row("events", "Events", begun ? page.events[index] : undefined);
    row("users", "Active users", begun ? page.users[index] : undefined);
    row("previous", "Events, period before", page.previous[index]);
    const expected = page.expected?.[index];
    if (expected) {
      const line = box.appendChild(document.createElement("div"));
      line.className = "tooltip-row legend-expected";
      line.appendChild(document.createElement("span")).textContent = "Events expected";
      line.appendChild(document.createElement("strong")).textContent =
        `${this.#numbers.whole(Math.round(expected.low))} – ${this.#numbers.whole(Math.round(expected.high))}`;
    }

    return box;
  }
}
