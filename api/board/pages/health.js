// How each part is, the processes, and what this API has done in the last minutes.

import { element, nameOf } from "../elements.js";
import { stateOfPart } from "../meanings.js";
import { poll } from "../poll.js";
import { SmallPlot } from "../small_plot.js";
import { Part } from "../states.js";
import { tableOf } from "../tables.js";
import * as texts from "../words/health.js";

const READ_MS = 5_000;
const BADGES = { ok: "in_stock", waiting: "preorder", stalled: "sold_out", unknown: "suspended" };
const NUMBERS = new Set(["health.waiting", "health.since", "health.heard"]);

class HealthPage {
  constructor(root, context) {
    this.context = context;
    const { words } = context;
    const parts = this.panel("health-parts", words("health.parts"));
    this.part = new Part(context, parts);
    const series = this.panel("health-series", words("health.series"));
    this.seriesPart = new Part(context, series);
    root.append(parts, series);
    this.buildPlots();
    this.part.loading();
    this.seriesPart.loading();
    this.reading = poll((signal) => Promise.all([this.read(signal), this.readSeries(signal)]), READ_MS);
  }

  stop() {
    this.reading.stop();
    for (const { plot } of this.plots) plot.stop();
  }

  panel(id, title) {
    return element("section", { class: "panel", "aria-labelledby": id }, element("div", { class: "panel-head" }, element("h2", { id, text: title })));
  }

  // The parts.

  async read(signal) {
    try {
      const health = await this.context.client.request("GET", "/v1/health", { signal });
      this.part.show([this.summary(health), this.parts(health.parts), ...this.processes(health.processes)]);
    } catch (error) {
      if (!signal.aborted) this.part.failed(error, () => this.reading.now());
    }
  }

  summary({ ready, as_of: asOf }) {
    const { words, format } = this.context;
    const badge = element("span", { class: `badge mode-${ready ? "in_stock" : "sold_out"}`, text: words(ready ? "health.ready" : "health.not_ready") });
    return element("p", { class: "note" }, badge, ` ${words("health.as_of", { time: format.time(asOf) })}`);
  }

  parts(parts) {
    const heads = ["health.part", "parts.state", "health.waiting", "health.since", "health.detail"];
    const rows = parts.map((part) => this.row(this.partText(part.part), part.part, part, part.waiting));
    return this.table("health.parts", heads, rows);
  }

  processes(processes) {
    const { words } = this.context;
    if (!processes?.length) return [];
    const heads = ["health.process", "parts.state", "health.kind", "health.heard", "health.detail"];
    const rows = processes.map((each) => this.row(nameOf(each.process), "process", each, words(`health.kind_${each.kind}`)));
    const title = element("h3", { class: "note", text: words("health.processes") });
    return [title, this.table("health.processes", heads, rows)];
  }

  row(name, part, { state, seconds, detail }, third) {
    const { words, format } = this.context;
    const [text, own] = stateOfPart(this.context, part, state, detail);
    const shown = typeof third === "number" ? format.number(third) : third ?? "–";
    const badge = element("span", { class: `badge mode-${BADGES[state] ?? "none"}`, text: words(`health.state_${state}`) });
    return element("tr", {},
      element("th", { scope: "row" }, name),
      element("td", {}, badge),
      element("td", { class: typeof third === "string" ? null : "number", text: shown }),
      element("td", { class: "number", text: seconds === null ? "–" : words("health.seconds", { seconds: format.number(Math.round(seconds)) }) }),
      element("td", { class: "wrap" }, text, own ? element("div", { class: "aside", lang: "en", text: own }) : ""));
  }

  partText(part) {
    return `part_${part}` in texts.en ? this.context.words(`health.part_${part}`) : part;
  }

  table(label, keys, rows) {
    const { words } = this.context;
    const heads = keys.map((key) => (NUMBERS.has(key) ? [words(key)] : words(key)));
    // The panel is the region of this name.
    return tableOf("health", words(label), heads, rows, "group");
  }

  // The plots.

  buildPlots() {
    const { words, format } = this.context;
    const perSecond = (value) => words("health.per_second", { value: format.compact(value) });
    const ms = (value) => words("health.ms", { value: format.compact(value) });
    const plot = (title, names, show) => ({
      names, plot: new SmallPlot(this.context, words(title), names.map((name) => ({ label: words(`health.s_${name}`), show }))),
    });
    this.plots = [
      plot("health.orders", ["orders_per_second", "rejections_per_second"], perSecond),
      plot("health.times", ["order_p50_ms", "order_p99_ms"], ms),
      plot("health.updates", ["updates_per_second"], perSecond),
    ];
    this.plotted = element("div", { class: "small-plots" }, ...this.plots.map(({ plot: each }) => each.root));
  }

  async readSeries(signal) {
    try {
      const { interval_seconds: interval, ends_at: end, series } = await this.context.client.request("GET", "/v1/health/series", { signal });
      this.seriesPart.show(this.seriesPart.isFilled ? null : [this.plotted]);
      const last = new Date(end).getTime() / 1000;
      for (const { names, plot } of this.plots) {
        const { length } = series[names[0]];
        const times = Array.from({ length }, (_, index) => last - (length - 1 - index) * interval);
        plot.show(times, names.map((name) => series[name]));
      }
    } catch (error) {
      if (!signal.aborted) this.seriesPart.failed(error, () => this.reading.now());
    }
  }
}

export default {
  id: "health",
  title: "health.title",
  roles: null,
  mount(root, context) {
    const page = new HealthPage(root, context);
    return () => page.stop();
  },
};
