// The pages, in the order of the navigation.

import orders from "./pages/orders.js";
import queue from "./pages/queue.js";
import sku from "./pages/sku.js";
import stock from "./pages/stock.js";

/** Groups of the navigation. A page that is reached from another one only has `under`, the id of that one. */
export const GROUPS = [
  { title: "shell.group_stock", pages: [stock, sku, orders, queue] },
];
export const PAGES = new Map(GROUPS.flatMap((group) => group.pages).map((page) => [page.id, page]));
export const FIRST = stock;
