// The health score by day, and what it is made of.

import { download } from "./download.js";
import { element } from "./elements.js";
import { Part, reasonOf } from "./states.js";
import { tableOf } from "./tables.js";
import * as texts from "./words/reports.js";

const DAYS = 30;
const PATH = "/v1/health/score/days";

export class ScorePanel {
  constructor(context) {
    this.context = context;
    const { words } = context;
    const save = element("button", { type: "button", text: words("reports.save_csv"), on: { click: () => this.#save() } });
    this.error = element("p", { class: "error note", role: "alert" });
    this.root = element("section", { class: "panel", "aria-labelledby": "score-title" },
      element("div", { class: "panel-head" }, element("h2", { id: "score-title", text: words("reports.score") }), save), this.error);
    this.part = new Part(context, this.root);
    this.part.loading();
  }

  async read(signal) {
    const { words, client } = this.context;
    try {
      const page = await client.http.read("GET", PATH, { query: { days: DAYS }, signal });
      if (page.items.length) this.part.draw(page.items, () => [...this.#parts(page.items[0]), ...this.#days(page.items)]);
      else this.part.empty(words("reports.no_score"), words("reports.no_score_hint"));
    } catch (error) {
      if (!signal?.aborted) this.part.failed(error, () => this.read(signal));
    }
  }

  /** The newest day. */
  #parts({ day, over, score, parts }) {
    const { words, format } = this.context;
    const known = (value) => (value === null ? words("reports.no_data") : format.number(value));
    const head = element("p", { class: "note" }, element("strong", { text: words("reports.score_of", { day, score: known(score) }) }), over ? "" : ` ${words("reports.not_over")}`);
    const rows = parts.map((part) => element("tr", {},
      element("th", { scope: "row", text: this.#name(part.name) }),
      element("td", { class: "number", text: format.percent(part.weight) }),
      element("td", { class: "number", text: this.#measured(part.value, part.unit) }),
      element("td", { class: "number", text: `${this.#measured(part.goal, part.unit)} … ${this.#measured(part.limit, part.unit)}` }),
      element("td", { class: "number", text: known(part.points) })));
    const keys = ["reports.part", "reports.weight", "reports.value", "reports.goal_limit", "reports.points"];
    return [head, this.#table("reports.score_parts", keys, rows)];
  }

  #measured(value, unit) {
    const { words, format } = this.context;
    if (value === null) return words("reports.no_data");
    if (unit === "share") return format.percent(value);
    return unit === "per order" ? words("reports.per_order", { value: format.percent(value) }) : `${format.number(value)} ${unit}`;
  }

  #days(items) {
    const { words, format } = this.context;
    const rows = items.map(({ day, score }) => element("tr", {},
      element("th", { scope: "row", text: day }),
      element("td", { class: "number", text: score === null ? words("reports.no_data") : format.number(score) }),
      element("td", {}, score === null ? "" : element("meter", { min: "0", max: "100", low: "60", high: "85", optimum: "100", value: String(score), "aria-label": day }))));
    const title = element("h3", { class: "note", text: words("reports.score_days") });
    return [title, this.#table("reports.score_days", ["reports.day", "reports.score", "reports.score_bar"], rows)];
  }

  #table(label, keys, rows) {
    const { words } = this.context;
    const heads = keys.map((key, index) => (index && key !== "reports.score_bar" ? [words(key)] : words(key)));
    return tableOf("score", words(label), heads, rows);
  }

  #name(name) {
    return `part_${name}` in texts.en ? this.context.words(`reports.part_${name}`) : name;
  }

  async #save() {
    this.error.textContent = "";
    try {
      await download(this.context, PATH, { query: { days: DAYS, format: "csv" } }, "stocktide-score.csv");
    } catch (error) {
      this.error.textContent = reasonOf(this.context, error);
    }
  }
}
