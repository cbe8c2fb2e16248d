// One order: its lines with their units and dates, and what an operator may do to it.

import { ask } from "./dialog.js";
import { element, moment, nameOf, skuLink } from "./elements.js";
import { orderState, unitsOf } from "./order_parts.js";
import { poll } from "./poll.js";
import { Part } from "./states.js";
import { promise } from "./waiting.js";

const READ_MS = 3000;
// States in which the order still holds units that a cancellation frees.
const OPEN = ["reserved", "paid"];

export class OrderDetail {
  constructor(root, context, id) {
    this.context = context;
    this.id = id;
    context.title(id);
    const { words } = context;
    this.actions = element("div", { class: "form" });
    context.tools.append(this.actions, element("a", { href: "#/orders", text: words("orders.back") }));
    const panel = element("section", { class: "panel" });
    this.part = new Part(context, panel);
    root.append(panel);
    this.part.loading();
    this.reading = poll((signal) => this.read(signal), READ_MS);
  }

  stop() {
    this.reading.stop();
  }

  async read(signal) {
    try {
      this.show(await this.context.client.request("GET", "/v1/orders/{order_id}", { path: { order_id: this.id }, signal }));
    } catch (error) {
      if (signal.aborted) return;
      if (error.status === 404) this.part.empty(this.context.words("orders.unknown"));
      else this.part.failed(error, () => this.reading.now());
    }
  }

  show(order) {
    const drawn = JSON.stringify(order);
    this.part.show(drawn === this.drawn ? null : [this.facts(order), this.lines(order)], order);
    if (drawn !== this.drawn) this.drawActions(order);
    this.drawn = drawn;
  }

  facts(order) {
    const { words, format } = this.context;
    const facts = element("dl", { class: "facts" });
    const fact = (name, ...value) => facts.append(element("div", {}, element("dt", { text: words(`orders.${name}`) }), element("dd", {}, ...value)));
    fact("state", orderState(this.context, order.state));
    fact("channel", nameOf(order.channel));
    fact("units", format.number(unitsOf(order)));
    fact("placed", moment(this.context, order.placed_at));
    if (order.expires_at) fact("expires", moment(this.context, order.expires_at), ` (${format.ago(order.expires_at)})`);
    if (order.buyer) fact("buyer", nameOf(order.buyer));
    const choice = order.choice_due ? [element("p", { class: "banner", text: words("orders.choice_due") })] : [];
    return element("div", {}, ...choice, facts);
  }

  lines(order) {
    const { words, format } = this.context;
    const numbers = ["units", "reserved", "preordered", "short", "shipped", "returned"];
    const heads = ["sku", "state", ...numbers, "promised", "warehouses", "reason"].map((name) =>
      element("th", { scope: "col", class: numbers.includes(name) ? "number" : null, text: name === "sku" ? "SKU" : words(`orders.${name}`) }));
    const rows = order.lines.map((line) => {
      const units = { ...line, units: line.quantity };
      const dates = promise(this.context, line).map((parts) => element("div", {}, ...parts));
      const places = Object.entries(line.warehouses).map(([warehouse, count]) => element("div", {}, nameOf(warehouse), ` ${format.number(count)}`));
      const held = line.held_back ? [" ", element("span", { class: "badge mode-preorder", text: words("orders.held_back") })] : [];
      return element("tr", {},
        element("th", { scope: "row" }, skuLink(line.sku)),
        element("td", {}, orderState(this.context, line.state), ...held),
        ...numbers.map((name) => element("td", { class: name === "short" && units[name] ? "number negative" : "number", text: units[name] ? format.number(units[name]) : "–" })),
        element("td", {}, ...dates),
        element("td", {}, ...places),
        element("td", {}, line.reason ?? ""));
    });
    const caption = element("caption", { class: "visually-hidden", text: words("orders.lines") });
    const table = element("table", { class: "lines" }, caption, element("thead", {}, element("tr", {}, ...heads)), element("tbody", {}, ...rows));
    return element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": words("orders.lines") }, table);
  }

  drawActions(order) {
    const { words, role, client } = this.context;
    const buttons = [];
    if (role === "operator" && order.state === "reserved") {
      buttons.push(element("button", { type: "button", text: words("orders.pay"), on: { click: () => this.act("pay", () => client.orders.pay(this.id)) } }));
    }
    if (role === "operator" && OPEN.includes(order.state)) {
      buttons.push(element("button", { type: "button", class: "danger", text: words("orders.cancel"), on: { click: () => this.act("cancel", () => client.orders.cancel(this.id)) } }));
    }
    this.actions.replaceChildren(...buttons);
  }

  async act(name, send) {
    const { words } = this.context;
    const title = words(`orders.${name}_title`, { order: this.id });
    const hint = element("p", { class: "aside", text: words(`orders.${name}_hint`) });
    const done = await ask(this.context, { title, fields: [hint], action: words(`orders.${name}`), danger: name === "cancel" }, async () => {
      const order = await send();
      this.context.say(words("orders.done", { state: words(`orders.state_${order.state}`) }));
      this.show(order);
    });
    if (done) this.reading.now();
  }
}
