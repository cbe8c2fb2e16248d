// Orders: a search through them, and one order with its lines.

import { choice, element, field, moment, nameOf, skuLink } from "../elements.js";
import { OrderDetail } from "../order_detail.js";
import { orderState, promisedDay, unitsOf } from "../order_parts.js";
import { Paging } from "../paging.js";
import { Part } from "../states.js";
import { tableOf } from "../tables.js";

// Each call looks at a part of all orders, so a page may be short.
const PAGE_ORDERS = 50;
// Calls for one page; the reader says whether to search on.
const CALLS_MAX = 5;
// An order may have 2,000 lines.
const LINES_MAX = 3;
const STATES = ["reserved", "paid", "shipped", "cancelled", "expired", "rejected", "awaiting_approval"];

class OrdersPage {
  constructor(root, context) {
    this.context = context;
    const { query } = context.route;
    this.filter = Object.fromEntries(["state", "channel", "sku", "only"].map((name) => [name, query.get(name) ?? ""]));
    this.paging = new Paging(context, () => this.read());
    const panel = element("section", { class: "panel" });
    this.channels = choice([["", context.words("orders.any")]], "");
    panel.append(element("div", { class: "panel-head" }, this.buildFilter()));
    this.part = new Part(context, panel);
    panel.append(this.paging.root);
    context.tools.append(this.buildOpen());
    root.append(panel);
    this.part.loading();
    this.readChannels();
    this.read();
  }

  stop() {
    this.reading?.abort();
  }

  buildOpen() {
    const { words, go } = this.context;
    const id = element("input", { type: "search", autocomplete: "off", spellcheck: "false", maxlength: "128", required: true });
    const form = element("form", { class: "form" },
      field("order-id", words("orders.id"), id), element("button", { type: "submit", text: words("orders.open") }));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (id.value.trim()) go(`#/orders/${encodeURIComponent(id.value.trim())}`);
    });
    return form;
  }

  buildFilter() {
    const { words } = this.context;
    const states = choice([["", words("orders.any")], ...STATES.map((each) => [each, words(`orders.state_${each}`)])], this.filter.state);
    const sku = element("input", { type: "search", value: this.filter.sku, autocomplete: "off", spellcheck: "false", maxlength: "128" });
    const only = choice(["all", "short", "at_risk"].map((each) => [each === "all" ? "" : each, words(`orders.only_${each}`)]), this.filter.only);
    const form = element("form", { class: "filter", role: "search" },
      field("orders-sku", words("orders.sku"), sku),
      field("orders-state", words("orders.state"), states),
      field("orders-channel", words("orders.channel"), this.channels),
      field("orders-only", words("orders.only"), only),
      element("button", { type: "submit", class: "primary", text: words("orders.search") }));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.filter = { state: states.value, channel: this.channels.value, sku: sku.value.trim(), only: only.value };
      this.context.keep(this.filter);
      this.paging.reset();
      this.read();
    });
    return form;
  }

  async readChannels() {
    const { items } = await this.context.client.channels().catch(() => ({ items: [] }));
    const chosen = this.filter.channel;
    const names = chosen && !items.includes(chosen) ? [...items, chosen] : items;
    this.channels.replaceChildren(...[["", this.context.words("orders.any")], ...names.map((name) => [name, name])]
      .map(([value, text]) => new Option(text, value, value === chosen, value === chosen)));
  }

  /** A search is started by the reader only: it goes through all keys of the ledger. */
  async read() {
    this.reading?.abort();
    const reading = (this.reading = new AbortController());
    this.part.loading();
    try {
      const found = await this.search(reading.signal);
      if (reading.signal.aborted) return;
      this.show(found);
    } catch (error) {
      if (!reading.signal.aborted) this.part.failed(error, () => this.read());
    }
  }

  async search(signal) {
    const { state, channel, sku, only } = this.filter;
    const query = { state: state || undefined, channel: channel || undefined, sku: sku || undefined };
    if (only) query[only] = "true";
    const items = new Map();
    let cursor = this.paging.cursor;
    let stale = false;
    for (let call = 0; call < CALLS_MAX && items.size < PAGE_ORDERS; call += 1) {
      const page = await this.context.client.request("GET", "/v1/orders", { query: { ...query, cursor, limit: PAGE_ORDERS - items.size }, signal });
      for (const order of page.items) items.set(order.order_id, order);
      stale ||= page.stale === true;
      cursor = page.next ?? undefined;
      if (!cursor) break;
    }
    return { items: [...items.values()], next: cursor ?? null, stale };
  }

  show({ items, next, stale }) {
    const { words, format } = this.context;
    this.context.say(words("orders.found", { count: items.length }));
    this.paging.show(next);
    if (!items.length) {
      this.part.empty(words(next ? "orders.none_so_far" : "orders.none"), next ? words("orders.none_hint") : "");
      return;
    }
    const names = ["id", "channel", "state", "lines", "units", "placed", "promised"];
    const heads = names.map((name) => (name === "units" ? [words("orders.units")] : words(`orders.${name}`)));
    const table = tableOf("orders", words("orders.caption"), heads, items.map((order) => this.row(order)));
    const readAt = words("parts.read_at", { time: format.time(Date.now()) });
    this.part.show([table, element("p", { class: "note", text: readAt })], { stale });
  }

  row(order) {
    const { words, format } = this.context;
    const link = element("a", { href: `#/orders/${encodeURIComponent(order.order_id)}` }, nameOf(order.order_id));
    const lines = order.lines.slice(0, LINES_MAX).map((line) => element("div", {}, `${format.number(line.quantity)} × `, skuLink(line.sku)));
    const others = order.lines.length - LINES_MAX;
    if (others > 0) lines.push(element("div", { class: "aside", text: words("orders.more_lines", { count: format.number(others) }) }));
    return element("tr", {},
      element("th", { scope: "row" }, link),
      element("td", {}, nameOf(order.channel)),
      element("td", {}, orderState(this.context, order.state)),
      element("td", {}, ...lines),
      element("td", { class: "number", text: format.number(unitsOf(order)) }),
      element("td", {}, moment(this.context, order.placed_at)),
      element("td", {}, promisedDay(this.context, order) ?? ""));
  }
}

export default {
  id: "orders",
  title: "orders.title",
  roles: null,
  mount(root, context) {
    const { name } = context.route;
    const page = name ? new OrderDetail(root, context, name) : new OrdersPage(root, context);
    return () => page.stop();
  },
};
