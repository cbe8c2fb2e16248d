// The fields of a policy: how each is written, read and shown, and how two policies differ.

import { choice, element } from "./elements.js";

/** `kind` says how it is written; `channel`: only a channel's own level has it; `all`: only the level of all channels. */
export const FIELDS = [
  { name: "share", kind: "share" },
  { name: "buffer", kind: "units" },
  { name: "max_listed", kind: "units" },
  { name: "safety_threshold", kind: "units" },
  { name: "resume_threshold", kind: "units" },
  { name: "below_threshold", kind: "choice", options: ["sell_through", "preorder", "suspend"] },
  { name: "preorder_cap", kind: "units" },
  { name: "preorder_backed", kind: "yes_no" },
  { name: "dwell_seconds", kind: "units" },
  { name: "primary", kind: "yes_no" },
  { name: "split", kind: "yes_no" },
  { name: "warehouses", kind: "names" },
  { name: "publish_interval_ms", kind: "units" },
  { name: "purposes", kind: "names" },
  { name: "pool_only", kind: "yes_no" },
  { name: "reroute", kind: "yes_no" },
  { name: "fill", kind: "choice", options: ["in_part", "complete_first"], all: true },
  { name: "slip_days_max", kind: "units" },
  { name: "held_units_max", kind: "units", channel: true },
  { name: "buyer_units_max", kind: "units", channel: true },
];

/** The fields that a level may have. */
export function fieldsOf(channel, sku) {
  return FIELDS.filter((each) => !(each.channel && sku) && !(each.all && channel !== "*"));
}

/** A value as a reader writes it. */
export function valueText({ words, format }, name, value) {
  if (value === null || value === undefined) return words("policies.unset");
  const about = FIELDS.find((each) => each.name === name);
  if (typeof value === "boolean") return words(value ? "policies.yes" : "policies.no");
  if (Array.isArray(value)) return value.length ? value.join(", ") : words("parts.none");
  if (about?.kind === "choice") return words(`policies.${name}_${value}`);
  if (about?.kind === "share") return format.percent(value);
  return typeof value === "number" ? format.number(value) : String(value);
}

/** The input of a field; `own` is what the level has, undefined where it inherits. */
export function inputOf({ words }, { name, kind, options }, own) {
  if (kind === "yes_no") {
    const values = [["", words("policies.inherited")], ["true", words("policies.yes")], ["false", words("policies.no")]];
    return choice(values, own === undefined ? "" : String(own));
  }
  if (kind === "choice") {
    const values = options.map((each) => [each, words(`policies.${name}_${each}`)]);
    return choice([["", words("policies.inherited")], ...values], own ?? "");
  }
  const value = Array.isArray(own) ? own.join(", ") : own;
  const hint = words("policies.inherited");
  if (kind === "names") return element("input", { type: "text", value, placeholder: hint, autocomplete: "off", spellcheck: "false" });
  const step = kind === "share" ? "any" : "1";
  return element("input", { type: "number", value, step, min: "0", placeholder: hint, class: "narrow" });
}

/** What an input says; undefined where the level inherits. What is no number is sent as text, for the API to say so. */
export function readInput({ kind }, input) {
  // A field that is half a number is empty for a script.
  if (input.validity?.badInput) return "?";
  const text = input.value.trim();
  if (text === "") return undefined;
  if (kind === "yes_no") return text === "true";
  if (kind === "choice") return text;
  if (kind === "names") return text.split(/[\s,，、]+/).filter(Boolean);
  return Number(text);
}

/** The fields in which two policies differ, as a table; null is a level without a policy. */
export function changesOf(context, before, after) {
  const { words } = context;
  const changed = FIELDS.filter(({ name }) => JSON.stringify(before?.[name]) !== JSON.stringify(after?.[name]));
  if (!changed.length) return element("p", { class: "aside", text: words("policies.same") });
  const inherited = (policy, name) => (policy?.[name] === undefined ? words("policies.inherited") : valueText(context, name, policy[name]));
  const rows = changed.map(({ name }) => element("tr", {},
    element("th", { scope: "row", text: words(`policies.f_${name}`) }),
    element("td", { text: inherited(before, name) }),
    element("td", { text: inherited(after, name) })));
  const heads = ["policies.field", "policies.before", "policies.after"].map((key) => element("th", { scope: "col", text: words(key) }));
  return element("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": words("policies.changes") },
    element("table", { class: "differences" }, element("thead", {}, element("tr", {}, ...heads)), element("tbody", {}, ...rows)));
}
