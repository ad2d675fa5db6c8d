// The same numbers as the server writes (Formats.cs), and a short count from the old to the new.

const countMilliseconds = 450;
export const calm = matchMedia("(prefers-reduced-motion: reduce)");

export class Numbers {
  readonly #whole: Intl.NumberFormat;
  readonly #tenth: Intl.NumberFormat;
  readonly #percent: Intl.NumberFormat;
  readonly #percentTenth: Intl.NumberFormat;
  readonly #short: Intl.NumberFormat;

  constructor(culture: string) {
    this.#whole = new Intl.NumberFormat(culture, { maximumFractionDigits: 0 });
    this.#tenth = new Intl.NumberFormat(culture, { minimumFractionDigits: 1, maximumFractionDigits: 1 });
    this.#percent = new Intl.NumberFormat(culture, { style: "percent" });
    this.#percentTenth = new Intl.NumberFormat(culture, { style: "percent", minimumFractionDigits: 1, maximumFractionDigits: 1 });
    this.#short = new Intl.NumberFormat(culture, { notation: "compact", maximumFractionDigits: 1 });
  }

  whole = (value: number): string => this.#whole.format(value);

  short = (value: number): string => this.#short.format(value);

  ratio = (value: number): string =>
    value === 0 ? "–" : (value < 100 ? this.#tenth : this.#whole).format(value);

  percent = (value: number): string => {
    if (value > 0 && value < 0.001) {
      return `< ${this.#percentTenth.format(0.001)}`;
    }

    return (value === 0 || value >= 10 ? this.#percent : this.#percentTenth).format(value);
  };
}

/** Writes only what changed: an unchanged node is not repainted and a selection in it stays. */
export function write(element: Element | null, text: string): void {
  if (element && element.textContent !== text) {
    element.textContent = text;
  }
}

const counting = new WeakMap<Element, number>();

export function count(element: Element | null, from: number, to: number, format: (value: number) => string): void {
  if (!element || from === to) {
    return;
  }

  cancelAnimationFrame(counting.get(element) ?? 0);
  if (calm.matches || document.hidden) {
    write(element, format(to));
    return;
  }

  const begin = performance.now();
  const step = (now: number): void => {
    const progress = Math.min(1, Math.max(0, (now - begin) / countMilliseconds));
    const eased = 1 - (1 - progress) ** 3;
    write(element, format(progress === 1 ? to : from + (to - from) * eased));
    if (progress < 1) {
      counting.set(element, requestAnimationFrame(step));
    }
  };
  counting.set(element, requestAnimationFrame(step));
}
