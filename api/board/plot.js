// A plot in the colours of the page, as wide as its place; drawn again when either changes.

import uPlot from "./vendor/uPlot.esm.js";

const WIDTH_UNKNOWN = 300;

export class Plot {
  #data = null;
  #redraw = () => this.#build();

  /** `optionsOf(colour)`: those of uPlot, where `colour("--tide")` is a colour of the page. */
  constructor(place, height, optionsOf) {
    this.place = place;
    this.height = height;
    this.optionsOf = optionsOf;
    /** What uPlot has drawn; null before there is something to draw. */
    this.drawn = null;
    this.sizes = new ResizeObserver(() => {
      if (place.clientWidth) this.drawn?.setSize({ width: place.clientWidth, height });
    });
    this.sizes.observe(place);
    this.scheme = matchMedia("(prefers-color-scheme: dark)");
    this.scheme.addEventListener("change", this.#redraw);
    document.addEventListener("theme", this.#redraw);
  }

  stop() {
    this.sizes.disconnect();
    this.scheme.removeEventListener("change", this.#redraw);
    document.removeEventListener("theme", this.#redraw);
    this.drawn?.destroy();
  }

  show(data) {
    this.#data = data;
    if (this.drawn) this.drawn.setData(data);
    else this.#build();
  }

  #build() {
    this.drawn?.destroy();
    if (this.#data === null) return;
    const style = getComputedStyle(document.documentElement);
    const options = this.optionsOf((name) => style.getPropertyValue(name).trim());
    const size = { width: this.place.clientWidth || WIDTH_UNKNOWN, height: this.height };
    this.drawn = new uPlot({ ...size, cursor: { show: false }, legend: { show: false }, ...options }, this.#data, this.place);
    // A text says the same.
    this.drawn.root.setAttribute("aria-hidden", "true");
  }
}
