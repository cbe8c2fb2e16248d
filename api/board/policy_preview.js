// What a policy would do to the stock as it is.

import { element, MODES, modeText, nameOf, offerCell, skuLink } from "./elements.js";

/** `onMore` reads the next SKUs. */
export function previewOf(context, preview, onMore) {
  const { words, format } = context;
  const parts = [element("p", { class: "note", text: words(preview.changed ? "policies.would_change" : "policies.would_not_change", {
    changed: format.number(preview.changed), examined: format.number(preview.examined),
  }) })];
  parts.push(totals(context, preview));
  if (preview.items.length) parts.push(offers(context, preview));
  if (preview.items.length < preview.changed) {
    parts.push(element("p", { class: "note", text: words("policies.shown_of", { shown: format.number(preview.items.length) }) }));
  }
  if (preview.next !== null) {
    const more = element("button", { type: "button", text: words("policies.examine_more"), on: { click: onMore } });
    parts.push(element("p", { class: "note" }, words("policies.not_complete"), " ", more));
  }
  return parts;
}

/** Offers by mode, and units, before and after. */
function totals(context, { modes, quantity }) {
  const { words, format } = context;
  const row = (name, before, after) => element("tr", {},
    element("th", { scope: "row", text: name }),
    element("td", { class: "number", text: format.number(before) }),
    element("td", { class: "number", text: format.number(after) }),
    element("td", { class: "number", text: format.signed(after - before) }));
  const heads = ["policies.before", "policies.after", "policies.difference"];
  return element("table", { class: "effect" },
    element("caption", { class: "visually-hidden", text: words("policies.effect") }),
    element("thead", {}, element("tr", {}, element("th", { scope: "col", text: words("policies.offers_by_mode") }),
      ...heads.map((key) => element("th", { scope: "col", class: "number", text: words(key) })))),
    element("tbody", {},
      ...MODES.map((mode) => row(modeText(context, mode), modes.before[mode], modes.after[mode])),
      row(words("policies.units_for_sale"), quantity.before, quantity.after)));
}

function offers(context, { items }) {
  const { words } = context;
  const hasChannels = items.some(({ channel }) => channel);
  const rows = items.map(({ sku, channel, before, after }) => element("tr", {},
    element("th", { scope: "row" }, skuLink(sku)),
    ...(hasChannels ? [element("td", {}, nameOf(channel))] : []),
    element("td", {}, offerCell(context, before)),
    element("td", {}, offerCell(context, after))));
  const keys = ["parts.sku", ...(hasChannels ? ["parts.channel"] : []), "policies.before", "policies.after"];
  return element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": words("policies.changed_offers") },
    element("table", { class: "differences" },
      element("caption", { class: "visually-hidden", text: words("policies.changed_offers") }),
      element("thead", {}, element("tr", {}, ...keys.map((key) => element("th", { scope: "col", text: words(key) })))),
      element("tbody", {}, ...rows)));
}
