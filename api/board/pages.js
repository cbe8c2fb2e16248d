// The pages, in the order of the navigation.

import alerts from "./pages/alerts.js";
import approvals from "./pages/approvals.js";
import deadLetters from "./pages/dead_letters.js";
import health from "./pages/health.js";
import orders from "./pages/orders.js";
import policies from "./pages/policies.js";
import queue from "./pages/queue.js";
import reports from "./pages/reports.js";
import sku from "./pages/sku.js";
import stock from "./pages/stock.js";

/** Groups of the navigation. A page that is reached from another one only has `under`, the id of that one. */
export const GROUPS = [
  { title: "shell.group_stock", pages: [stock, sku, orders, queue] },
  { title: "shell.group_rules", pages: [policies, approvals] },
  { title: "shell.group_operation", pages: [health, alerts, deadLetters, reports] },
];
export const PAGES = new Map(GROUPS.flatMap((group) => group.pages).map((page) => [page.id, page]));
export const FIRST = stock;
