// The changes of a SKU, oldest first, read page by page from the newest back, and what caused each.

import { element, modeBadge, moment } from "./elements.js";
import { tableOf } from "./tables.js";
import * as texts from "./words/causes.js";

// Changes of one read; a chart of a thousand is still readable.
const PAGE_CHANGES = 200;

export class SkuChanges {
  #byVersion = new Map();
  #next = null;

  constructor(context, sku) {
    this.context = context;
    this.sku = sku;
    /** Oldest first, each with its `modes`, its `switches` of modes, and `delta`: of the available units. */
    this.items = [];
    /** Whether the last page ended because one call reads only so much. */
    this.isCut = false;
  }

  get hasEarlier() {
    return this.#next !== null;
  }

  /** Reads what is new, back to what is known. */
  async readNewest(signal) {
    const isFirst = this.items.length === 0;
    const page = await this.#read({ since: this.items.at(-1)?.at }, signal);
    const known = this.items.at(-1)?.version ?? 0;
    const joins = isFirst || page.items.length === 0 || page.items.at(-1).version <= known + 1;
    // More happened than one page has: the chart begins anew rather than have a gap.
    if (!joins) this.#byVersion.clear();
    if (isFirst || !joins) this.#take(page);
    this.#add(page.items);
  }

  async readEarlier(signal) {
    const page = await this.#read({ cursor: this.#next }, signal);
    this.#take(page);
    this.#add(page.items);
  }

  #read(bounds, signal) {
    const query = { limit: PAGE_CHANGES, ...bounds };
    return this.context.client.request("GET", "/v1/stock/{sku}/history", { path: { sku: this.sku }, query, signal });
  }

  #take(page) {
    this.#next = page.next;
    this.isCut = !page.complete;
  }

  #add(items) {
    for (const change of items) this.#byVersion.set(change.version, change);
    this.items = [...this.#byVersion.values()].sort((one, other) => one.version - other.version);
    const modes = new Map();
    let before = null;
    for (const change of this.items) {
      change.delta = before === null ? deltaOf(change) : change.after.available - before;
      before = change.after.available;
      change.switches = [];
      for (const [channel, mode] of Object.entries(change.modes ?? {})) {
        const last = modes.get(channel);
        if (last !== undefined && last !== mode) change.switches.push({ channel, before: last, after: mode });
        modes.set(channel, mode);
      }
    }
  }
}

// The first change has none before it: its own deltas say what moved.
function deltaOf({ change }) {
  const of = { on_hand: 1, committed: -1, locked: -1, reserved: -1, short: -1 };
  let sum = 0;
  for (const [name, units] of Object.entries(change)) sum += (of[name.split("@")[0]] ?? 0) * units;
  return sum;
}

/** The kind of a cause as words, and what it was about: an order, a warehouse, a channel, an actor. */
export function causeTexts({ words }, { cause }) {
  const kind = cause.kind in texts.en ? words(`causes.${cause.kind}`) : cause.kind;
  const about = cause.order_id ?? cause.warehouse ?? cause.channel ?? cause.actor ?? "";
  return { kind, about };
}

/** One change as a sentence. */
export function told(context, change) {
  const { words, format } = context;
  const { kind, about } = causeTexts(context, change);
  const delta = change.delta ? format.signed(change.delta) : words("sku.unchanged");
  const switches = change.switches.map(({ channel, before, after }) =>
    words("sku.mode_switch", { channel, before: words(`shell.mode_${before}`), after: words(`shell.mode_${after}`) }));
  const available = `${words("sku.available")} ${format.number(change.after.available)} (${delta})`;
  return [`${format.dateTime(change.at)} — ${kind}${about ? ` ${about}` : ""}`, available, ...switches].join("; ");
}

/** The switches of a change as badges. */
export function switchBadges(context, change) {
  return change.switches.map(({ channel, before, after }) =>
    element("div", { class: "switch" }, `${channel} `, modeBadge(context, before), " → ", modeBadge(context, after)));
}

/** The changes as a table, newest first. */
export function changesTable(context, items) {
  const { words, format } = context;
  const text = (name) => words(`sku.${name}`);
  const heads = [text("time"), text("cause"), [text("change")], [text("after")], text("modes")];
  const rows = items.toReversed().map((change) => {
    const { kind, about } = causeTexts(context, change);
    const cause = element("td", {}, kind, about ? element("div", { class: "aside anywhere", text: about }) : "");
    return element("tr", {},
      element("td", { class: "time" }, moment(context, change.at)),
      cause,
      element("td", { class: "number", text: change.delta ? format.signed(change.delta) : "0" }),
      element("td", { class: change.after.available < 0 ? "number negative" : "number", text: format.number(change.after.available) }),
      element("td", {}, ...switchBadges(context, change)));
  });
  return tableOf("sku-changes", words("sku.changes"), heads, rows);
}
