// Alerts, newest first; with the type `mode_switched` it is the history of modes.

import { choice, element, field, modeBadge, moment, nameOf, skuLink } from "../elements.js";
import { Paging } from "../paging.js";
import { poll } from "../poll.js";
import { Part } from "../states.js";
import * as texts from "../words/alerts.js";

const READ_MS = 5_000;
const PAGE_ALERTS = 50;
const TYPING_MS = 300;

class AlertsPage {
  constructor(root, context) {
    this.context = context;
    const { query } = context.route;
    this.filter = Object.fromEntries(["type", "sku", "channel"].map((name) => [name, query.get(name) ?? ""]));
    this.newest = "";
    const panel = element("section", { class: "panel" }, element("div", { class: "panel-head" }, this.buildFilter()));
    this.part = new Part(context, panel);
    this.paging = new Paging(context, () => this.reading.now());
    panel.append(this.paging.root);
    root.append(panel);
    this.part.loading();
    this.readTypes();
    this.reading = poll((signal) => this.read(signal), READ_MS);
  }

  stop() {
    this.reading.stop();
    clearTimeout(this.typing);
  }

  buildFilter() {
    const { words } = this.context;
    const { filter } = this;
    const text = (name) => element("input", { type: "search", value: filter[name], autocomplete: "off", maxlength: "128", spellcheck: "false" });
    const inputs = { sku: text("sku"), channel: text("channel") };
    this.types = choice([["", words("parts.any")], ...(filter.type ? [[filter.type, this.typeText(filter.type)]] : [])], filter.type);
    const changed = () => this.search({ type: this.types.value, sku: inputs.sku.value.trim(), channel: inputs.channel.value.trim() });
    const form = element("form", { class: "filter", role: "search" },
      field("alerts-type", words("alerts.type"), this.types),
      field("alerts-sku", words("parts.sku"), inputs.sku),
      field("alerts-channel", words("parts.channel"), inputs.channel));
    form.addEventListener("input", () => {
      clearTimeout(this.typing);
      this.typing = setTimeout(changed, TYPING_MS);
    });
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      changed();
    });
    return form;
  }

  async readTypes() {
    try {
      const { items } = await this.context.client.request("GET", "/v1/alerts/types");
      const others = items.filter((type) => type !== this.filter.type);
      this.types.append(...others.map((type) => new Option(this.typeText(type), type)));
    } catch {
      // The read of the page says why.
    }
  }

  typeText(type) {
    return `type_${type}` in texts.en ? this.context.words(`alerts.type_${type}`) : type;
  }

  search(filter) {
    if (JSON.stringify(filter) === JSON.stringify(this.filter)) return;
    this.filter = filter;
    this.newest = "";
    this.context.keep(filter);
    this.paging.reset();
    this.reading.now();
  }

  async read(signal) {
    const { filter } = this;
    const { cursor } = this.paging;
    const named = Object.fromEntries(Object.entries(filter).filter(([, value]) => value));
    try {
      const query = { ...named, cursor, limit: PAGE_ALERTS };
      const page = await this.context.client.request("GET", "/v1/alerts", { query, signal });
      if (filter === this.filter && cursor === this.paging.cursor) this.show(page);
    } catch (error) {
      if (!signal.aborted) this.part.failed(error, () => this.reading.now());
    }
  }

  show({ items, next }) {
    const { words } = this.context;
    this.paging.show(next);
    if (!items.length) {
      const isFiltered = Object.values(this.filter).some(Boolean);
      if (next !== null) this.part.empty(words("alerts.none_here"), words("alerts.none_here_hint"));
      else this.part.empty(words(isFiltered ? "alerts.none_found" : "alerts.none"), isFiltered ? "" : words("alerts.none_hint"));
      return;
    }
    const shown = JSON.stringify(items);
    // The same alerts are not drawn again: a reader may be in the table.
    this.part.show(shown === this.newest ? null : [this.table(items)]);
    this.newest = shown;
  }

  table(items) {
    const { words } = this.context;
    const names = ["parts.time", "alerts.type", "alerts.what", "alerts.units", "alerts.detail"];
    const heads = names.map((name) => element("th", { scope: "col", class: name === "alerts.units" ? "number" : null, text: words(name) }));
    const table = element("table", { class: "alerts" },
      element("caption", { class: "visually-hidden", text: words("alerts.caption") }),
      element("thead", {}, element("tr", {}, ...heads)),
      element("tbody", {}, ...items.map((alert) => this.row(alert))));
    return element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": words("alerts.caption") }, table);
  }

  row(alert) {
    const { format } = this.context;
    const quantity = alert.quantity === null || alert.quantity === undefined ? "" : format.number(alert.quantity);
    return element("tr", {},
      element("td", {}, moment(this.context, alert.at)),
      element("td", {}, element("strong", { text: this.typeText(alert.type) })),
      element("td", {}, ...this.subjects(alert)),
      element("td", { class: "number", text: quantity }),
      element("td", { class: "wrap" }, ...this.details(alert)));
  }

  /** What it is about: a SKU, a channel, a warehouse, an order, a part. */
  subjects(alert) {
    const found = [];
    if (alert.sku) found.push(skuLink(alert.sku));
    for (const name of [alert.channel, alert.warehouse, alert.part, alert.process]) if (name) found.push(nameOf(name));
    if (alert.order_id) found.push(orderLink(alert.order_id));
    return found.flatMap((node, index) => (index ? [" · ", node] : [node]));
  }

  details(alert) {
    const { words } = this.context;
    const texts = [alert.reason, alert.detail].filter(Boolean).map((text) => element("span", { text: `${text} ` }));
    if (alert.mode) texts.push(modeBadge(this.context, alert.mode_before), " → ", modeBadge(this.context, alert.mode));
    const orders = (alert.orders ?? []).map((id) => orderLink(id)).flatMap((link, index) => (index ? [", ", link] : [link]));
    if (orders.length) texts.push(element("span", {}, `${words("alerts.orders")} `, ...orders));
    return texts;
  }
}

function orderLink(id) {
  return element("a", { href: `#/orders/${encodeURIComponent(id)}` }, nameOf(id));
}

export default {
  id: "alerts",
  title: "alerts.title",
  roles: null,
  mount(root, context) {
    const page = new AlertsPage(root, context);
    return () => page.stop();
  },
};
