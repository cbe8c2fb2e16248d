// Available units over time as steps: each change is a point that can be selected, by mouse and by keyboard.

import { element, MODES } from "./elements.js";
import { Plot } from "./plot.js";
import { told } from "./sku_history.js";
import uPlot from "./vendor/uPlot.esm.js";

const HEIGHT = 260;
const POINT = 3;
// Labels of mode switches closer than this would cover each other.
const LABEL_SPACE = 70;
const DAY_S = 86_400;
// Times on the axis stand this far apart, and never closer than a second.
const TIME_SPACE = 80;
const TIME_STEPS = [
  ...[1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 14_400, 21_600, 43_200],
  ...[DAY_S, 2 * DAY_S, 7 * DAY_S, 30 * DAY_S],
];

export class HistoryChart {
  #items = [];
  #selected = -1;

  constructor(context, sku) {
    this.context = context;
    this.sku = sku;
    const { words } = context;
    this.place = element("div", { class: "chart", role: "slider", tabindex: "0", "aria-label": words("sku.history"), "aria-valuemin": "1" });
    this.story = element("p", { class: "story" });
    this.help = element("p", { class: "aside", text: `${words("sku.chart_help")} ${words("sku.modes_marked")}` });
    this.root = element("div", {}, this.place, this.story, this.help);
    this.place.addEventListener("keydown", (event) => this.#key(event));
    this.place.addEventListener("pointermove", (event) => this.#point(event));
    this.place.addEventListener("pointerdown", (event) => this.#point(event));
    this.plot = new Plot(this.place, HEIGHT, (colour) => this.#options(colour));
  }

  stop() {
    this.plot.stop();
  }

  /** The changes, oldest first. What was selected stays selected; else the newest is. */
  show(items) {
    const version = this.#items[this.#selected]?.version;
    const wasNewest = this.#selected === this.#items.length - 1;
    this.#items = items;
    const kept = wasNewest ? -1 : items.findIndex((change) => change.version === version);
    this.#selected = kept === -1 ? items.length - 1 : kept;
    this.plot.show(this.#data());
    this.#tell();
  }

  #data() {
    const times = this.#items.map((change) => new Date(change.at).getTime() / 1000);
    const units = this.#items.map((change) => change.after.available);
    // The line goes on until now.
    return [[...times, Math.max(Date.now() / 1000, times.at(-1) + 1)], [...units, units.at(-1)]];
  }

  #options(colour) {
    const names = { line: "tide", ink: "ink", soft: "soft", grid: "line", up: "in-stock", down: "sold-out", panel: "panel" };
    this.colours = Object.fromEntries(Object.entries(names).map(([name, of]) => [name, colour(`--${of}`)]));
    for (const mode of MODES) this.colours[mode] = colour(`--${mode.replace("_", "-")}`);
    const lines = { stroke: this.colours.grid, width: 1 };
    const axis = { stroke: this.colours.soft, grid: lines, ticks: lines, font: "12px system-ui, sans-serif" };
    const { format } = this.context;
    return {
      scales: { y: { range: (_, low, high) => rangeOf(low, high) } },
      series: [{}, {
        stroke: this.colours.line, width: 2, fill: `${this.colours.line}1f`, paths: uPlot.paths.stepped({ align: 1 }), points: { show: false },
      }],
      axes: [
        { ...axis, space: TIME_SPACE, incrs: TIME_STEPS, values: (_, splits, __, ___, step) => this.#times(splits, step) },
        { ...axis, size: 58, values: (_, splits) => splits.map((each) => (Number.isInteger(each) ? format.compact(each) : "")) },
      ],
      hooks: { draw: [(plot) => this.#mark(plot)] },
    };
  }

  #times(splits, step) {
    const { locale } = this.context.format;
    const parts = step >= DAY_S ? { month: "short", day: "numeric" } : step >= 60 ? { hour: "2-digit", minute: "2-digit" } : { timeStyle: "medium" };
    const times = new Intl.DateTimeFormat(locale, parts);
    return splits.map((each) => times.format(new Date(each * 1000)));
  }

  /** Draws the points, the switches of modes and the selection, on the canvas. */
  #mark(plot) {
    const { ctx } = plot;
    const scale = devicePixelRatio;
    const at = (change) => [plot.valToPos(new Date(change.at).getTime() / 1000, "x", true), plot.valToPos(change.after.available, "y", true)];
    ctx.save();
    ctx.font = `${11 * scale}px system-ui, sans-serif`;
    let labelled = -Infinity;
    for (const change of this.#items) {
      const [x] = at(change);
      for (const { channel, after } of change.switches) {
        this.#line(plot, x, this.colours[after] ?? this.colours.soft, [4 * scale, 4 * scale]);
        if (x - labelled < LABEL_SPACE * scale) continue;
        labelled = x;
        ctx.fillStyle = this.colours[after] ?? this.colours.soft;
        const text = channel.length > 14 ? `${channel.slice(0, 12)}…` : channel;
        const isLeft = x + ctx.measureText(text).width > plot.bbox.left + plot.bbox.width - 4 * scale;
        ctx.textAlign = isLeft ? "right" : "left";
        ctx.fillText(text, x + (isLeft ? -4 : 4) * scale, plot.bbox.top + 11 * scale);
      }
    }
    for (const change of this.#items) {
      const [x, y] = at(change);
      this.#dot(ctx, x, y, POINT * scale, change.delta > 0 ? this.colours.up : change.delta < 0 ? this.colours.down : this.colours.soft);
    }
    const selected = this.#items[this.#selected];
    if (selected) {
      const [x, y] = at(selected);
      this.#line(plot, x, this.colours.ink, []);
      this.#dot(ctx, x, y, (POINT + 3) * scale, this.colours.panel);
      this.#dot(ctx, x, y, (POINT + 1.5) * scale, this.colours.ink);
    }
    ctx.restore();
  }

  #line({ ctx, bbox }, x, colour, dashes) {
    ctx.strokeStyle = colour;
    ctx.lineWidth = devicePixelRatio;
    ctx.setLineDash(dashes);
    ctx.beginPath();
    ctx.moveTo(x, bbox.top);
    ctx.lineTo(x, bbox.top + bbox.height);
    ctx.stroke();
  }

  #dot(ctx, x, y, radius, colour) {
    ctx.fillStyle = colour;
    ctx.beginPath();
    ctx.arc(x, y, radius, 0, 2 * Math.PI);
    ctx.fill();
  }

  #point(event) {
    const { drawn } = this.plot;
    if (!drawn || !this.#items.length) return;
    const left = event.clientX - drawn.over.getBoundingClientRect().left;
    // The last value is the present, which is no change.
    this.#select(Math.min(drawn.posToIdx(left), this.#items.length - 1));
  }

  #key(event) {
    const last = this.#items.length - 1;
    const steps = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10, Home: -Infinity, End: Infinity };
    const step = steps[event.key];
    if (step === undefined) return;
    event.preventDefault();
    this.#select(Math.max(0, Math.min(last, this.#selected + step)));
  }

  #select(index) {
    if (index === this.#selected) return;
    this.#selected = index;
    this.plot.drawn?.redraw(false);
    this.#tell();
  }

  #tell() {
    const { words, format } = this.context;
    const change = this.#items[this.#selected];
    if (!change) return;
    const text = told(this.context, change);
    this.story.textContent = text;
    const all = format.number(this.#items.length);
    this.place.setAttribute("aria-valuemax", this.#items.length);
    this.place.setAttribute("aria-valuenow", this.#selected + 1);
    this.place.setAttribute("aria-valuetext", words("sku.position", { place: format.number(this.#selected + 1), all, told: text }));
    this.place.dataset.version = change.version;
  }
}

/** From zero, with room above; below zero where units were sold that are not there. */
function rangeOf(low, high) {
  const top = Math.max(high, 0);
  const bottom = Math.min(low, 0);
  const room = Math.max(1, (top - bottom) * 0.12);
  return [bottom < 0 ? bottom - room : 0, top + room];
}
