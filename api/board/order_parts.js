// What lists of orders and one order have in common.

import { element, moment } from "./elements.js";

// The colours of modes, for states that mean the same to an operator.
const COLOURS = {
  reserved: "mode-suspended", paid: "mode-in_stock", committed: "mode-in_stock", shipped: "mode-in_stock", preordered: "mode-preorder",
  awaiting_approval: "mode-preorder", cancelled: "mode-none", expired: "mode-none", returned: "mode-none", rejected: "mode-sold_out",
};

export function orderState({ words }, state) {
  const text = state in COLOURS ? words(`orders.state_${state}`) : state;
  return element("span", { class: `badge ${COLOURS[state] ?? "mode-none"}`, text });
}

export function unitsOf(order) {
  return order.lines.reduce((sum, line) => sum + line.quantity, 0);
}

/** The latest day that was promised for a line, or null. */
export function promisedDay(context, order) {
  const days = order.lines.map((line) => line.promised_at).filter(Boolean).sort();
  return days.length ? moment(context, days.at(-1), "day") : null;
}
