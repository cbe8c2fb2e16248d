// What a part of a page shows while it has no numbers, or not the newest: loading, empty, cut off, stale, an error.

import { element } from "./elements.js";
import { redraw } from "./focus.js";
import { explanation } from "./meanings.js";

/** What is known of an error, in the reader's language and in the API's own words. */
export function reasonOf(context, error) {
  const { words } = context;
  if (error.status === 0) return words(error.code === "timeout" ? "states.timeout" : "states.no_answer");
  if (error.code === "forbidden") return words("states.forbidden");
  return explanation(context, error.code, error.detail ?? error.message);
}

/** A part of a page that is read from the API: a note above, and what was read below, or the state in its place. */
export class Part {
  #state = "";
  #readAt = 0;
  #drawn = "";

  constructor(context, root) {
    this.context = context;
    this.note = element("p", { class: "banner", hidden: true });
    this.body = element("div", { class: "part-body" });
    root.append(this.note, this.body);
    this.root = root;
  }

  /** Whether numbers are shown, if old ones. */
  get isFilled() {
    return this.#state === "filled";
  }

  is(state) {
    return this.#state === state;
  }

  loading() {
    if (this.isFilled) return;
    this.#put("loading", element("p", { class: "state loading", text: this.context.words("states.loading") }));
  }

  /** What was read; null leaves the nodes of before. `stale`: the API answered from the tables that it published earlier. */
  show(nodes, { stale = false } = {}) {
    this.#readAt = Date.now();
    if (nodes !== null) this.#put("filled", ...nodes);
    this.#banner(stale ? "stale" : "", stale ? this.context.words("states.stale") : "");
  }

  /** As `show`, with nodes made of `value` only if it is another one: what is read keeps its focus and its place. */
  draw(value, make, options) {
    const drawn = JSON.stringify(value);
    this.show(this.isFilled && drawn === this.#drawn ? null : make(), options);
    this.#drawn = drawn;
  }

  /** There is nothing; `hint` says when there would be something. */
  empty(text, hint = "") {
    const about = hint ? [element("p", { class: "aside", text: hint })] : [];
    this.#put("empty", element("div", { class: "state" }, element("p", { text }), ...about));
    this.#banner("", "");
  }

  /** What was read before stays in view, with a note that says how old it is. */
  failed(error, again) {
    if (error.code === "aborted") return;
    const { words, format } = this.context;
    const why = reasonOf(this.context, error);
    if (this.isFilled) {
      const kept = words("states.kept", { time: format.time(this.#readAt) });
      this.#banner(error.status === 0 ? "cut-off" : "error", `${why} ${kept}`);
      return;
    }
    const code = error.status && error.code ? element("p", { class: "aside" }, element("code", { text: error.code })) : "";
    const button = again ? element("button", { type: "button", text: words("states.again"), on: { click: again } }) : "";
    const kind = error.status === 0 ? "cut-off" : "error";
    this.#put(kind, element("div", { class: `state ${kind}` }, element("p", { text: why }), code, button));
    this.#banner("", "");
  }

  #put(state, ...nodes) {
    this.#state = state;
    this.root.dataset.state = state;
    this.root.setAttribute("aria-busy", String(state === "loading"));
    redraw(this.body, ...nodes);
  }

  #banner(kind, text) {
    if (this.note.textContent !== text) this.note.textContent = text;
    this.note.hidden = !text;
    if (kind) this.root.dataset.note = kind;
    else delete this.root.dataset.note;
  }
}
