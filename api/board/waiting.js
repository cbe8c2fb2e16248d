// Of one SKU: the orders that wait for it, the announced receipts, and the pools.

import { element, moment, nameOf, phrase } from "./elements.js";

// Orders of the queue that are shown.
const QUEUE_SHOWN = 20;

/** The queue, the announcements and the pools of a SKU. */
export async function readWaiting(client, sku, signal) {
  const [queue, expected, pools] = await Promise.all([
    client.request("GET", "/v1/preorders", { query: { sku, limit: QUEUE_SHOWN }, signal }),
    client.request("GET", "/v1/expected", { query: { sku }, signal }),
    client.request("GET", "/v1/pools", { query: { sku }, signal }),
  ]);
  return { queue, expected, pools };
}

function entry(main, value, asides) {
  const rest = asides.length ? [element("p", { class: "aside" }, ...asides)] : [];
  return element("li", {}, element("div", { class: "entry" }, main, value), ...rest);
}

/** Parts of a line, with commas between. */
function joined(parts) {
  return parts.flatMap((part, index) => (index ? [", ", ...part] : part));
}

function listOf(tag, items, nothing, note) {
  if (!items.length) return [element("p", { class: "aside", text: nothing })];
  return [element(tag, { class: "waiting" }, ...items), note ? element("p", { class: "aside", text: note }) : ""];
}

export function orderLink(id) {
  return element("a", { href: `#/orders/${encodeURIComponent(id)}` }, nameOf(id));
}

/** What a line waits for: `3 short`, `2 preordered`. */
export function waitingUnits({ words, format }, line) {
  const units = [];
  if (line.short) units.push(element("b", { class: "short", text: words("sku.short_units", { count: format.number(line.short) }) }));
  if (line.preordered) units.push(element("b", { text: words("sku.preordered_units", { count: format.number(line.preordered) }) }));
  return units;
}

/** The promised day of a line, and how often it was moved. */
export function promise(context, line) {
  const { words, format } = context;
  const parts = [];
  if (line.promised_at) parts.push(phrase(words, "sku.promised", { day: moment(context, line.promised_at, "day") }));
  if (line.slips && line.first_promised_at) {
    const day = moment(context, line.first_promised_at, "day");
    parts.push(phrase(words, "sku.moved", { count: format.number(line.slips), day }));
  }
  return parts;
}

export function queueList(context, queue) {
  const { words, format } = context;
  const items = queue.items.map((line) => {
    const value = element("span", { class: "value" }, ...waitingUnits(context, line));
    const asides = [phrase(words, "sku.on_channel", { channel: nameOf(line.channel) }), ...promise(context, line)];
    if (line.priority === "vip") asides.unshift([words("sku.vip")]);
    return entry(orderLink(line.order_id), value, joined(asides));
  });
  const more = words("sku.queue_more", { count: format.number(queue.items.length) });
  return listOf("ol", items, words("sku.nobody_waits"), queue.next ? more : "");
}

export function expectedList(context, sku, expected) {
  const { words, format } = context;
  const items = [];
  for (const announcement of expected.items) {
    const line = announcement.lines.find((each) => each.sku === sku);
    if (!line?.incoming) continue;
    const units = words("sku.of_units", { count: format.number(line.incoming), all: format.number(line.quantity) });
    const where = { warehouse: nameOf(announcement.warehouse), day: moment(context, announcement.eta, "day") };
    const asides = phrase(words, "sku.to_warehouse", where);
    if (announcement.overdue) asides.push(" ", element("span", { class: "badge mode-sold_out", text: words("sku.overdue") }));
    items.push(entry(nameOf(announcement.id), element("b", { class: "value", text: units }), asides));
  }
  return listOf("ul", items, words("sku.nothing_expected"), expected.next ? words("sku.more") : "");
}

export function poolList(context, pools) {
  const { words, format } = context;
  const items = pools.items.map((pool) => {
    const asides = [phrase(words, "sku.at_warehouse", { warehouse: nameOf(pool.warehouse) })];
    if (pool.from) asides.push(phrase(words, "sku.from_day", { day: moment(context, pool.from, "day") }));
    if (pool.until) asides.push(phrase(words, "sku.until_day", { day: moment(context, pool.until, "day") }));
    return entry(nameOf(pool.purpose), element("b", { class: "value", text: format.number(pool.quantity) }), joined(asides));
  });
  return listOf("ul", items, words("sku.no_pool"), pools.next ? words("sku.more") : "");
}
