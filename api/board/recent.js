// The list of recent changes: every change of a mode, and changes of quantities.

import { badge, element, nameOf, number } from "./marks.js";

// The length of the list.
const ENTRIES_MAX = 80;
// Changes of one SKU within this time are one entry; a flash sale would flood the list.
const MERGE_MS = 4000;

// `tmall, jd 845 → 844; pinduoduo 307 → 306`: channels with the same change are listed together.
function said(spans) {
  const channels = new Map();
  for (const [channel, { from, to }] of spans) {
    const span = `${number(from)} → ${number(to)}`;
    channels.set(span, [...(channels.get(span) ?? []), channel]);
  }
  return [...channels].map(([span, names]) => `${names.join(", ")} ${span}`).join("; ");
}

export class Recent {
  constructor(list, empty, switchesOnly) {
    this.list = list;
    this.empty = empty;
    this.switchesOnly = switchesOnly;
    this.entries = [];
    this.dirty = false;
    switchesOnly.addEventListener("change", () => { this.dirty = true; this.draw(); });
  }

  add(before, update, now) {
    if (before.mode !== update.mode) {
      this.push({ at: now, kind: "switch", sku: update.sku, channel: update.channel, from: before.mode, update });
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
      this.push({ at: now, kind: "moves", sku: update.sku, spans });
    }
    this.dirty = true;
  }

  push(entry) {
    this.entries.unshift(entry);
    this.entries.length = Math.min(this.entries.length, ENTRIES_MAX);
    this.dirty = true;
  }

  draw() {
    if (!this.dirty) return;
    this.dirty = false;
    const shown = this.entries.filter((entry) => entry.kind === "switch" || !this.switchesOnly.checked);
    this.list.replaceChildren(...shown.map((entry) => this.line(entry)));
    this.empty.hidden = shown.length > 0;
  }

  line(entry) {
    const at = new Date(entry.at);
    const time = element("time", { datetime: at.toISOString(), text: at.toLocaleTimeString("en-GB") });
    const what = element("div", {}, element("strong", {}, nameOf(entry.sku)), " ");
    if (entry.kind === "switch") {
      what.append(`on ${entry.channel}: `, badge(entry.from), " → ", badge(entry.update.mode));
    } else {
      what.append(said(entry.spans));
    }
    return element("li", {}, time, what);
  }
}
