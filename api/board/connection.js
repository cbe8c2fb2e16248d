// Whether the API answers and is ready, and whether the feeds of the page are up to date.

// A restart takes a few seconds; the page of an idle operator asks seldom enough.
const ASK_MS = 4000;
// A state that lasts less is shown, but not read out.
const SAY_MS = 1500;

const at = (id) => document.getElementById(id);

/** `feeds`: the states of the feeds that the page follows, by name, as `Feed.state` has them. */
export class Connection {
  #feeds = new Map();
  #api = "waiting";
  #shown = "";
  #saying = 0;

  constructor(context) {
    this.context = context;
    /** Since when the API does not answer; null while it does. */
    this.awaySince = null;
    this.#ask();
  }

  feed(name, state) {
    this.#feeds.set(name, state);
    this.draw();
  }

  forgetFeeds() {
    this.#feeds.clear();
    this.draw();
  }

  /** What the header says: `live`, `connected`, `waiting`, `late` or `down`. */
  get state() {
    if (this.#api !== "connected") return this.#api;
    const feeds = [...this.#feeds.values()];
    if (feeds.includes("closed") || feeds.includes("unready")) return "late";
    if (feeds.some((each) => each === "connecting" || each === "syncing")) return "waiting";
    return feeds.includes("live") ? "live" : "connected";
  }

  draw() {
    const { words, format } = this.context;
    const { state } = this;
    const since = this.awaySince === null ? "" : format.time(this.awaySince);
    const text = words(`shell.connection_${state}`, { since });
    if (text === this.#shown) return;
    this.#shown = text;
    at("connection").dataset.state = state;
    at("connection").textContent = text;
    clearTimeout(this.#saying);
    this.#saying = setTimeout(() => this.context.say(text), SAY_MS);
  }

  async #ask() {
    try {
      const answer = await fetch("/readyz", { cache: "no-store" });
      this.#api = answer.ok ? "connected" : "late";
      this.awaySince = null;
    } catch {
      this.#api = "down";
      this.awaySince ??= Date.now();
    }
    this.draw();
    setTimeout(() => this.#ask(), ASK_MS);
  }
}
