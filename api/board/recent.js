// The list of recent changes: every change of a mode, and changes of quantities.

import { element, modeBadge, nameOf } from "./elements.js";

// The length of the list.
const ENTRIES_MAX = 60;
// Changes of one SKU within this time are one entry; a flash sale would flood the list.
const MERGE_MS = 4000;

export class Recent {
  constructor(context, root) {
    const { words } = context;
    this.context = context;
    this.list = element("ol", { class: "entries", tabindex: "0", "aria-label": words("stock.recent") });
    this.hint = element("p", { class: "note", text: words("stock.recent_empty") });
    this.switchesOnly = element("input", { type: "checkbox", on: { change: () => this.draw(true) } });
    const check = element("label", { class: "check" }, this.switchesOnly, words("stock.switches_only"));
    const head = element("div", { class: "panel-head" }, element("h2", { text: words("stock.recent") }), check);
    root.append(head, this.list, this.hint);
    this.entries = [];
    this.dirty = false;
  }

  add(before, update, now) {
    if (before.mode !== update.mode) {
      this.#push({ at: now, kind: "switch", sku: update.sku, channel: update.channel, from: before.mode, to: update.mode });
      return;
    }
    const name = update.mode === "preorder" ? "preorder_remaining" : "quantity";
    if (before[name] === update[name]) return;
    const last = this.entries.find((entry) => entry.kind === "moves" && entry.sku === update.sku);
    if (last && now - last.at < MERGE_MS) {
      const span = last.spans.get(update.channel) ?? { from: before[name] };
      last.spans.set(update.channel, { ...span, to: update[name] });
    } else {
      const spans = new Map([[update.channel, { from: before[name], to: update[name] }]]);
      this.#push({ at: now, kind: "moves", sku: update.sku, spans });
    }
    this.dirty = true;
  }

  #push(entry) {
    this.entries.unshift(entry);
    this.entries.length = Math.min(this.entries.length, ENTRIES_MAX);
    this.dirty = true;
  }

  draw(anyway = false) {
    if (!this.dirty && !anyway) return;
    this.dirty = false;
    const shown = this.entries.filter((entry) => entry.kind === "switch" || !this.switchesOnly.checked);
    this.list.replaceChildren(...shown.map((entry) => this.#line(entry)));
    this.hint.hidden = shown.length > 0;
  }

  #line(entry) {
    const { words, format } = this.context;
    const time = element("time", { datetime: new Date(entry.at).toISOString(), text: format.time(entry.at) });
    const what = element("div", {}, element("strong", {}, nameOf(entry.sku)), " ");
    if (entry.kind === "switch") {
      const channel = words("stock.at_channel", { channel: entry.channel });
      what.append(`${channel} `, modeBadge(this.context, entry.from), " → ", modeBadge(this.context, entry.to));
    } else {
      what.append(this.#said(entry.spans));
    }
    return element("li", {}, time, what);
  }

  // `tmall, jd 845 → 844; pinduoduo 307 → 306`: channels with the same change are listed together.
  #said(spans) {
    const { format } = this.context;
    const channels = new Map();
    for (const [channel, { from, to }] of spans) {
      if (from === to) continue; // back to where it was
      const span = `${format.number(from)} → ${format.number(to)}`;
      channels.set(span, [...(channels.get(span) ?? []), channel]);
    }
    return [...channels].map(([span, names]) => `${names.join(", ")} ${span}`).join("; ");
  }
}
