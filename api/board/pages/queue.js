// Who waits for units of a SKU, what is to come and what is set aside; operators hold an order back or serve it first.

import { readPage } from "../catalogue.js";
import { element, field, moment, nameOf, phrase } from "../elements.js";
import { poll } from "../poll.js";
import { askToAct } from "../queue_actions.js";
import { Part } from "../states.js";
import { tableOf } from "../tables.js";
import { expectedList, orderLink, poolList, promise, waitingUnits } from "../waiting.js";

const READ_MS = 4000;
// Orders of one read; the reader asks for more.
const PAGE_ORDERS = 50;

class QueuePage {
  constructor(root, context) {
    this.context = context;
    this.root = root;
    this.sku = context.route.query.get("sku") ?? "";
    this.shown = PAGE_ORDERS;
    context.tools.append(this.buildForm());
    this.build();
  }

  stop() {
    this.reading?.stop();
  }

  buildForm() {
    const { words } = this.context;
    const sku = element("input", { type: "search", value: this.sku, autocomplete: "off", spellcheck: "false", maxlength: "128", required: true });
    const form = element("form", { class: "form", role: "search" },
      field("queue-sku", words("queue.sku"), sku), element("button", { type: "submit", class: "primary", text: words("queue.show") }));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.context.go(`#/queue?sku=${encodeURIComponent(sku.value.trim())}`);
    });
    return form;
  }

  panel(title) {
    const body = element("div", { class: "panel-body" });
    const root = element("section", { class: "panel" }, element("div", { class: "panel-head" }, element("h2", {}, ...title)), body);
    return [root, new Part(this.context, body)];
  }

  build() {
    const { words } = this.context;
    if (!this.sku) {
      const [panel, part] = this.panel([words("queue.choose")]);
      this.root.append(panel);
      part.loading();
      this.readChoice(part);
      return;
    }
    const link = element("a", { href: `#/sku/${encodeURIComponent(this.sku)}` }, nameOf(this.sku));
    const [orders, queue] = this.panel([link, ` · ${words("queue.orders")}`]);
    const [announced, expected] = this.panel([words("queue.announced")]);
    const [aside, pools] = this.panel([words("queue.pools")]);
    this.parts = { queue, expected, pools };
    this.panels = element("div", {}, orders, element("div", { class: "panels" }, announced, aside));
    const place = element("div");
    this.root.append(place);
    // One note for all three.
    this.whole = new Part(this.context, place);
    this.whole.loading();
    this.reading = poll((signal) => this.read(signal), READ_MS);
  }

  /** SKUs that some channel sells before they are there: who waits, waits for one of these most often. */
  async readChoice(part) {
    const { words, client } = this.context;
    try {
      const page = await readPage(client, { mode: "preorder" }, null);
      const links = page.items.map(({ sku }) => element("li", {}, element("a", { href: `#/queue?sku=${encodeURIComponent(sku)}` }, nameOf(sku))));
      const note = page.next === null ? "" : element("p", { class: "aside", text: words("queue.preorder_partial") });
      const hint = element("p", { class: "aside", text: words("queue.choose_hint") });
      if (links.length) part.show([hint, element("ul", { class: "choices" }, ...links), note], page);
      else part.empty(words("queue.no_preorder"), page.next === null ? "" : words("queue.preorder_partial"));
    } catch (error) {
      part.failed(error, () => this.readChoice(part));
    }
  }

  async read(signal) {
    const { client } = this.context;
    const { sku, parts } = this;
    try {
      const [queue, expected, pools] = await Promise.all([
        client.request("GET", "/v1/preorders", { query: { sku, limit: this.shown }, signal }),
        client.request("GET", "/v1/expected", { query: { sku }, signal }),
        client.request("GET", "/v1/pools", { query: { sku }, signal }),
      ]);
      this.whole.show(this.whole.isFilled ? null : [this.panels]);
      this.show(queue);
      parts.expected.draw(expected, () => expectedList(this.context, sku, expected));
      parts.pools.draw(pools, () => poolList(this.context, pools));
    } catch (error) {
      if (signal.aborted) return;
      if (error.status === 404) this.whole.empty(this.context.words("sku.unknown"));
      else this.whole.failed(error, () => this.reading.now());
    }
  }

  show(queue) {
    const { words, role } = this.context;
    if (!queue.items.length) this.parts.queue.empty(words("queue.nobody"));
    else this.parts.queue.draw(queue, () => this.table(queue, role === "operator"));
  }

  table(queue, isOperator) {
    const { words } = this.context;
    const heads = ["order", "waits", "promised", "placed"].map((name) => words(`queue.${name}`));
    heads.unshift([words("queue.place")]);
    if (isOperator) heads.push(words("parts.actions"));
    const rows = queue.items.map((line) => this.row(line, isOperator));
    const more = element("button", { type: "button", text: words("queue.more"), on: { click: () => this.showMore() } });
    return [tableOf("queue", words("queue.orders"), heads, rows), queue.next ? more : ""];
  }

  row(line, isOperator) {
    const { words, format } = this.context;
    const about = [phrase(words, "sku.on_channel", { channel: nameOf(line.channel) })].flat();
    if (line.priority === "vip") about.unshift(element("span", { class: "badge mode-suspended", text: words("sku.vip") }), " ");
    const cells = [
      element("td", { class: "number", text: format.number(line.place) }),
      element("th", { scope: "row" }, orderLink(line.order_id), element("div", { class: "aside" }, ...about)),
      element("td", {}, ...waitingUnits(this.context, line).map((each) => element("div", {}, each))),
      element("td", {}, ...promise(this.context, line).map((parts) => element("div", {}, ...parts))),
      element("td", {}, moment(this.context, line.placed_at)),
    ];
    if (isOperator) cells.push(element("td", {}, element("div", { class: "row-actions" }, ...this.actions(line))));
    return element("tr", {}, ...cells);
  }

  actions(line) {
    const { words } = this.context;
    const button = (name, body) => element("button", {
      type: "button", text: words(`queue.${name}`), "aria-label": `${words(`queue.${name}`)}: ${line.order_id}`,
      on: { click: async () => { if (await askToAct(this.context, name, line.order_id, body)) this.reading.now(); } },
    });
    const units = line.short + line.preordered;
    return [button("assign", { lines: [{ sku: this.sku, quantity: units }] }), button("hold_back", { sku: this.sku, held: true })];
  }

  showMore() {
    // The API's own limit of a page.
    this.shown = Math.min(500, this.shown + PAGE_ORDERS);
    this.reading.now();
  }
}

export default {
  id: "queue",
  title: "queue.title",
  roles: null,
  mount(root, context) {
    const page = new QueuePage(root, context);
    return () => page.stop();
  },
};
