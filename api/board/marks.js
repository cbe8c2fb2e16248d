// Elements of the page. Names are untrusted and are inserted as text, never as markup.

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

// A cell has room for six digits in smaller type; larger numbers are abbreviated, and the detail shows them in full.
const CELL_NUMBER_MAX = 999_999;
const CELL_NUMBER_LARGE = 99_999;
const SHORT = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 2 });

function cellNumber(value) {
  const size = Math.abs(value);
  if (size <= CELL_NUMBER_LARGE) return element("b", { text: number(value) });
  if (size <= CELL_NUMBER_MAX) return element("b", { class: "long", text: number(value) });
  return element("b", { text: SHORT.format(value), title: number(value) });
}

// A long word is shortened in the middle, because its end distinguishes it.
const WORD_END = 8;
const WORD_LONG = 16;

// A name wraps only between its words; a word that is too long is shortened, not broken.
export function nameOf(text) {
  const made = element("span", { class: "name", title: text });
  for (const word of text.match(/[^-_.:/]*[-_.:/]*/g).filter(Boolean)) {
    const end = word.length > WORD_LONG ? word.length - WORD_END : word.length;
    const part = element("span", { class: "word" }, element("span", { text: word.slice(0, end) }));
    if (end < word.length) part.append(element("span", { text: word.slice(end) }));
    made.append(part);
  }
  return made;
}

// The stock of a channel: the number of its mode, and the mode as a word.
export function cell(update) {
  if (!update) return element("div", { class: "cell mode-none", text: "–" });
  const mode = MODES[update.mode] ? update.mode : "none";
  const made = element("div", { class: `cell mode-${mode}` });
  if (update.mode === "in_stock") made.append(cellNumber(update.quantity));
  if (update.mode === "preorder") made.append(cellNumber(update.preorder_remaining));
  made.append(element("span", { text: MODES[update.mode] ?? update.mode }));
  return made;
}

export function badge(mode) {
  return element("span", { class: `badge mode-${MODES[mode] ? mode : "none"}`, text: MODES[mode] ?? mode });
}
