// Draws the plots in the colours that the reader prefers, and again when that changes.
"use strict";
(() => {
  const plots = JSON.parse(document.getElementById("plots").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");

  // A figure with the style sheet's colours in the place of their names.
  function coloured(value, styles) {
    if (Array.isArray(value)) return value.map((each) => coloured(each, styles));
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, coloured(each, styles)]));
    }
    const found = typeof value === "string" && /^var\((--[a-z0-9-]+)\)$/.exec(value);
    return found ? styles.getPropertyValue(found[1]).trim() : value;
  }

  function layoutOf(plot, styles) {
    const axis = { gridcolor: "var(--line)", zerolinecolor: "var(--line)", linecolor: "var(--line)", automargin: true };
    const layout = structuredClone(plot.layout);
    for (const name of Object.keys(layout)) {
      if (/^[xy]axis\d*$/.test(name)) layout[name] = { ...axis, ...layout[name] };
    }
    const base = {
      autosize: true,
      // A narrow page has its legends in many rows: they are not to eat up the plot.
      height: plot.height + (innerWidth < 560 ? 14 * Math.min(plot.data.length, 8) : 0),
      margin: { l: 56, r: 14, t: 10, b: 46 },
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { color: "var(--ink)", size: 12.5, family: getComputedStyle(document.body).fontFamily },
      hovermode: plot.hover,
      // A finger that moves over a plot moves the page.
      dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom",
      legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", itemwidth: 40 },
    };
    return coloured({ ...base, ...layout, legend: { ...base.legend, ...layout.legend } }, styles);
  }

  // One after the other, so that the reader can read meanwhile.
  async function draw() {
    const scheme = dark.matches ? "dark" : "light";
    const styles = getComputedStyle(document.documentElement);
    const config = { responsive: true, displayModeBar: false, displaylogo: false };
    for (const plot of plots) {
      await Plotly.react(`plot-${plot.name}`, coloured(plot.data, styles), layoutOf(plot, styles), config);
      await new Promise((resume) => setTimeout(resume, 0));
      if (scheme !== (dark.matches ? "dark" : "light")) return; // the next one draws them all
    }
    document.documentElement.dataset.drawn = scheme;
  }

  dark.addEventListener("change", draw);
  draw();
})();
