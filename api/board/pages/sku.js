// One SKU: why so many of it are available, over time and by cause, and who waits for it.

import { element } from "../elements.js";
import { HistoryChart } from "../history_chart.js";
import { CHANNELS_MAX, LiveOffers } from "../live.js";
import { poll } from "../poll.js";
import { changesTable, SkuChanges } from "../sku_history.js";
import { availableSum, channelsTable, warehousesTable } from "../sku_parts.js";
import { Part } from "../states.js";
import { expectedList, poolList, queueList, readWaiting } from "../waiting.js";

// The queue changes without a change of the SKU.
const READ_MS = 3000;
// A change of a feed is followed by a read, at most so often.
const REFRESH_MS = 1200;

class SkuPage {
  constructor(root, context, sku) {
    this.context = context;
    this.sku = sku;
    this.changes = new SkuChanges(context, sku);
    this.chart = new HistoryChart(context, sku);
    this.build(root);
    this.live = new LiveOffers(context, (_, live) => { if (live) this.touched(); });
    this.reading = poll((signal) => this.read(signal), READ_MS);
    this.followed = null;
  }

  stop() {
    this.live.stop();
    this.reading.stop();
    this.chart.stop();
    clearTimeout(this.refreshing);
  }

  build(root) {
    const { words } = this.context;
    const titled = (name, kind = "") => {
      const body = element("div", { class: "panel-body" });
      const head = element("div", { class: "panel-head" }, element("h2", { text: words(`sku.${name}`) }));
      const panel = element("section", { class: `panel ${kind}` }, head, body);
      return [panel, new Part(this.context, body)];
    };
    const [history, historyPart] = titled("history", "history");
    const parts = ["sum", "channels", "warehouses", "queue", "expected", "pools"].map((name) => [name, ...titled(name)]);
    this.parts = Object.fromEntries(parts.map(([name, , part]) => [name, part]));
    this.history = historyPart;
    this.earlier = element("button", { type: "button", text: words("sku.earlier"), on: { click: () => this.readEarlier() } });
    const [table, tablePart] = titled("changes", "changes-panel");
    this.table = tablePart;
    table.append(element("div", { class: "pager", hidden: true }, this.earlier));
    const queue = parts.find(([name]) => name === "queue")[1];
    const all = element("a", { href: `#/queue?sku=${encodeURIComponent(this.sku)}`, text: words("sku.queue_all") });
    queue.firstElementChild.append(all);
    const panels = element("div", { class: "panels" }, ...parts.map(([, panel]) => panel));
    this.panels = element("div", {}, history, panels, table);
    const place = element("div");
    root.append(place);
    // One note for all, where the SKU itself cannot be read.
    this.whole = new Part(this.context, place);
    for (const part of [this.whole, this.history, this.table, ...Object.values(this.parts)]) part.loading();
  }

  async read(signal) {
    const { client, words } = this.context;
    try {
      const stock = await client.request("GET", "/v1/stock/{sku}", { path: { sku: this.sku }, signal });
      this.showStock(stock);
      this.follow(Object.keys(stock.channels));
    } catch (error) {
      if (error.status === 404) this.whole.empty(words("sku.unknown"));
      else this.failed([this.whole], error, signal);
      return;
    }
    await Promise.all([this.readWaiting(signal), this.readHistory(signal)]);
  }

  async readWaiting(signal) {
    const { queue, expected, pools } = this.parts;
    try {
      const found = await readWaiting(this.context.client, this.sku, signal);
      queue.draw(found.queue, () => queueList(this.context, found.queue));
      expected.draw(found.expected, () => expectedList(this.context, this.sku, found.expected));
      pools.draw(found.pools, () => poolList(this.context, found.pools));
    } catch (error) {
      this.failed([queue, expected, pools], error, signal);
    }
  }

  async readHistory(signal) {
    // Nothing has changed: the journal need not be searched.
    if (this.stock.version === this.changes.items.at(-1)?.version) {
      this.history.show(null);
      this.table.show(null);
      return;
    }
    try {
      await this.changes.readNewest(signal);
      this.showHistory();
    } catch (error) {
      this.failed([this.history, this.table], error, signal);
    }
  }

  async readEarlier() {
    // A button that is disabled would lose the focus.
    if (this.isReadingEarlier) return;
    this.isReadingEarlier = true;
    try {
      await this.changes.readEarlier();
      this.showHistory();
    } catch (error) {
      this.failed([this.table], error);
    }
    this.isReadingEarlier = false;
  }

  failed(parts, error, signal) {
    if (signal?.aborted) return;
    for (const part of parts) part.failed(error, () => this.reading.now());
  }

  touched() {
    this.refreshing ??= setTimeout(() => {
      this.refreshing = undefined;
      this.reading.now();
    }, REFRESH_MS);
  }

  follow(channels) {
    const names = JSON.stringify(channels);
    if (names === this.followed) return;
    this.followed = names;
    this.live.follow(channels.slice(0, CHANNELS_MAX), [this.sku]);
  }

  showStock(stock) {
    const { sum, channels, warehouses } = this.parts;
    this.stock = stock;
    this.whole.show(this.whole.isFilled ? null : [this.panels], stock);
    sum.draw(stock, () => availableSum(this.context, stock));
    channels.draw(stock.channels, () => [channelsTable(this.context, stock.channels)]);
    warehouses.draw(stock.warehouses, () => [warehousesTable(this.context, stock.warehouses)]);
  }

  showHistory() {
    const { words } = this.context;
    const { items, hasEarlier, isCut } = this.changes;
    this.earlier.parentElement.hidden = !hasEarlier;
    if (!items.length) {
      this.history.empty(words("sku.no_change"), isCut ? words("sku.searched") : "");
      this.table.empty(words("sku.no_change"));
      return;
    }
    if (!this.history.isFilled) this.history.show([this.chart.root]);
    else this.history.show(null);
    this.chart.show(items);
    const cut = isCut ? [element("p", { class: "aside", text: words("sku.searched") })] : [];
    const scrolled = this.table.body.firstElementChild?.scrollTop ?? 0;
    this.table.show([changesTable(this.context, items), ...cut]);
    this.table.body.firstElementChild.scrollTop = scrolled;
  }
}

export default {
  id: "sku",
  title: "sku.title",
  under: "stock",
  roles: null,
  mount(root, context) {
    context.title(context.route.name);
    const page = new SkuPage(root, context, context.route.name);
    return () => page.stop();
  },
};
