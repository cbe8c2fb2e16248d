// The newest update of every SKU and channel, and how often each SKU changes.

// Heat halves in this time.
const HALF_LIFE_MS = 15000;
// The extra heat of a SKU that some channel cannot sell from the shelf, which keeps it in view.
const ATTENTION = 12;

export class Shelf {
  constructor() {
    this.items = new Map();
    this.updates = 0;
  }

  // Stores an update; returns the previous one, or null if this is not a live change.
  take(update, live, now) {
    let item = this.items.get(update.sku);
    if (!item) {
      item = { sku: update.sku, cells: new Map(), heat: 0, at: now, changed: new Map() };
      this.items.set(update.sku, item);
    }
    const before = item.cells.get(update.channel);
    if (before && live && before.version > update.version) return null;
    item.cells.set(update.channel, update);
    if (!live || !before) return null;
    this.updates += 1;
    item.heat = this.heat(item, now) + 1;
    item.at = now;
    item.changed.set(update.channel, now);
    return before;
  }

  heat(item, now) {
    return item.heat * 0.5 ** ((now - item.at) / HALF_LIFE_MS);
  }

  // Removes the cells of channels without a subscription.
  keep(channels) {
    for (const [sku, item] of this.items) {
      for (const channel of item.cells.keys()) {
        if (!channels.includes(channel)) item.cells.delete(channel);
      }
      if (!item.cells.size) this.items.delete(sku);
    }
  }

  // The hottest SKUs whose name contains `text`, and the number of all such SKUs.
  hottest(text, count, now) {
    const wanted = text.trim().toLowerCase();
    const found = [];
    for (const item of this.items.values()) {
      if (wanted && !item.sku.toLowerCase().includes(wanted)) continue;
      found.push([this.heat(item, now) + (this.scarce(item) ? ATTENTION : 0), item]);
    }
    found.sort((a, b) => b[0] - a[0] || (a[1].sku < b[1].sku ? -1 : 1));
    return { items: found.slice(0, count).map(([, item]) => item), of: found.length };
  }

  scarce(item) {
    for (const cell of item.cells.values()) if (cell.mode !== "in_stock") return true;
    return false;
  }

  // The number of SKUs by mode, in at least one channel.
  totals() {
    const totals = { skus: this.items.size, preorder: 0, sold_out: 0, suspended: 0 };
    for (const item of this.items.values()) {
      const modes = new Set([...item.cells.values()].map((cell) => cell.mode));
      for (const mode of ["preorder", "sold_out", "suspended"]) if (modes.has(mode)) totals[mode] += 1;
    }
    return totals;
  }
}
