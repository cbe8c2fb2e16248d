// Events that could not be taken: why, from where, their bytes; sent again or dropped.

import { ask } from "../dialog.js";
import { choice, element, field, moment, nameOf } from "../elements.js";
import { explained } from "../meanings.js";
import { searchForm, SearchedList } from "../searched_list.js";

const STATES = ["open", "retried", "dropped"];

class DeadLettersPage extends SearchedList {
  constructor(root, context) {
    const { query } = context.route;
    super(root, context, "/v1/dead-letters", { state: query.get("state") ?? "open", reason: query.get("reason") ?? "" });
  }

  buildFilter() {
    const { words } = this.context;
    const states = STATES.map((each) => [each, words(`dead_letters.state_${each}`)]);
    const state = choice([["any", words("parts.any")], ...states], this.filter.state);
    const reason = element("input", { type: "search", value: this.filter.reason, autocomplete: "off", spellcheck: "false", maxlength: "128" });
    const changed = () => this.search({ state: state.value, reason: reason.value.trim() });
    return searchForm(changed,
      field("letters-state", words("parts.state"), state), field("letters-reason", words("dead_letters.code"), reason));
  }

  queryOf({ state, reason }) {
    return { state: state === "any" ? undefined : state, reason: reason || undefined };
  }

  show({ items, left_out: leftOut }) {
    const { words, format } = this.context;
    this.note.hidden = !leftOut;
    this.note.textContent = words("dead_letters.left_out", { count: format.number(leftOut ?? 0) });
    if (!items.length) {
      this.part.empty(words(this.filter.state === "open" && !this.filter.reason ? "dead_letters.none" : "dead_letters.none_found"), words("dead_letters.none_hint"));
      return;
    }
    // What is open in a row stays open while nothing changes.
    this.part.draw(items, () => [element("ul", { class: "requests" }, ...items.map((letter) => this.letter(letter)))]);
  }

  letter(letter) {
    const { words, format } = this.context;
    const origin = letter.origin ?? {};
    const [text, own] = explained(this.context, letter.reason, letter.detail);
    return element("li", {},
      element("h2", {}, element("code", { text: letter.reason }), " ", this.badge(letter)),
      element("p", { text }),
      own ? element("p", { class: "aside", lang: "en", text: own }) : "",
      letter.path ? element("p", {}, `${words("dead_letters.field")}: `, element("code", { text: letter.path })) : "",
      element("p", { class: "aside" }, moment(this.context, letter.at), " · ", words("dead_letters.from"), " ", nameOf(letter.topic),
        ` · ${words("dead_letters.place", { partition: origin.partition ?? "", offset: origin.offset ?? "" })}`,
        ` · ${words("dead_letters.bytes", { count: format.number(letter.bytes) })}`),
      this.raw(letter),
      this.buttons(letter));
  }

  badge(letter) {
    const { words } = this.context;
    const kind = { open: "sold_out", retried: "in_stock", dropped: "suspended" }[letter.state] ?? "none";
    const by = letter.by ? words("dead_letters.done_by", { name: letter.by }) : "";
    return element("span", { class: `badge mode-${kind}`, text: `${words(`dead_letters.state_${letter.state}`)} ${by}`.trim() });
  }

  /** The bytes as text: characters that cannot be seen are written as what they are. */
  raw(letter) {
    const { words } = this.context;
    const isText = letter.raw !== undefined && letter.raw !== null;
    const text = isText ? visible(letter.raw) : letter.raw_base64 ?? "";
    const title = words(isText ? "dead_letters.as_text" : "dead_letters.as_base64");
    const pre = element("pre", { class: "raw", tabindex: "0", text });
    const details = element("details", {}, element("summary", { text: title }), pre);
    if (letter.cut) details.addEventListener("toggle", () => this.readWhole(letter, pre), { once: true });
    return details;
  }

  /** A list has the beginning only. */
  async readWhole({ partition, offset }, pre) {
    const path = { partition: String(partition), offset: String(offset) };
    try {
      const whole = await this.context.client.request("GET", "/v1/dead-letters/{partition}/{offset}", { path });
      pre.textContent = whole.raw === undefined || whole.raw === null ? whole.raw_base64 ?? "" : visible(whole.raw);
      if (whole.cut) pre.append("\n", element("em", { text: this.context.words("dead_letters.cut") }));
    } catch {
      pre.append("\n", element("em", { text: this.context.words("dead_letters.cut") }));
    }
  }

  buttons(letter) {
    if (this.context.role !== "operator" || letter.state !== "open") return "";
    const { words } = this.context;
    const about = `${letter.partition}/${letter.offset}`;
    const button = (verb, kind) => element("button", {
      type: "button", class: kind, text: words(`dead_letters.${verb}`), "aria-label": `${words(`dead_letters.${verb}`)}: ${about}`,
      on: { click: () => this.act(letter, verb) },
    });
    return element("div", { class: "buttons" }, button("retry", "primary"), button("drop", "danger"));
  }

  async act(letter, verb) {
    const { words, client } = this.context;
    const title = words(`dead_letters.${verb}_title`, { reason: letter.reason });
    const fields = [element("p", { text: words(`dead_letters.${verb}_help`) })];
    const path = { partition: String(letter.partition), offset: String(letter.offset) };
    const question = { title, fields, action: words(`dead_letters.${verb}`), danger: verb === "drop" };
    const sent = await ask(this.context, question, () => client.request("POST", `/v1/dead-letters/{partition}/{offset}/${verb}`, { path }));
    if (sent) this.context.say(words(`dead_letters.done_${verb}`));
    this.reading.now();
  }
}

/** Controls, and marks that turn the direction of what follows, as escapes. */
function visible(text) {
  return text.replace(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

export default {
  id: "dead-letters",
  title: "dead_letters.title",
  roles: null,
  mount(root, context) {
    const page = new DeadLettersPage(root, context);
    return () => page.stop();
  },
};
