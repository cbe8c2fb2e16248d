// What a policy was: each change, who made it, and the way back.

import { element, moment } from "./elements.js";
import { Paging } from "./paging.js";
import { changesOf } from "./policy_fields.js";
import { Part } from "./states.js";

const PAGE_CHANGES = 10;
// The audit, which is read, has a change a moment after it is in force; a worker that is busy needs seconds.
const ATTEMPTS_MAX = 10;
const ATTEMPT_MS = 700;

export class PolicyHistory {
  /** `onRollback(version)` is called with a change whose result shall be set again. */
  constructor(context, level, mayChange, onRollback) {
    this.context = context;
    this.level = level;
    this.mayChange = mayChange;
    this.onRollback = onRollback;
    this.root = element("section", { class: "panel", "aria-labelledby": "policy-history" },
      element("div", { class: "panel-head" }, element("h2", { id: "policy-history", text: context.words("policies.history") })));
    this.part = new Part(context, this.root);
    this.paging = new Paging(context, () => this.read());
    this.root.append(this.paging.root);
  }

  async read(signal) {
    const { words } = this.context;
    try {
      const { items, next } = await this.level.history(this.paging.cursor, PAGE_CHANGES, signal);
      this.paging.show(next);
      if (this.paging.isFirst) this.newest = items[0]?.version;
      if (items.length) this.part.draw(items, () => [element("ol", { class: "requests" }, ...items.map((change) => this.#change(change)))]);
      else this.part.empty(words(next === null ? "policies.no_history" : "policies.no_history_here"));
    } catch (error) {
      if (!signal?.aborted) this.part.failed(error, () => this.read(signal));
    }
  }

  /** Reads until a change is there that was made just now. */
  async readNewer(signal) {
    const before = this.newest;
    this.paging.reset();
    for (let attempt = 0; attempt < ATTEMPTS_MAX && this.newest === before && !signal.aborted; attempt += 1) {
      if (attempt) await new Promise((resolve) => { setTimeout(resolve, ATTEMPT_MS); });
      if (this.paging.isFirst) await this.read(signal);
    }
  }

  #change(change) {
    const { words, format } = this.context;
    const who = change.requested_by ? "policies.approved_change" : "policies.changed_by";
    const what = change.after === null ? element("p", { text: words("policies.was_removed") }) : "";
    const back = element("button", {
      type: "button", text: words("policies.rollback"), on: { click: () => this.onRollback(change) },
      "aria-label": words("policies.rollback_to", { time: format.dateTime(change.at) }),
    });
    return element("li", {},
      element("p", {}, moment(this.context, change.at), " · ", words(who, { actor: change.actor, requester: change.requested_by ?? "" })),
      what,
      changesOf(this.context, change.before, change.after),
      this.mayChange ? element("div", { class: "buttons" }, back) : "");
  }
}
