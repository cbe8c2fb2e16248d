// Small pieces of the page. Names come from outside: they go in as text, never as markup.

export const MODES = { in_stock: "in stock", preorder: "preorder", sold_out: "sold out", suspended: "suspended" };

export function element(tag, { text, ...attributes } = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== undefined) made.textContent = text;
  made.append(...children);
  return made;
}

export function number(value) {
  return Number(value).toLocaleString("en");
}

// What a channel may sell now: the number that matters in its mode, and the mode as a word.
export function cell(update) {
  if (!update) return element("div", { class: "cell mode-none", text: "–" });
  const mode = MODES[update.mode] ? update.mode : "none";
  const made = element("div", { class: `cell mode-${mode}` });
  if (update.mode === "in_stock") made.append(element("b", { text: number(update.quantity) }));
  if (update.mode === "preorder") made.append(element("b", { text: number(update.preorder_remaining) }));
  made.append(element("span", { text: MODES[update.mode] ?? update.mode }));
  return made;
}

export function badge(mode) {
  return element("span", { class: `badge mode-${MODES[mode] ? mode : "none"}`, text: MODES[mode] ?? mode });
}
