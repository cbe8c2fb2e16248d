// The daily report of a channel, to read and to keep.

import { download } from "../download.js";
import { choice, element, field } from "../elements.js";
import { meaningOf } from "../meanings.js";
import { ScorePanel } from "../score_panel.js";
import { Part, reasonOf } from "../states.js";
import { tableOf } from "../tables.js";

const COUNTS = ["orders", "units", "accepted", "partial", "rejected", "preorders", "preordered_units", "shorts", "short_units", "mode_changes", "complaints"];
const DURATIONS = ["decided_ms", "published_ms"];

class ReportsPage {
  constructor(root, context) {
    this.context = context;
    this.ending = new AbortController();
    this.head = element("div", { class: "panel-head" });
    this.error = element("p", { class: "error note", role: "alert" });
    const panel = element("section", { class: "panel" }, this.head, this.error);
    this.part = new Part(context, panel);
    this.score = new ScorePanel(context);
    root.append(panel, this.score.root);
    this.part.loading();
    this.readDays();
    this.score.read(this.ending.signal);
  }

  stop() {
    this.ending.abort();
  }

  async readDays() {
    const { words, client } = this.context;
    try {
      const { items } = await client.http.read("GET", "/v1/reports", { signal: this.ending.signal });
      if (!items.length) {
        this.part.empty(words("reports.none"), words("reports.none_hint"));
        return;
      }
      this.days = new Map(items.map(({ day, channels }) => [day, channels]));
      this.buildChooser();
      this.read();
    } catch (error) {
      if (!this.ending.signal.aborted) this.part.failed(error, () => this.readDays());
    }
  }

  buildChooser() {
    const { words, route } = this.context;
    const days = [...this.days.keys()];
    const day = days.includes(route.query.get("day")) ? route.query.get("day") : days[0];
    this.day = choice(days.map((each) => [each, each]), day);
    this.channel = choice([], "");
    this.fillChannels(route.query.get("channel"));
    this.day.addEventListener("change", () => {
      this.fillChannels(this.channel.value);
      this.read();
    });
    this.channel.addEventListener("change", () => this.read());
    const save = (format) => element("button", { type: "button", text: words(`reports.save_${format}`), on: { click: () => this.save(format) } });
    this.head.replaceChildren(
      element("form", { class: "filter" }, field("report-day", words("reports.day"), this.day), field("report-channel", words("parts.channel"), this.channel)),
      element("div", { class: "buttons" }, save("csv"), save("html")));
  }

  fillChannels(wanted) {
    const channels = this.days.get(this.day.value);
    const chosen = channels.includes(wanted) ? wanted : channels[0];
    this.channel.replaceChildren(...channels.map((each) => new Option(each, each, each === chosen, each === chosen)));
  }

  get names() {
    return { day: this.day.value, channel: this.channel.value };
  }

  async read() {
    const { client } = this.context;
    const { day, channel } = this.names;
    this.context.keep({ day, channel });
    try {
      const options = { path: { channel }, query: { day }, signal: this.ending.signal };
      const report = await client.http.read("GET", "/v1/reports/{channel}", options);
      if (day === this.day.value && channel === this.channel.value) this.part.show(this.report(report));
    } catch (error) {
      if (!this.ending.signal.aborted) this.part.failed(error, () => this.read());
    }
  }

  async save(format) {
    const { day, channel } = this.names;
    this.error.textContent = "";
    try {
      await download(this.context, "/v1/reports/{channel}", { path: { channel }, query: { day, format } }, `stocktide-${channel}-${day}.${format}`);
    } catch (error) {
      this.error.textContent = reasonOf(this.context, error);
    }
  }

  report(report) {
    const { words, format } = this.context;
    const known = (value) => (value === null ? words("reports.no_data") : format.number(value));
    const fact = (name) => element("div", {}, element("dt", { text: words(`reports.c_${name}`) }), element("dd", { text: known(report[name]) }));
    const zone = words("reports.zone", { zone: report.time_zone });
    const open = `${words("reports.not_over")} ${words("parts.read_at", { time: format.time(Date.now()) })}`;
    const note = element("p", { class: "note", text: report.over ? zone : `${zone} ${open}` });
    return [note, element("dl", { class: "facts" }, ...COUNTS.map(fact)), this.rejections(report), this.durations(report)];
  }

  rejections({ rejections }) {
    const { words, format } = this.context;
    const found = Object.entries(rejections).sort(([, one], [, other]) => other - one);
    if (!found.length) return element("p", { class: "note", text: words("reports.no_rejections") });
    const rows = found.map(([reason, count]) => element("tr", {},
      element("th", { scope: "row" }, meaningOf(this.context, reason), " ", element("code", { class: "aside", text: reason })), element("td", { class: "number", text: format.number(count) })));
    return this.table("reports.rejections", ["parts.reason", "reports.count"], rows);
  }

  durations(report) {
    const { words, format } = this.context;
    const known = (value) => (value === null ? words("reports.no_data") : format.number(value));
    const rows = DURATIONS.map((name) => element("tr", {},
      element("th", { scope: "row", text: words(`reports.c_${name}`) }),
      ...["count", "mean", "p50", "p95", "max"].map((each) => element("td", { class: "number", text: known(report[name][each]) }))));
    return this.table("reports.durations", ["reports.duration", "reports.count", "reports.mean", "reports.p50", "reports.p95", "reports.max"], rows);
  }

  table(label, keys, rows) {
    const { words } = this.context;
    return tableOf("score", words(label), keys.map((key, index) => (index ? [words(key)] : words(key))), rows);
  }
}

export default {
  id: "reports",
  title: "reports.title",
  roles: null,
  mount(root, context) {
    const page = new ReportsPage(root, context);
    return () => page.stop();
  },
};
