// What operators do to an order that waits, each with a reason for the audit.

import { ask } from "./dialog.js";
import { element, field } from "./elements.js";

const REASON_CHARACTERS_MAX = 500;

/** Asks for the reason and sends: `name` is `assign`, `hold_back` or `release`. Returns whether it was done. */
export function askToAct(context, name, orderId, body) {
  const { words, client } = context;
  const reason = element("input", { name: "reason", required: true, maxlength: String(REASON_CHARACTERS_MAX), autocomplete: "off" });
  const hint = element("p", { class: "aside", text: words(`queue.${name}_hint`) });
  const fields = [hint, field("queue-reason", words("queue.reason"), reason)];
  const path = `/v1/preorders/{order_id}/${name === "assign" ? "assign" : "hold_back"}`;
  // One id for all attempts of this question.
  const id = crypto.randomUUID();
  const title = words(`queue.${name}_title`, { order: orderId });
  return ask(context, { title, fields, action: words(`queue.${name}`) }, async (form) => {
    const sent = { ...body, id, reason: form.get("reason").trim() };
    await client.request("POST", path, { path: { order_id: orderId }, body: sent });
    context.say(words("queue.done", { order: orderId }));
  });
}
