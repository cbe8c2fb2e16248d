// Of one SKU: the orders that wait for it, the announced receipts, and the pools.

import { call } from "./access.js";
import { element, nameOf, number } from "./marks.js";

// Orders of the queue that are shown.
const QUEUE_SHOWN = 20;
const DATE = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric" });
const TIME = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "short" });

// Reads the lists and returns their sections, those without entries left out.
export async function sections(sku) {
  const name = encodeURIComponent(sku);
  const [queue, expected, pools] = await Promise.all([
    page(`/v1/preorders?sku=${name}&limit=${QUEUE_SHOWN}`),
    page(`/v1/expected?sku=${name}`),
    page(`/v1/pools?sku=${name}`),
  ]);
  return [...queueSection(queue), ...expectedSection(sku, expected), ...poolSection(pools)];
}

async function page(path) {
  const answer = await call(path);
  const body = await answer.json();
  if (!answer.ok) throw new Error(body.detail ?? body.title);
  return body;
}

function section(title, list, note) {
  const made = element("section", { class: "waiting" }, element("h3", { text: title }), list);
  if (note) made.append(element("p", { class: "aside", text: note }));
  return made;
}

// A moment; its title has the time of day.
function moment(at) {
  const when = new Date(at);
  return element("time", { datetime: at, title: TIME.format(when), text: DATE.format(when) });
}

function entry(main, value, ...asides) {
  const head = element("div", { class: "entry" }, main, value);
  const rest = asides.length ? [element("p", { class: "aside" }, ...asides)] : [];
  return element("li", {}, head, ...rest);
}

function queueSection(queue) {
  if (!queue.items.length) return [];
  const list = element("ol", {});
  for (const line of queue.items) {
    const kinds = [];
    if (line.short) kinds.push(element("b", { class: "short", text: `${number(line.short)} short` }));
    if (line.preordered) kinds.push(element("b", { text: `${number(line.preordered)} preordered` }));
    const asides = [line.priority === "vip" ? "VIP, " : "", "on ", nameOf(line.channel)];
    if (line.promised_at) asides.push(", promised ", moment(line.promised_at));
    if (line.slips) asides.push(`, moved ${line.slips === 1 ? "once" : `${number(line.slips)} times`}`);
    if (line.slips && line.first_promised_at) asides.push(", first ", moment(line.first_promised_at));
    list.append(entry(nameOf(line.order_id), element("span", { class: "value" }, ...kinds), ...asides));
  }
  return [section("Waiting, next first", list, queue.next ? `The first ${queue.items.length}; others wait behind them.` : "")];
}

function expectedSection(sku, expected) {
  const list = element("ul", {});
  for (const announcement of expected.items) {
    const line = announcement.lines.find((each) => each.sku === sku);
    if (!line?.incoming) continue;
    const value = element("b", { class: "value", text: `${number(line.incoming)} of ${number(line.quantity)}` });
    const asides = ["to ", nameOf(announcement.warehouse), ", due ", moment(announcement.eta)];
    if (announcement.overdue) asides.push(" ", element("span", { class: "badge mode-sold_out", text: "late" }));
    list.append(entry(nameOf(announcement.id), value, ...asides));
  }
  return list.childElementCount ? [section("Announced, to come", list, expected.next ? "There are more." : "")] : [];
}

function poolSection(pools) {
  if (!pools.items.length) return [];
  const list = element("ul", {});
  for (const pool of pools.items) {
    const asides = ["at ", nameOf(pool.warehouse)];
    if (pool.from) asides.push(", from ", moment(pool.from));
    if (pool.until) asides.push(", until ", moment(pool.until));
    list.append(entry(nameOf(pool.purpose), element("b", { class: "value", text: number(pool.quantity) }), ...asides));
  }
  return [section("Set aside", list, pools.next ? "There are more." : "")];
}
