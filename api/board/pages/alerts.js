// Alerts, newest first; with the type `mode_switched` it is the history of modes.

import { choice, element, field, modeBadge, moment, nameOf, skuLink } from "../elements.js";
import { searchForm, SearchedList } from "../searched_list.js";
import { tableOf } from "../tables.js";
import * as texts from "../words/alerts.js";

class AlertsPage extends SearchedList {
  constructor(root, context) {
    const { query } = context.route;
    super(root, context, "/v1/alerts", Object.fromEntries(["type", "sku", "channel"].map((name) => [name, query.get(name) ?? ""])));
    this.readTypes();
  }

  buildFilter() {
    const { words } = this.context;
    const { filter } = this;
    const text = (name) => element("input", { type: "search", value: filter[name], autocomplete: "off", maxlength: "128", spellcheck: "false" });
    const inputs = { sku: text("sku"), channel: text("channel") };
    this.types = choice([["", words("parts.any")], ...(filter.type ? [[filter.type, this.typeText(filter.type)]] : [])], filter.type);
    const changed = () => this.search({ type: this.types.value, sku: inputs.sku.value.trim(), channel: inputs.channel.value.trim() });
    return searchForm(changed,
      field("alerts-type", words("alerts.type"), this.types),
      field("alerts-sku", words("parts.sku"), inputs.sku),
      field("alerts-channel", words("parts.channel"), inputs.channel));
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

  queryOf(filter) {
    return Object.fromEntries(Object.entries(filter).filter(([, value]) => value));
  }

  show({ items, next }) {
    const { words } = this.context;
    if (!items.length) {
      const isFiltered = Object.values(this.filter).some(Boolean);
      if (next !== null) this.part.empty(words("alerts.none_here"), words("alerts.none_here_hint"));
      else this.part.empty(words(isFiltered ? "alerts.none_found" : "alerts.none"), isFiltered ? "" : words("alerts.none_hint"));
      return;
    }
    // The same alerts are not drawn again: a reader may be in the table.
    this.part.draw(items, () => [this.table(items)]);
  }

  table(items) {
    const { words } = this.context;
    const names = ["parts.time", "alerts.type", "alerts.what", "alerts.units", "alerts.detail"];
    const heads = names.map((name) => (name === "alerts.units" ? [words(name)] : words(name)));
    return tableOf("alerts", words("alerts.caption"), heads, items.map((alert) => this.row(alert)));
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
