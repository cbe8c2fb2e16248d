// Policies: choose a level, write it, see what it would do to the stock, then save it or ask a second person.

import { ask } from "../dialog.js";
import { choice, element, field } from "../elements.js";
import { PolicyEditor } from "../policy_editor.js";
import { changesOf } from "../policy_fields.js";
import { PolicyHistory } from "../policy_history.js";
import { PolicyLevel } from "../policy_level.js";
import { previewOf } from "../policy_preview.js";
import { Part, reasonOf } from "../states.js";

const REASON_CHARACTERS_MAX = 500;

class PoliciesPage {
  constructor(root, context) {
    this.context = context;
    this.root = root;
    this.ending = new AbortController();
    const [channel = "", sku = ""] = context.route.names;
    this.names = { channel, sku };
    this.mayChange = context.role === "operator";
    root.append(this.buildChooser());
    if (channel) this.open();
    else root.append(element("p", { class: "state", text: context.words("policies.choose") }));
  }

  stop() {
    this.ending.abort();
  }

  // Which level.

  buildChooser() {
    const { words } = this.context;
    const { channel, sku } = this.names;
    const channels = choice([["*", words("parts.all_channels")], ...(channel && channel !== "*" ? [[channel, channel]] : [])], channel);
    const name = element("input", { type: "search", value: sku, maxlength: "128", autocomplete: "off", spellcheck: "false", placeholder: words("policies.all_skus") });
    const form = element("form", { class: "filter" },
      field("policies-channel", words("parts.channel"), channels),
      field("policies-sku", words("parts.sku"), name),
      element("button", { type: "submit", text: words("policies.open") }));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const names = [channels.value, name.value.trim()].filter(Boolean);
      this.context.go(`#/policies/${names.map(encodeURIComponent).join("/")}`);
    });
    this.readChannels(channels, channel);
    return element("section", { class: "panel" }, element("div", { class: "panel-head" }, form));
  }

  async readChannels(channels, chosen) {
    try {
      const { items } = await this.context.client.channels();
      for (const name of items) if (name !== chosen) channels.append(new Option(name, name));
      if (!chosen && items.length) channels.value = items[0];
    } catch {
      // A name in the address can be opened all the same.
    }
  }

  // One level.

  open() {
    const { words } = this.context;
    const { channel, sku } = this.names;
    this.level = new PolicyLevel(this.context.client, channel, sku);
    this.editor = new PolicyEditor(this.context, this.names, this.mayChange, () => this.changed());
    const panel = element("section", { class: "panel", "aria-labelledby": "policy-level" });
    const name = [channel === "*" ? words("parts.all_channels") : channel, sku].filter(Boolean).join(" · ");
    panel.append(element("div", { class: "panel-head" }, this.heading = element("h2", { id: "policy-level", tabindex: "-1", text: name }), this.note = element("p", { class: "aside" })));
    this.part = new Part(this.context, panel);
    this.error = element("p", { class: "error note", role: "alert", tabindex: "-1" });
    this.previewed = element("section", { class: "panel", hidden: true, tabindex: "-1", "aria-labelledby": "policy-preview" });
    this.conflict = element("section", { class: "panel", hidden: true, tabindex: "-1", "aria-labelledby": "policy-conflict" });
    panel.append(this.error, this.buildButtons());
    this.history = new PolicyHistory(this.context, this.level, this.mayChange, (change) => this.rollback(change));
    this.history.root.hidden = true;
    this.root.append(panel, this.conflict, this.previewed, this.history.root);
    this.read();
  }

  buildButtons() {
    const { words } = this.context;
    const button = (key, kind, click) => element("button", { type: "button", class: kind, text: words(key), on: { click } });
    this.buttons = {
      preview: button("policies.preview", "primary", () => this.preview(this.editor.policy)),
      save: button("policies.save", "", () => this.save(this.editor.policy)),
      request: button("policies.request", "", () => this.ask(this.editor.policy)),
      undo: button("policies.undo", "", () => this.settle(this.shown)),
      remove: button("policies.remove", "danger", () => this.remove()),
    };
    this.bar = element("div", { class: "buttons note", hidden: true }, ...Object.values(this.buttons));
    return this.bar;
  }

  async read() {
    this.part.loading();
    try {
      this.show(await this.level.read(this.ending.signal));
      this.history.root.hidden = false;
      this.history.paging.reset();
      this.history.read(this.ending.signal);
    } catch (error) {
      if (!this.ending.signal.aborted) this.part.failed(error, () => this.read());
    }
  }

  show(policy) {
    const { words } = this.context;
    this.shown = policy;
    this.editor.show(policy.own, policy.effective);
    this.part.show([this.editor.root]);
    this.note.textContent = words(policy.own === null ? "policies.inherits" : "policies.has_own");
    this.conflict.hidden = true;
    this.bar.hidden = !this.mayChange;
    this.changed();
  }

  /** A change is done with, and with it the button that was pressed. */
  settle(policy) {
    this.show(policy);
    this.heading.focus({ preventScroll: true });
  }

  /** Another policy is written: what was previewed is no longer it. */
  changed() {
    this.seen = null;
    this.error.textContent = "";
    this.previewed.hidden = true;
    const { isChanged } = this.editor;
    this.buttons.preview.disabled = !isChanged;
    this.buttons.undo.disabled = !isChanged;
    this.buttons.save.disabled = true;
    this.buttons.request.disabled = !isChanged;
    this.buttons.remove.disabled = this.shown.own === null;
  }

  // What it would do.

  async preview(policy, before = null) {
    const { words } = this.context;
    this.error.textContent = "";
    const written = JSON.stringify(policy);
    this.buttons.preview.disabled = true;
    try {
      const preview = await this.level.preview(policy, before, this.ending.signal);
      if (policy !== null && JSON.stringify(this.editor.policy) !== written) return;
      this.seen = written;
      const title = element("h2", { id: "policy-preview", text: words(policy === null ? "policies.preview_removal" : "policies.preview_title") });
      const again = () => this.preview(policy, preview);
      const parts = previewOf(this.context, preview, again);
      if (policy === null) parts.push(element("div", { class: "buttons note" }, this.button("policies.remove_now", "danger", () => this.save(null))));
      this.previewed.replaceChildren(element("div", { class: "panel-head" }, title), ...parts);
      this.previewed.hidden = false;
      this.previewed.focus();
      this.buttons.save.disabled = policy === null;
    } catch (error) {
      if (!this.ending.signal.aborted) this.refused(error);
    } finally {
      this.buttons.preview.disabled = !this.editor.isChanged;
    }
  }

  button(key, kind, click) {
    return element("button", { type: "button", class: kind, text: this.context.words(key), on: { click } });
  }

  remove() {
    this.preview(null);
  }

  // Changes.

  async save(policy) {
    this.buttons.save.disabled = true;
    await this.change(policy, () => this.level.save(policy));
  }

  async rollback(change) {
    const { words, format } = this.context;
    const title = words("policies.rollback_title", { time: format.dateTime(change.at) });
    const question = { title, fields: [changesOf(this.context, this.shown.own, change.after)], action: words("policies.rollback") };
    if (await ask(this.context, question, () => {})) await this.change(change.after, () => this.level.rollback(change.version));
  }

  /** Makes a change, and shows what became of it. */
  async change(policy, send) {
    const { words } = this.context;
    try {
      this.settle(await send());
      this.context.say(words("policies.saved"));
      this.note.textContent = words("policies.saved");
      this.history.readNewer(this.ending.signal);
    } catch (error) {
      if (error.code === "policy_changed") await this.showConflict(policy);
      else if (error.code === "approval_required") await this.ask(policy, reasonOf(this.context, error));
      else this.refused(error);
    }
  }

  refused(error) {
    const errors = error.problem?.errors ?? [];
    const others = this.editor.showErrors(errors, error.code);
    if (errors.length && !others.length) return;
    this.error.textContent = others.join(" ") || reasonOf(this.context, error);
    if (errors.length === others.length) this.error.focus();
  }

  /** Another one was set since this one was read: both, and which shall be. */
  async showConflict(mine) {
    const { words } = this.context;
    try {
      const theirs = await this.level.read(this.ending.signal);
      this.conflict.replaceChildren(
        element("div", { class: "panel-head" }, element("h2", { id: "policy-conflict", text: words("policies.conflict") })),
        element("p", { class: "note", text: words("policies.conflict_help") }),
        element("h3", { class: "note", text: words("policies.theirs") }),
        changesOf(this.context, this.shown.own, theirs.own),
        element("h3", { class: "note", text: words("policies.mine") }),
        changesOf(this.context, theirs.own, mine),
        element("div", { class: "buttons note" },
          this.button("policies.take_theirs", "", () => this.settle(theirs)),
          this.button("policies.write_mine", "primary", () => this.writeOver(theirs, mine))));
      this.conflict.hidden = false;
      this.conflict.focus();
    } catch (error) {
      this.refused(error);
    }
  }

  /** Mine again, as a change of theirs: to be previewed as any other. */
  writeOver(theirs, mine) {
    this.show(theirs);
    if (mine === null) {
      this.remove();
      return;
    }
    this.editor.write(mine);
    this.changed();
    this.buttons.preview.focus();
  }

  async ask(policy, why = "") {
    const { words } = this.context;
    const reason = element("textarea", { name: "reason", rows: "3", required: true, maxlength: String(REASON_CHARACTERS_MAX) });
    const fields = [
      ...(why ? [element("p", { text: why })] : []),
      changesOf(this.context, this.shown.own, policy),
      field("policies-reason", words("policies.reason"), reason),
    ];
    const question = { title: words("policies.request_title"), fields, action: words("policies.request_send") };
    const sent = await ask(this.context, question, (form) => this.level.request(policy, String(form.get("reason")).trim()));
    if (!sent) return;
    this.settle(this.shown);
    this.note.textContent = words("policies.requested");
    this.context.say(words("policies.requested"));
  }
}

export default {
  id: "policies",
  title: "policies.title",
  roles: null,
  mount(root, context) {
    const page = new PoliciesPage(root, context);
    return () => page.stop();
  },
};
