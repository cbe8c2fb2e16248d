// A small plot of one or two series over the last minutes, with the newest values as text.

import { element } from "./elements.js";
import { Plot } from "./plot.js";

const HEIGHT = 120;
const COLOURS = ["--tide", "--sold-out"];

export class SmallPlot {
  /** `series`: [{label, show(value)}], at most two. */
  constructor(context, title, series) {
    this.context = context;
    this.title = title;
    this.series = series;
    this.values = series.map(() => element("b"));
    const legend = series.map(({ label }, index) => element("span", {}, element("i", { class: `key key-${index}` }), `${label} `, this.values[index]));
    this.place = element("div", { class: "plot", role: "img" });
    this.root = element("figure", { class: "small-plot" }, element("figcaption", {}, element("h3", { text: title }), element("p", { class: "aside" }, ...legend)), this.place);
    this.plot = new Plot(this.place, HEIGHT, (colour) => this.#options(colour));
  }

  stop() {
    this.plot.stop();
  }

  /** Seconds since 1970, and values by series; null where nothing was measured. */
  show(times, values) {
    const none = this.context.words("health.not_measured");
    const newest = values.map((each, index) => (each.at(-1) === null || each.at(-1) === undefined ? none : this.series[index].show(each.at(-1))));
    newest.forEach((text, index) => { this.values[index].textContent = text; });
    this.place.setAttribute("aria-label", `${this.title}: ${this.series.map(({ label }, index) => `${label} ${newest[index]}`).join(", ")}`);
    this.plot.show([times, ...values]);
  }

  #options(colour) {
    const axis = { stroke: colour("--soft"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false }, font: "11px system-ui, sans-serif" };
    const { format } = this.context;
    const time = new Intl.DateTimeFormat(format.locale, { hour: "2-digit", minute: "2-digit" });
    return {
      scales: { y: { range: (_, __, high) => [0, Math.max(high ?? 0, 1) * 1.1] } },
      series: [{}, ...this.series.map((_, index) => ({ stroke: colour(COLOURS[index]), width: 1.5, points: { show: true, size: 3, fill: colour(COLOURS[index]) } }))],
      axes: [
        { ...axis, size: 24, values: (_, splits) => splits.map((each) => time.format(new Date(each * 1000))) },
        { ...axis, size: 44, space: 26, values: (_, splits) => splits.map((each) => format.compact(each)) },
      ],
    };
  }
}
