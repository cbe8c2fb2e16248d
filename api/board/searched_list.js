// What is searched as the reader types: a form for it, and a list that is also turned page by page and read again.

import { element } from "./elements.js";
import { Paging } from "./paging.js";
import { poll } from "./poll.js";
import { Part } from "./states.js";

const READ_MS = 5_000;
const PAGE_ITEMS = 50;
const TYPING_MS = 300;

/** A form that calls `changed` a moment after the last input, and when it is sent. */
export function searchForm(changed, ...fields) {
  const form = element("form", { class: "filter", role: "search" }, ...fields);
  let typing = 0;
  form.addEventListener("input", () => {
    clearTimeout(typing);
    // The page may be another one by then.
    typing = setTimeout(() => { if (form.isConnected) changed(); }, TYPING_MS);
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    changed();
  });
  return form;
}

/** A page is made of it by `buildFilter()`, `queryOf(filter)` and `show(page)`. */
export class SearchedList {
  constructor(root, context, path, filter) {
    this.context = context;
    this.path = path;
    this.filter = filter;
    const panel = element("section", { class: "panel" }, element("div", { class: "panel-head" }, this.buildFilter()));
    this.part = new Part(context, panel);
    this.note = element("p", { class: "note", hidden: true });
    this.paging = new Paging(context, () => this.reading.now());
    panel.append(this.note, this.paging.root);
    root.append(panel);
    this.part.loading();
    this.reading = poll((signal) => this.read(signal), READ_MS);
  }

  stop() {
    this.reading.stop();
  }

  search(filter) {
    if (JSON.stringify(filter) === JSON.stringify(this.filter)) return;
    this.filter = filter;
    this.context.keep(filter);
    this.paging.reset();
    this.reading.now();
  }

  async read(signal) {
    const { filter, context, path } = this;
    const { cursor } = this.paging;
    try {
      const query = { ...this.queryOf(filter), cursor, limit: PAGE_ITEMS };
      const page = await context.client.request("GET", path, { query, signal });
      if (filter !== this.filter || cursor !== this.paging.cursor) return;
      this.paging.show(page.next);
      this.show(page);
    } catch (error) {
      if (!signal.aborted) this.part.failed(error, () => this.reading.now());
    }
  }
}
