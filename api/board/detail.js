// One SKU in full, from GET /v1/stock/{sku}: the parts of its available units, the orders that wait for it and what is to come, by
// warehouse and by channel.

import { call } from "./access.js";
import { cell, element, nameOf, number } from "./marks.js";
import { sections } from "./waiting.js";

// The minimum interval between two reads while the SKU changes.
const REFRESH_MS = 700;
// The interval of reading it while no channel reports a change: the queue changes without one.
const QUIET_MS = 3000;

export class Detail {
  constructor(panel, title, body, close) {
    this.panel = panel;
    this.title = title;
    this.body = body;
    this.sku = null;
    this.busy = false;
    this.stale = false;
    close.addEventListener("click", () => this.close());
    setInterval(() => { if (this.sku && !document.hidden) this.refresh(); }, QUIET_MS);
  }

  open(sku) {
    this.sku = sku;
    this.title.textContent = sku;
    this.body.replaceChildren(element("p", { class: "note", text: "loading" }));
    this.panel.hidden = false;
    this.refresh();
  }

  close() {
    this.sku = null;
    this.panel.hidden = true;
  }

  // Called for each update of any SKU.
  touched(sku) {
    if (sku === this.sku) this.refresh();
  }

  async refresh() {
    if (this.busy) {
      this.stale = true;
      return;
    }
    this.busy = true;
    this.stale = false;
    const sku = this.sku;
    try {
      const answer = await call(`/v1/stock/${encodeURIComponent(sku)}`);
      const body = await answer.json();
      const waiting = answer.ok ? await this.waiting(sku) : [];
      if (sku === this.sku) answer.ok ? this.show(body, waiting) : this.fail(body.detail ?? body.title);
    } catch {
      if (sku === this.sku) this.fail("the API does not answer");
    }
    setTimeout(() => {
      this.busy = false;
      if (this.sku && (this.stale || this.sku !== sku)) this.refresh();
    }, REFRESH_MS);
  }

  fail(why) {
    this.body.replaceChildren(element("p", { class: "note", text: `The stock could not be read: ${why}` }));
  }

  async waiting(sku) {
    try {
      return await sections(sku);
    } catch (error) {
      return [element("p", { class: "aside", text: `The queue and the announcements could not be read: ${error.message}` })];
    }
  }

  show(stock, waiting) {
    const sum = element("dl", { class: "sum" });
    const line = (name, value, kind = "") =>
      sum.append(element("div", { class: kind }, element("dt", { text: name }), element("dd", { text: value })));
    line("on hand", number(stock.on_hand));
    line("− committed (paid, not shipped)", number(stock.committed));
    line("− locked (held, not paid)", number(stock.locked));
    line("− reserved (set aside)", number(stock.reserved));
    if (stock.short) line("− short (sold beyond the shelf)", number(stock.short));
    line("available", number(stock.available), stock.available < 0 ? "total negative" : "total");
    if (stock.preordered) line("preordered (not in stock yet)", number(stock.preordered));
    if (stock.incoming) line("incoming", number(stock.incoming));
    if (stock.damaged) line("damaged", number(stock.damaged));
    const scrolled = this.body.querySelector(".waiting ol")?.scrollTop ?? 0;
    this.body.replaceChildren(sum, ...waiting, this.warehouses(stock.warehouses), this.channels(stock.channels));
    this.body.querySelector(".waiting ol")?.scrollTo(0, scrolled);
  }

  warehouses(warehouses) {
    const head = element("tr");
    const names = ["on_hand", "committed", "locked", "available"];
    for (const name of names) head.append(element("th", { scope: "col", text: name.replace("_", " ") }));
    const table = element("table", { class: "warehouses" }, element("thead", {}, head));
    const rows = element("tbody");
    for (const [warehouse, counters] of Object.entries(warehouses).sort()) {
      const row = element("tr");
      for (const name of names) row.append(element("td", { text: number(counters[name] ?? 0) }));
      // The name has a row of its own, with the whole width.
      rows.append(element("tr", {}, element("th", { scope: "rowgroup", colspan: names.length }, nameOf(warehouse))), row);
    }
    table.append(rows);
    return table;
  }

  channels(channels) {
    const rows = element("tbody");
    for (const [channel, offer] of Object.entries(channels).sort()) {
      const name = element("th", { scope: "row" }, nameOf(channel));
      rows.append(element("tr", {}, name, element("td", {}, cell(offer))));
    }
    return element("table", {}, rows);
  }
}
