// Server-sent events say that there is something new; what it is, the page asks for itself. At most every 0.4 s, never
// in a hidden tab, and after a failure at growing intervals.

const refreshIntervalMilliseconds = 400;
const retryMillisecondsMin = 1_000;
const retryMillisecondsMax = 30_000;

export type LiveState = "on" | "off" | "paused";

export class Live {
  #source: EventSource | undefined;
  #paused = false;
  #failures = 0;
  #retry: ReturnType<typeof setTimeout> | undefined;
  #pending: ReturnType<typeof setTimeout> | undefined;
  #refreshing = false;
  #again = false;
  #refreshedAt = -Infinity;

  readonly #refresh: () => Promise<void>;
  readonly #show: (state: LiveState) => void;

  constructor(refresh: () => Promise<void>, show: (state: LiveState) => void) {
    this.#refresh = refresh;
    this.#show = show;
  }

  start(): void {
    document.addEventListener("visibilitychange", () => this.#follow());
    // A page kept for the back button must not hold a connection; it catches up when it is shown again.
    addEventListener("pagehide", () => this.#close());
    addEventListener("pageshow", (event) => event.persisted && this.#follow());
    this.#open();
  }

  toggle(): void {
    this.#paused = !this.#paused;
    this.#follow();
  }

  #follow(): void {
    if (this.#paused || document.hidden) {
      this.#close();
      this.#show(this.#paused ? "paused" : "off");
    } else if (!this.#source) {
      this.#open();
      this.#usage();
    }
  }

  #open(): void {
    if (this.#paused || document.hidden) {
      return;
    }

    const source = new EventSource("/v1/dashboard/stream");
    this.#source = source;
    source.addEventListener("open", () => {
      if (this.#failures > 0) {
        this.#usage();
      }

      this.#failures = 0;
      this.#show("on");
    });
    source.addEventListener("usage", () => this.#usage());
    // Nothing new, but complete up to a later instant.
    source.addEventListener("heartbeat", () => this.#usage());
    source.addEventListener("error", () => this.#reconnect());
  }

  #close(): void {
    clearTimeout(this.#retry);
    clearTimeout(this.#pending);
    this.#pending = undefined;
    this.#source?.close();
    this.#source = undefined;
  }

  // The browser's own retry is constant and stops at an HTTP error; a server that restarts needs neither.
  #reconnect(): void {
    this.#close();
    if (this.#failures > 0) {
      // Once is how the server ends a long stream; it is open again before anybody could read of it.
      this.#show("off");
    }

    const ceiling = Math.min(retryMillisecondsMax, retryMillisecondsMin * 2 ** this.#failures++);
    this.#retry = setTimeout(() => this.#open(), ceiling * (0.5 + Math.random() / 2));
  }

  #usage(): void {
    if (this.#pending !== undefined) {
      return;
    }

    const wait = this.#refreshedAt + refreshIntervalMilliseconds - performance.now();
    this.#pending = setTimeout(() => void this.#run(), Math.max(0, wait));
  }

  async #run(): Promise<void> {
    this.#pending = undefined;
    if (this.#refreshing) {
      this.#again = true;
      return;
    }

    this.#refreshing = true;
    this.#refreshedAt = performance.now();
    try {
      await this.#refresh();
    } catch {
      this.#reconnect();
    } finally {
      this.#refreshing = false;
      if (this.#again) {
        this.#again = false;
        this.#usage();
      }
    }
  }
}
