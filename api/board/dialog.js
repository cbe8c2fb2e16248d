// A question in front of the page: with its own fields, answered once.

import { element } from "./elements.js";
import { reasonOf } from "./states.js";

let numbers = 0;

/**
 * Asks, and calls `send` when the form is sent; what it throws is shown, and the question stays.
 * `ask(context, {title, fields, action, danger}, send)` -> whether it was sent.
 */
export function ask(context, { title, fields = [], action, danger = false }, send) {
  const { words } = context;
  const id = `dialog-${(numbers += 1)}`;
  const error = element("p", { class: "error", role: "alert" });
  const submit = element("button", { type: "submit", class: danger ? "danger" : "primary", text: action });
  const cancel = element("button", { type: "button", text: words("parts.cancel"), on: { click: () => dialog.close() } });
  const buttons = element("div", { class: "buttons" }, submit, cancel);
  const form = element("form", { class: "dialog-form" }, element("h2", { id, text: title }), ...fields, error, buttons);
  const dialog = element("dialog", { "aria-labelledby": id }, form);
  const before = document.activeElement;
  document.body.append(dialog);
  return new Promise((resolve) => {
    let sent = false;
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      submit.disabled = true;
      error.textContent = "";
      try {
        await send(new FormData(form));
        sent = true;
        dialog.close();
      } catch (why) {
        error.textContent = reasonOf(context, why);
        submit.disabled = false;
        submit.focus();
      }
    });
    dialog.addEventListener("close", () => {
      dialog.remove();
      // What asked may be gone with what was done.
      const back = before?.isConnected && !before.disabled ? before : document.getElementById("title");
      back.focus({ preventScroll: true });
      resolve(sent);
    });
    dialog.showModal();
    // What scrolls above would have it.
    (form.querySelector("textarea, input, select") ?? submit).focus();
  });
}
