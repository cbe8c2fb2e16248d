// SKUs by channel, page by page, and live: the feeds follow the SKUs on the page only.

import { PAGE_SKUS, readPage, readSkus } from "../catalogue.js";
import { ChannelChooser } from "../channel_chooser.js";
import { choice, element, field, MODES, modeText } from "../elements.js";
import { LiveOffers } from "../live.js";
import { poll } from "../poll.js";
import { Recent } from "../recent.js";
import { searchForm } from "../searched_list.js";
import { Part } from "../states.js";
import { StockTable } from "../stock_table.js";

// The page is read again for what feeds do not say: new SKUs, sums, and whether numbers are stale.
const READ_MS = 5000;
// Available units follow a change this much later; a flash sale would ask for them hundreds of times a second.
const SUMS_MS = 1000;
const DRAW_MS = 200;

class StockPage {
  constructor(root, context) {
    this.context = context;
    const { query } = context.route;
    this.filter = { prefix: query.get("prefix") ?? "", mode: query.get("mode") ?? "", below: query.get("below") ?? "" };
    // The cursors of the pages up to this one.
    this.cursors = [null];
    this.next = null;
    this.changes = 0;
    this.changed = new Set();
    this.turned = true;
    this.table = new StockTable(context);
    this.chooser = new ChannelChooser(context, () => this.showRows());
    this.build(root);
    this.live = new LiveOffers(context, (update, live) => this.take(update, live));
    this.part.loading();
    this.reading = poll((signal) => this.read(signal), READ_MS);
    this.sums = poll((signal) => this.readChanged(signal), SUMS_MS);
    this.drawing = setInterval(() => this.draw(), DRAW_MS);
    this.rate = setInterval(() => this.drawRate(), 1000);
  }

  stop() {
    this.live.stop();
    this.reading.stop();
    this.sums.stop();
    clearInterval(this.drawing);
    clearInterval(this.rate);
  }

  // What stands still.

  build(root) {
    const panel = element("section", { class: "panel" });
    const beside = element("section", { class: "panel recent" });
    this.totals = element("dl", { class: "totals" });
    panel.append(element("div", { class: "panel-head" }, this.buildFilter(), this.chooser.root), this.totals);
    this.part = new Part(this.context, panel);
    this.pager = this.buildPager();
    panel.append(this.pager.root);
    this.recent = new Recent(this.context, beside);
    root.append(element("div", { class: "beside" }, panel, beside));
  }

  buildFilter() {
    const { words } = this.context;
    const { filter } = this;
    const prefix = element("input", { type: "search", value: filter.prefix, autocomplete: "off", maxlength: "128", spellcheck: "false" });
    const modes = MODES.map((mode) => [mode, modeText(this.context, mode)]);
    const mode = choice([["", words("stock.any_mode")], ...modes], filter.mode);
    const below = element("input", { type: "number", value: filter.below, step: "1", class: "narrow" });
    const changed = () => this.search({ prefix: prefix.value.trim(), mode: mode.value, below: below.value });
    return searchForm(changed,
      field("stock-prefix", words("stock.prefix"), prefix),
      field("stock-mode", words("stock.mode"), mode),
      field("stock-below", words("stock.below"), below));
  }

  buildPager() {
    const { words } = this.context;
    const earlier = element("button", { type: "button", text: words("stock.earlier") });
    const later = element("button", { type: "button", text: words("stock.later") });
    const place = element("span", { class: "aside" });
    earlier.addEventListener("click", () => this.turn(this.cursors.slice(0, -1)));
    later.addEventListener("click", () => this.turn([...this.cursors, this.next]));
    return { root: element("div", { class: "pager", hidden: true }, earlier, place, later), earlier, later, place };
  }

  // What is read.

  search(filter) {
    if (JSON.stringify(filter) === JSON.stringify(this.filter)) return;
    this.filter = filter;
    this.context.keep(filter);
    this.turn([null]);
  }

  turn(cursors) {
    this.cursors = cursors;
    this.turned = true;
    this.reading.now();
  }

  get isSelective() {
    return this.filter.mode !== "" || this.filter.below !== "";
  }

  async read(signal) {
    const { client } = this.context;
    const { filter, cursors, turned } = this;
    try {
      const isOther = await this.chooser.read(signal);
      // A filter that leaves few SKUs costs many reads: what it found is followed, and is not searched again.
      if (!turned && this.isSelective && this.part.is("empty")) return;
      const page = turned || !this.isSelective
        ? await readPage(client, filter, cursors.at(-1), signal)
        : { ...(await readSkus(client, this.table.skus, signal)), next: this.next };
      if (filter !== this.filter || cursors !== this.cursors) return;
      this.turned = false;
      this.next = page.next;
      this.show(page, turned, isOther);
    } catch (error) {
      if (!signal.aborted) this.part.failed(error, () => this.reading.now());
    }
  }

  async readChanged(signal) {
    const skus = [...this.changed].slice(0, PAGE_SKUS);
    if (!skus.length) return;
    for (const sku of skus) this.changed.delete(sku);
    try {
      const page = await readSkus(this.context.client, skus, signal);
      for (const stock of page.items) this.table.put(stock);
    } catch {
      // The next read of the page says why.
    }
  }

  take(update, live) {
    const before = this.table.take(update, live);
    if (before === null) return;
    this.changed.add(update.sku);
    if (!live || before === undefined) return;
    this.changes += 1;
    this.recent.add(before, update, Date.now());
  }

  // What is shown.

  show(page, turned, isOther) {
    const skus = page.items.map(({ sku }) => sku);
    if (turned) this.context.say(this.context.words("stock.found", { count: skus.length }));
    this.drawPager();
    if (!isOther && this.part.isFilled && JSON.stringify(skus) === JSON.stringify(this.table.skus)) {
      for (const stock of page.items) this.table.put(stock);
      this.part.show(null, page);
      return;
    }
    this.table.replace(page.items);
    if (skus.length) this.part.show([this.table.root], page);
    else this.showEmpty();
    this.showRows();
  }

  showEmpty() {
    const { filter } = this;
    const { words } = this.context;
    if (this.next !== null) this.part.empty(words("stock.none_so_far"), words("stock.partial"));
    else if (filter.prefix || this.isSelective) this.part.empty(words("stock.none_found"));
    else this.part.empty(words("stock.none"), words(this.chooser.known.length ? "stock.none_hint" : "stock.no_channel"));
  }

  showRows() {
    this.table.columns(this.chooser.shown);
    this.live.follow(this.chooser.shown, this.table.skus);
    this.draw();
  }

  draw() {
    if (this.table.draw()) this.drawTotals();
    this.recent.draw();
  }

  drawTotals() {
    // Before anything was read there is nothing to count.
    if (!this.part.isFilled && !this.part.is("empty")) {
      this.totals.replaceChildren();
      return;
    }
    const { words, format } = this.context;
    const counts = this.table.counts();
    const line = (name, value, kind) => element("div", { class: kind }, element("dt", { text: name }), element("dd", { text: value }));
    this.rateShown = element("dd", { text: format.number(this.changes) });
    this.totals.replaceChildren(
      line(words("stock.page_skus"), format.number(counts.skus)),
      ...MODES.map((mode) => line(modeText(this.context, mode), format.number(counts[mode]), `of-${mode}`)),
      element("div", {}, element("dt", { text: words("stock.updates") }), this.rateShown),
    );
  }

  drawRate() {
    if (this.rateShown) this.rateShown.textContent = this.context.format.number(this.changes);
    this.changes = 0;
  }

  drawPager() {
    const { pager } = this;
    const page = this.context.format.number(this.cursors.length);
    pager.earlier.disabled = this.cursors.length === 1;
    pager.later.disabled = this.next === null;
    pager.place.textContent = this.context.words("stock.place", { page });
    pager.root.hidden = this.cursors.length === 1 && this.next === null;
  }
}

export default {
  id: "stock",
  title: "stock.title",
  roles: null,
  mount(root, context) {
    const page = new StockPage(root, context);
    return () => page.stop();
  },
};
