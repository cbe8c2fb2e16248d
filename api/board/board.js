// The live board: the choice of channels, the table of SKUs by channel, and the state of the connection.

import { call, signIn } from "./access.js";
import { Detail } from "./detail.js";
import { Feeds, FEEDS_MAX } from "./feeds.js";
import { cell, element, nameOf, number } from "./marks.js";
import { Recent } from "./recent.js";
import { Requests } from "./requests.js";
import { Shelf } from "./shelf.js";

// Rows on the page.
const ROWS_MAX = 40;
// The interval of drawing numbers; rows are reordered less often, to stay readable.
const DRAW_MS = 200;
const REORDER_MS = 3000;
const RATE_MS = 1000;
// The interval of reading the list of channels.
const CHANNELS_MS = 3000;

const at = (id) => document.getElementById(id);

at("theme").addEventListener("click", () => {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const theme = (document.documentElement.dataset.theme ?? (dark ? "dark" : "light")) === "dark" ? "light" : "dark";
  document.documentElement.dataset.theme = theme;
  localStorage.setItem("theme", theme);
});
if (localStorage.getItem("theme")) document.documentElement.dataset.theme = localStorage.getItem("theme");

// Nothing is read before.
await signIn();

const shelf = new Shelf();
const recent = new Recent(at("recent"), at("recent-empty"), at("switches-only"));
const detail = new Detail(at("detail"), at("detail-title"), at("detail-body"), at("detail-close"));
new Requests(at("requests"), at("requests-list"), at("requests-more"));
const states = new Map();
const feeds = new Feeds(onUpdate, onState);
const lines = new Map();
let known = [];
let shown = [];
let order = [];
let orderedAt = 0;
let dirty = true;

function onUpdate(update, live) {
  const now = Date.now();
  const before = shelf.take(update, live, now);
  if (before) recent.add(before, update, now);
  detail.touched(update.sku);
  dirty = true;
}

function onState(channel, state) {
  states.set(channel, state);
  const all = shown.map((name) => states.get(name) ?? "waiting");
  const worst = ["down", "waiting"].find((each) => all.includes(each)) ?? "live";
  const live = all.filter((each) => each === "live").length;
  const words = { live: "live", waiting: "connecting", down: "not up to date, reconnecting" };
  at("connection").dataset.state = worst;
  at("connection").textContent = worst === "live" ? words.live : `${words[worst]} (${live} of ${all.length} live)`;
}

// Channels.

async function findChannels() {
  let reached = false;
  try {
    const answer = await call("/v1/channels");
    reached = answer.ok;
    if (reached) known = (await answer.json()).items;
  } catch {
    at("connection").dataset.state = "down";
    at("connection").textContent = "the API does not answer";
  }
  if (!shown.length && known.length) show(remembered().filter((name) => known.includes(name)));
  drawChooser();
  if (!shown.length) {
    if (reached) at("connection").dataset.state = "waiting";
    if (reached) at("connection").textContent = "waiting for the first channel";
    at("empty").hidden = false;
    at("empty").textContent = "There is no channel yet. A channel appears with its first order or policy.";
  }
  setTimeout(findChannels, CHANNELS_MS);
}

function show(channels) {
  shown = (channels.length ? channels : known).slice(0, FEEDS_MAX);
  localStorage.setItem("channels", JSON.stringify(shown));
  shelf.keep(shown);
  at("empty").hidden = true;
  at("heads").replaceChildren(element("th", { scope: "col", text: "SKU" }));
  for (const channel of shown) at("heads").append(element("th", { scope: "col" }, nameOf(channel)));
  at("table").style.setProperty("--channels", shown.length);
  lines.clear();
  at("rows").replaceChildren();
  feeds.follow(shown);
  order = [];
  orderedAt = 0;
  dirty = true;
}

function remembered() {
  try {
    const names = JSON.parse(localStorage.getItem("channels") ?? "[]");
    return Array.isArray(names) ? names : [];
  } catch {
    return [];
  }
}

function drawChooser() {
  const form = at("channels");
  const names = JSON.stringify([known, shown]);
  if (form.dataset.names === names) return;
  form.dataset.names = names;
  form.replaceChildren();
  for (const channel of known) {
    const box = element("input", { type: "checkbox", value: channel });
    box.checked = shown.includes(channel);
    box.disabled = !box.checked && shown.length >= FEEDS_MAX;
    form.append(element("label", {}, box, nameOf(channel)));
  }
  form.append(element("p", { text: `At most ${FEEDS_MAX} at once: a browser opens only six connections to a server.` }));
}

at("channels").addEventListener("change", () => {
  const chosen = [...at("channels").querySelectorAll("input:checked")].map((box) => box.value);
  if (chosen.length) show(chosen);
  drawChooser();
});

// The table.

function draw() {
  const now = Date.now();
  if (now - orderedAt > REORDER_MS || order.length < Math.min(ROWS_MAX, shelf.items.size)) reorder(now);
  if (dirty) {
    dirty = false;
    for (const item of order) drawLine(item, now);
    const totals = shelf.totals();
    at("total-skus").textContent = number(totals.skus);
    at("total-preorder").textContent = number(totals.preorder);
    at("total-sold-out").textContent = number(totals.sold_out);
    at("total-suspended").textContent = number(totals.suspended);
  }
  recent.draw();
}

function reorder(now) {
  orderedAt = now;
  const found = shelf.hottest(at("search").value, ROWS_MAX, now);
  order = found.items;
  const text = at("search").value.trim();
  at("more").textContent = found.of > order.length
    ? `Shown: the ${order.length} SKUs that change most or run short, of ${number(found.of)}. Search for the others by name.`
    : "";
  if (shown.length) {
    at("empty").hidden = found.of > 0;
    at("empty").textContent = text ? `No SKU has "${text}" in its name.` : "There is no SKU yet. A SKU appears with its first movement or order.";
  }
  at("rows").replaceChildren(...order.map((item) => lineOf(item).row));
  dirty = true;
}

function lineOf(item) {
  let line = lines.get(item.sku);
  if (!line) {
    const heat = element("span", { class: "heat" });
    const name = element("button", { type: "button" }, nameOf(item.sku));
    const row = element("tr", {}, element("th", { scope: "row" }, name, heat));
    line = { row, heat, cells: shown.map(() => row.appendChild(element("td"))), drawn: [] };
    row.addEventListener("click", () => detail.open(item.sku));
    lines.set(item.sku, line);
  }
  return line;
}

function drawLine(item, now) {
  const line = lineOf(item);
  line.heat.style.width = `${Math.min(100, shelf.heat(item, now) * 8)}%`;
  line.row.setAttribute("aria-selected", String(item.sku === detail.sku));
  shown.forEach((channel, index) => {
    const update = item.cells.get(channel);
    if (update === line.drawn[index] && update) return;
    const fresh = cell(update);
    if (item.changed.has(channel)) fresh.classList.add("flash");
    line.drawn[index] = update;
    line.cells[index].replaceChildren(fresh);
  });
  item.changed.clear();
}

// The page.

at("search").addEventListener("input", () => reorder(Date.now()));
document.addEventListener("visibilitychange", () => (document.hidden ? feeds.pause() : feeds.resume()));

setInterval(draw, DRAW_MS);
setInterval(() => {
  at("total-rate").textContent = number(shelf.updates);
  shelf.updates = 0;
  dirty = true;
}, RATE_MS);
findChannels();
