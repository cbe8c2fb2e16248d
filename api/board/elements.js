// Elements of the page. Names are untrusted and are inserted as text, never as markup.

export function element(tag, { text, on, ...attributes } = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== null && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  if (text !== undefined) made.textContent = text;
  for (const [event, listener] of Object.entries(on ?? {})) made.addEventListener(event, listener);
  made.append(...children);
  return made;
}

/** A name wraps between its words; a word that is longer than its place is broken, so that all of it is seen. */
export function nameOf(text) {
  const words = text.match(/[^-_.:/]*[-_.:/]*/g).filter(Boolean);
  return element("span", { class: "name" }, ...words.flatMap((word, index) => (index ? [element("wbr"), word] : [word])));
}

/** A moment; its title has the time of day. What is said from now, `as` "ago", is kept true by `renewMoments`. */
export function moment(context, at, as = "dateTime") {
  const { format } = context;
  return element("time", { datetime: at, title: format.dateTime(at), text: format[as](at), class: as === "ago" ? "from-now" : null });
}

/** Minutes pass, and nothing else may change. */
export function renewMoments({ format }) {
  for (const each of document.querySelectorAll("time.from-now")) {
    const text = format.ago(each.dateTime);
    if (each.textContent !== text) each.textContent = text;
  }
}

/** A link to the page of a SKU. */
export function skuLink(sku) {
  return element("a", { href: `#/sku/${encodeURIComponent(sku)}` }, nameOf(sku));
}

/** A table that scrolls sideways where it does not fit; what scrolls has to be reached by keyboard. */
export function scrolling(label, table, role = "region") {
  return element("div", { class: "scroll", tabindex: "0", role, "aria-label": label }, table);
}

/** A field of a form with its label. */
export function field(id, label, input) {
  input.id = id;
  return element("div", { class: "field" }, element("label", { for: id, text: label }), input);
}

/** A choice of values, as [value, text]. */
export function choice(options, chosen) {
  const made = element("select");
  for (const [value, text] of options) made.append(new Option(text, value, value === chosen, value === chosen));
  return made;
}

// A cell has room for five digits; larger numbers are abbreviated, and its title shows them in full.
const CELL_NUMBER_MAX = 99_999;

function cellNumber({ format }, value) {
  if (Math.abs(value) <= CELL_NUMBER_MAX) return element("b", { text: format.number(value) });
  return element("b", { text: format.compact(value), title: format.number(value) });
}

export const MODES = ["in_stock", "preorder", "sold_out", "suspended"];

/** What a channel may sell: the number of its mode, and the mode as a word, never as a colour alone. */
export function offerCell(context, offer) {
  if (!offer) return element("div", { class: "cell mode-none", text: "–" });
  const made = element("div", { class: `cell mode-${MODES.includes(offer.mode) ? offer.mode : "none"}` });
  if (offer.mode === "in_stock") made.append(cellNumber(context, offer.quantity));
  if (offer.mode === "preorder") made.append(cellNumber(context, offer.preorder_remaining));
  made.append(element("span", { text: modeText(context, offer.mode) }));
  return made;
}

export function modeText({ words }, mode) {
  return MODES.includes(mode) ? words(`shell.mode_${mode}`) : mode;
}

export function modeBadge(context, mode) {
  const kind = MODES.includes(mode) ? mode : "none";
  return element("span", { class: `badge mode-${kind}`, text: modeText(context, mode) });
}

/** A text with elements in its braces: `phrase(words, "sku.promised", { day: moment(…) })`. */
export function phrase(words, key, values) {
  return words(key).split(/\{(\w+)\}/).map((part, index) => (index % 2 ? values[part] ?? "" : part));
}
