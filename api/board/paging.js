// Pages of a list that the API gives by cursor: the way to each page is remembered, so that one can go back.

import { element } from "./elements.js";

export class Paging {
  #cursors = [null];
  #next = null;

  /** `onTurn` is called when the reader wants another page. */
  constructor(context, onTurn) {
    this.context = context;
    this.onTurn = onTurn;
    const { words } = context;
    const button = (key, turn) => element("button", { type: "button", text: words(key), on: { click: turn } });
    this.earlier = button("parts.previous", () => this.#turn(this.#cursors.slice(0, -1)));
    this.later = button("parts.next", () => this.#turn([...this.#cursors, this.#next]));
    this.place = element("span", { class: "aside" });
    this.root = element("div", { class: "pager", hidden: true }, this.earlier, this.place, this.later);
  }

  /** As a query; undefined for the first page. */
  get cursor() {
    return this.#cursors.at(-1) ?? undefined;
  }

  get isFirst() {
    return this.#cursors.length === 1;
  }

  /** Another list: its first page. */
  reset() {
    this.#cursors = [null];
    this.#next = null;
  }

  /** `next`: the cursor of the page after the one that is shown, or null. */
  show(next) {
    this.#next = next;
    this.earlier.disabled = this.isFirst;
    this.later.disabled = next === null;
    this.place.textContent = this.context.words("parts.page", { page: this.context.format.number(this.#cursors.length) });
    this.root.hidden = this.isFirst && next === null;
    // The button that was pressed may have nowhere to go now.
    if (this.root.contains(document.activeElement) && document.activeElement.disabled) (this.isFirst ? this.later : this.earlier).focus();
  }

  #turn(cursors) {
    this.#cursors = cursors;
    this.onTurn();
  }
}
