// One order: its lines with their units and dates, and what an operator may do to it.

import { ask } from "./dialog.js";
import { element, moment, nameOf, skuLink } from "./elements.js";
import { redraw } from "./focus.js";
import { meaningOf } from "./meanings.js";
import { orderState, unitsOf } from "./order_parts.js";
import { poll } from "./poll.js";
import { askToAct } from "./queue_actions.js";
import { Part } from "./states.js";
import { tableOf } from "./tables.js";
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
    this.part.draw(order, () => [this.facts(order), this.lines(order)], order);
    if (order.state !== this.state) this.drawActions(order);
    this.state = order.state;
  }

  facts(order) {
    const { words, format } = this.context;
    const facts = element("dl", { class: "facts" });
    const fact = (name, ...value) => facts.append(element("div", {}, element("dt", { text: words(`orders.${name}`) }), element("dd", {}, ...value)));
    fact("state", orderState(this.context, order.state));
    fact("channel", nameOf(order.channel));
    fact("units", format.number(unitsOf(order)));
    fact("placed", moment(this.context, order.placed_at));
    if (order.expires_at) fact("expires", moment(this.context, order.expires_at), " (", moment(this.context, order.expires_at, "ago"), ")");
    if (order.buyer) fact("buyer", nameOf(order.buyer));
    const choice = order.choice_due ? [element("p", { class: "banner", text: words("orders.choice_due") })] : [];
    return element("div", {}, ...choice, facts);
  }

  lines(order) {
    const { words, format } = this.context;
    const numbers = ["units", "reserved", "preordered", "short", "shipped", "returned"];
    const text = (name) => words(`orders.${name}`);
    const heads = [words("parts.sku"), text("state"), ...numbers.map((name) => [text(name)]), ...["promised", "warehouses", "reason"].map(text)];
    const rows = order.lines.map((line) => {
      const units = { ...line, units: line.quantity };
      const dates = promise(this.context, line).map((parts) => element("div", {}, ...parts));
      const places = Object.entries(line.warehouses).map(([warehouse, count]) => element("div", {}, nameOf(warehouse), ` ${format.number(count)}`));
      const held = line.held_back ? this.heldBack(line) : [];
      return element("tr", {},
        element("th", { scope: "row" }, skuLink(line.sku)),
        element("td", {}, orderState(this.context, line.state), ...held),
        ...numbers.map((name) => {
          const kind = name === "short" && units[name] ? "number negative" : "number";
          return element("td", { class: kind, text: units[name] ? format.number(units[name]) : "–" });
        }),
        element("td", {}, ...dates),
        element("td", {}, ...places),
        element("td", { class: line.reason ? "wrap" : null }, line.reason ? meaningOf(this.context, line.reason) : ""));
    });
    return tableOf("order-lines", words("orders.lines"), heads, rows);
  }

  heldBack(line) {
    const { words, role } = this.context;
    const badge = element("span", { class: "badge mode-preorder", text: words("orders.held_back") });
    if (role !== "operator") return [" ", badge];
    const release = async () => {
      if (await askToAct(this.context, "release", this.id, { sku: line.sku, held: false })) this.reading.now();
    };
    const name = `${words("queue.release")}: ${line.sku}`;
    return [" ", badge, " ", element("button", { type: "button", text: words("queue.release"), "aria-label": name, on: { click: release } })];
  }

  drawActions(order) {
    const { words, role, client } = this.context;
    const button = (name, send, kind) =>
      element("button", { type: "button", class: kind, text: words(`orders.${name}`), on: { click: () => this.act(name, send) } });
    const buttons = [];
    if (order.state === "reserved") buttons.push(button("pay", () => client.orders.pay(this.id)));
    if (OPEN.includes(order.state)) buttons.push(button("cancel", () => client.orders.cancel(this.id), "danger"));
    redraw(this.actions, ...(role === "operator" ? buttons : []));
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
