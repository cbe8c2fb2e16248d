// Which channels a page shows: remembered, and at most as many as it opens sockets for.

import { element, nameOf } from "./elements.js";
import { CHANNELS_MAX } from "./live.js";

// Columns without a choice.
const CHANNELS_FIRST = 5;

export class ChannelChooser {
  constructor(context, onChange) {
    this.context = context;
    this.known = [];
    this.shown = [];
    this.title = element("summary", { text: context.words("stock.channels") });
    this.form = element("form", { "aria-label": context.words("stock.channels") });
    this.form.addEventListener("change", () => {
      const chosen = [...this.form.querySelectorAll("input:checked")].map((box) => box.value);
      if (chosen.length) {
        localStorage.setItem("channels", JSON.stringify(chosen));
        this.shown = chosen;
      }
      this.draw();
      onChange();
    });
    this.root = element("details", { class: "chooser" }, this.title, this.form);
    this.root.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || !this.root.open) return;
      this.root.open = false;
      this.title.focus();
    });
  }

  /** Whether there are other channels than before. */
  async read(signal) {
    const { items } = await this.context.client.request("GET", "/v1/channels", { signal });
    if (JSON.stringify(items) === JSON.stringify(this.known)) return false;
    this.known = items;
    const kept = remembered().filter((name) => items.includes(name));
    this.shown = kept.length ? kept.slice(0, CHANNELS_MAX) : items.slice(0, CHANNELS_FIRST);
    this.draw();
    return true;
  }

  draw() {
    const { words } = this.context;
    this.title.textContent = words("stock.channels_shown", { shown: this.shown.length, all: this.known.length });
    const focused = this.form.contains(document.activeElement) ? document.activeElement.value : null;
    const labels = this.known.map((channel) => {
      const box = element("input", { type: "checkbox", value: channel });
      box.checked = this.shown.includes(channel);
      box.disabled = !box.checked && this.shown.length >= CHANNELS_MAX;
      return element("label", { class: "check" }, box, nameOf(channel));
    });
    const hint = element("p", { class: "aside", text: words("stock.channels_hint", { most: CHANNELS_MAX }) });
    this.form.replaceChildren(...labels, hint);
    if (focused !== null) [...this.form.elements].find((box) => box.value === focused)?.focus();
  }
}

function remembered() {
  try {
    const names = JSON.parse(localStorage.getItem("channels") ?? "[]");
    return Array.isArray(names) ? names : [];
  } catch {
    return [];
  }
}
