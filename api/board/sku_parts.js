// One SKU in numbers, from GET /v1/stock/{sku}: the parts of its available units, by warehouse and by channel.

import { element, moment, nameOf, offerCell, phrase } from "./elements.js";
import { tableOf } from "./tables.js";

/** How the available units come about. */
export function availableSum(context, stock) {
  const { words, format } = context;
  const sum = element("dl", { class: "sum" });
  const line = (name, kind = "") =>
    sum.append(element("div", { class: kind }, element("dt", { text: words(`sku.${name}`) }), element("dd", { text: format.number(stock[name]) })));
  for (const name of ["on_hand", "committed", "locked", "reserved"]) line(name);
  if (stock.short) line("short");
  line("available", stock.available < 0 ? "total below" : "total");
  for (const name of ["preordered", "incoming", "damaged"]) if (stock[name]) line(name);
  const asOf = words("sku.as_of", { time: format.dateTime(stock.as_of), version: format.number(stock.version) });
  return [sum, element("p", { class: "aside", text: asOf })];
}

export function warehousesTable(context, warehouses) {
  const { words, format } = context;
  const names = ["on_hand", "committed", "locked", "available"];
  const rows = Object.entries(warehouses).sort();
  if (!rows.length) return element("p", { class: "aside", text: words("sku.no_warehouse") });
  const heads = [words("sku.warehouse"), ...names.map((name) => [words(`sku.column_${name}`)])];
  const lines = rows.map(([warehouse, counters]) => element("tr", {},
    element("th", { scope: "row" }, nameOf(warehouse)),
    ...names.map((name) => element("td", { class: counters[name] < 0 ? "number negative" : "number", text: format.number(counters[name] ?? 0) }))));
  return tableOf("plain", words("sku.warehouses"), heads, lines);
}

export function channelsTable(context, channels) {
  const { words } = context;
  const rows = Object.entries(channels).sort();
  if (!rows.length) return element("p", { class: "aside", text: words("sku.no_channel") });
  const lines = rows.map(([channel, offer]) => {
    const offered = element("td", {}, offerCell(context, offer));
    if (offer.available_from) {
      const day = moment(context, offer.available_from, "day");
      offered.append(element("div", { class: "aside" }, ...phrase(words, "sku.available_from", { day })));
    }
    return element("tr", {}, element("th", { scope: "row" }, nameOf(channel)), offered);
  });
  return element("table", { class: "plain" },
    element("thead", {}, element("tr", {}, ...["channel", "offer"].map((name) => element("th", { scope: "col", text: words(`sku.${name}`) })))),
    element("tbody", {}, ...lines));
}
