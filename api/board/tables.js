// Tables of the pages. Where there is no room for the columns, each row is a block whose cells name their columns.

import { element, scrolling } from "./elements.js";

/** A table in a region of that label. `heads`: each a text, or [text] of numbers. Roles are explicit: a block has none. */
export function tableOf(kind, label, heads, rows, role) {
  const table = element("table", { class: `foldable ${kind}`, role: "table" },
    element("caption", { class: "visually-hidden", text: label }),
    element("thead", { role: "rowgroup" }, element("tr", { role: "row" }, ...headsOf(heads))),
    element("tbody", { role: "rowgroup" }, ...rows.map((row) => named(row, heads))));
  return scrolling(label, table, role);
}

export function headsOf(heads) {
  return heads.map((head) => element("th", { scope: "col", role: "columnheader", class: Array.isArray(head) ? "number" : null, text: String(head) }));
}

/** A row whose cells know the names of their columns. */
export function named(row, heads) {
  row.setAttribute("role", "row");
  [...row.cells].forEach((cell, index) => {
    cell.setAttribute("role", cell.tagName === "TH" ? "rowheader" : "cell");
    cell.dataset.column = heads[index];
  });
  return row;
}
