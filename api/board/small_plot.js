// A small plot of one or two series over the last minutes, with the newest values as text.

import { element } from "./elements.js";
import uPlot from "./vendor/uPlot.esm.js";

const HEIGHT = 120;
const COLOURS = ["--tide", "--sold-out"];

export class SmallPlot {
  #plot = null;
  #data = null;
  #redraw = () => this.#build();

  /** `series`: [{label, show(value)}], at most two. */
  constructor(context, title, series) {
    this.context = context;
    this.title = title;
    this.series = series;
    this.values = series.map(() => element("b"));
    const legend = series.map(({ label }, index) => element("span", {}, element("i", { class: `key key-${index}` }), `${label} `, this.values[index]));
    this.place = element("div", { class: "plot", role: "img" });
    this.root = element("figure", { class: "small-plot" }, element("figcaption", {}, element("h3", { text: title }), element("p", { class: "aside" }, ...legend)), this.place);
    this.sizes = new ResizeObserver(() => this.#plot?.setSize({ width: this.place.clientWidth, height: HEIGHT }));
    this.sizes.observe(this.place);
    this.scheme = matchMedia("(prefers-color-scheme: dark)");
    this.scheme.addEventListener("change", this.#redraw);
    document.addEventListener("theme", this.#redraw);
  }

  stop() {
    this.sizes.disconnect();
    this.scheme.removeEventListener("change", this.#redraw);
    document.removeEventListener("theme", this.#redraw);
    this.#plot?.destroy();
  }

  /** Seconds since 1970, and values by series; null where nothing was measured. */
  show(times, values) {
    this.#data = [times, ...values];
    const none = this.context.words("health.not_measured");
    const newest = values.map((each, index) => (each.at(-1) === null || each.at(-1) === undefined ? none : this.series[index].show(each.at(-1))));
    newest.forEach((text, index) => { this.values[index].textContent = text; });
    this.place.setAttribute("aria-label", `${this.title}: ${this.series.map(({ label }, index) => `${label} ${newest[index]}`).join(", ")}`);
    if (this.#plot) this.#plot.setData(this.#data);
    else this.#build();
  }

  #build() {
    this.#plot?.destroy();
    if (this.#data === null) return;
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    const axis = { stroke: colour("--soft"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false }, font: "11px system-ui, sans-serif" };
    const { format } = this.context;
    const time = new Intl.DateTimeFormat(format.locale, { hour: "2-digit", minute: "2-digit" });
    this.#plot = new uPlot({
      width: this.place.clientWidth || 300,
      height: HEIGHT,
      cursor: { show: false },
      legend: { show: false },
      scales: { y: { range: (_, __, high) => [0, Math.max(high ?? 0, 1) * 1.1] } },
      series: [{}, ...this.series.map((_, index) => ({ stroke: colour(COLOURS[index]), width: 1.5, points: { show: true, size: 3, fill: colour(COLOURS[index]) } }))],
      axes: [
        { ...axis, size: 24, values: (_, splits) => splits.map((each) => time.format(new Date(each * 1000))) },
        { ...axis, size: 44, space: 26, values: (_, splits) => splits.map((each) => format.compact(each)) },
      ],
    }, this.#data, this.place);
  }
}
