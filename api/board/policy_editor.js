// The form of a policy: every field with what it means, what is in force, and what is wrong with it.

import { element } from "./elements.js";
import { explanation } from "./meanings.js";
import { fieldsOf, inputOf, readInput, valueText } from "./policy_fields.js";

export class PolicyEditor {
  #inputs = new Map();

  /** `onChange` is called when another policy is written. Who may not change it reads it. */
  constructor(context, { channel, sku }, mayChange, onChange) {
    this.context = context;
    this.fields = fieldsOf(channel, sku);
    this.mayChange = mayChange;
    this.own = null;
    this.root = element("div", { class: "policy-fields" });
    this.root.addEventListener("input", (event) => {
      this.#clear(event.target.name);
      onChange();
    });
  }

  /** What the level has, and what is in force. */
  show(own, effective) {
    this.own = own;
    this.#inputs.clear();
    this.root.replaceChildren(...this.fields.map((about) => this.#field(about, own?.[about.name], effective[about.name])));
  }

  /** Other values, as if they had been typed. */
  write(policy) {
    for (const about of this.fields) {
      const { input } = this.#inputs.get(about.name);
      const typed = inputOf(this.context, about, policy?.[about.name]);
      input.value = typed.value;
    }
  }

  /** The policy as it is written; what was not touched is as it was. */
  get policy() {
    const policy = {};
    for (const about of this.fields) {
      const { input, first } = this.#inputs.get(about.name);
      const value = input.value === first && !input.validity.badInput ? this.own?.[about.name] : readInput(about, input);
      if (value !== undefined) policy[about.name] = value;
    }
    return policy;
  }

  get isChanged() {
    return JSON.stringify(this.policy) !== JSON.stringify(ordered(this.fields, this.own));
  }

  /** Shows what is wrong at its field; what has no field here is returned. */
  showErrors(errors, code) {
    const others = [];
    let first = null;
    for (const { path, detail: own } of errors) {
      const detail = explanation(this.context, code, own);
      const found = this.#inputs.get((path ?? "").split(/[[.]/)[0]);
      if (!found) {
        others.push(detail);
        continue;
      }
      found.error.textContent = detail;
      found.input.setAttribute("aria-invalid", "true");
      first ??= found.input;
    }
    first?.focus();
    return others;
  }

  #field(about, own, effective) {
    const { words } = this.context;
    const { name } = about;
    const input = inputOf(this.context, about, own);
    const ids = { input: `policy-${name}`, help: `policy-${name}-help`, error: `policy-${name}-error` };
    input.id = ids.input;
    input.name = name;
    input.disabled = !this.mayChange;
    input.setAttribute("aria-describedby", `${ids.error} ${ids.help}`);
    const error = element("p", { class: "error", id: ids.error });
    this.#inputs.set(name, { input, error, first: input.value });
    const force = words("policies.in_force", { value: valueText(this.context, name, effective) });
    return element("div", { class: `field${own === undefined ? "" : " own"}` },
      element("label", { for: ids.input, text: words(`policies.f_${name}`) }),
      input,
      error,
      element("p", { class: "aside", id: ids.help }, element("span", { text: words(`policies.h_${name}`) }), " ", element("b", { text: force })));
  }

  #clear(name) {
    const found = this.#inputs.get(name);
    if (!found) return;
    found.error.textContent = "";
    found.input.removeAttribute("aria-invalid");
  }
}

function ordered(fields, own) {
  const entries = fields.map(({ name }) => [name, own?.[name]]).filter(([, value]) => value !== undefined);
  return Object.fromEntries(entries);
}
