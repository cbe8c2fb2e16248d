// The table of the SKUs of a page by channel: the newest update of every cell, drawn at an interval.

import { element, MODES, nameOf, offerCell, skuLink } from "./elements.js";
import { redraw } from "./focus.js";
import { headsOf, named, tableOf } from "./tables.js";

export class StockTable {
  #rows = new Map();
  #channels = [];
  #dirty = true;

  constructor(context) {
    this.context = context;
    this.root = tableOf("stock", context.words("stock.caption"), [], []);
    this.table = this.root.firstElementChild;
    [this.body] = this.table.tBodies;
  }

  get skus() {
    return [...this.#rows.keys()];
  }

  clear() {
    this.#rows.clear();
  }

  /** Other SKUs, with their numbers of `GET /v1/stock`. */
  replace(items) {
    const before = this.#rows;
    this.#rows = new Map();
    for (const stock of items) {
      this.#rows.set(stock.sku, before.get(stock.sku) ?? this.#row(stock.sku));
      this.put(stock);
    }
    redraw(this.body, ...[...this.#rows.values()].map((row) => row.line));
    this.#dirty = true;
  }

  /** Which channels have a column. */
  columns(channels) {
    this.#channels = channels;
    const { words } = this.context;
    const heads = [words("stock.sku"), [words("stock.available")], ...channels];
    const columns = headsOf(heads);
    channels.forEach((channel, index) => columns[index + 2].replaceChildren(nameOf(channel)));
    this.table.tHead.rows[0].replaceChildren(...columns);
    this.table.style.setProperty("--channels", channels.length);
    for (const row of this.#rows.values()) {
      row.cells = new Map(channels.map((channel) => [channel, element("td")]));
      redraw(row.line, row.head, row.available, ...row.cells.values());
      named(row.line, heads);
      for (const channel of channels) row.dirty.set(channel, false);
      row.isDirty = true;
    }
    this.#dirty = true;
  }

  /** The numbers of a SKU; a cell that a feed has filled meanwhile stays. */
  put(stock) {
    const row = this.#rows.get(stock.sku);
    if (!row || row.version > stock.version) return;
    row.version = stock.version;
    if (row.stock?.available !== stock.available) row.isDirty = true;
    row.stock = stock;
    for (const [channel, offer] of Object.entries(stock.channels)) {
      const known = row.offers.get(channel);
      if (known && (known.version > stock.version || isSame(known, offer))) continue;
      row.offers.set(channel, { ...offer, version: stock.version });
      row.dirty.set(channel, known !== undefined);
    }
    this.#dirty = true;
  }

  /** An update of a feed. Returns the one before it, undefined if there was none, or null if it changes nothing. */
  take(update, live) {
    const row = this.#rows.get(update.sku);
    if (!row) return null;
    const before = row.offers.get(update.channel);
    if (before && (isSame(before, update) || (live && before.version > update.version))) return null;
    row.offers.set(update.channel, update);
    row.dirty.set(update.channel, live);
    this.#dirty = true;
    return before;
  }

  /** Draws what changed; whether anything did. */
  draw() {
    if (!this.#dirty) return false;
    this.#dirty = false;
    for (const row of this.#rows.values()) this.#drawRow(row);
    return true;
  }

  /** SKUs by mode, in at least one of the channels shown. */
  counts() {
    const counts = { skus: this.#rows.size };
    for (const mode of MODES) counts[mode] = 0;
    for (const row of this.#rows.values()) {
      const modes = new Set(this.#channels.map((channel) => row.offers.get(channel)?.mode));
      for (const mode of MODES) if (modes.has(mode)) counts[mode] += 1;
    }
    return counts;
  }

  #row(sku) {
    const head = element("th", { scope: "row" }, skuLink(sku));
    const available = element("td", { class: "number" });
    return { line: element("tr"), head, available, cells: new Map(), offers: new Map(), dirty: new Map(), version: 0, isDirty: true };
  }

  #drawRow(row) {
    if (row.isDirty && row.stock) {
      row.isDirty = false;
      row.available.textContent = this.context.format.number(row.stock.available);
      row.available.classList.toggle("negative", row.stock.available < 0);
    }
    for (const [channel, flash] of row.dirty) {
      const cell = row.cells.get(channel);
      if (!cell) continue;
      const fresh = offerCell(this.context, row.offers.get(channel));
      if (flash) fresh.classList.add("flash");
      cell.replaceChildren(fresh);
    }
    row.dirty.clear();
  }
}

function isSame(one, other) {
  return one.mode === other.mode && one.quantity === other.quantity && one.preorder_remaining === other.preorder_remaining;
}
