// Requests that wait for a second person: forced orders, and policies.

import { ask } from "../dialog.js";
import { element, field, moment, nameOf, skuLink } from "../elements.js";
import { changesOf } from "../policy_fields.js";
import { poll } from "../poll.js";
import { Part } from "../states.js";

// A request waits for minutes.
const READ_MS = 5_000;
const PAGE_REQUESTS = 100;
// An order may have 2,000 lines.
const LINES_MAX = 10;
const DECIDERS = ["operator", "approver"];
const REASON_CHARACTERS_MAX = 500;

class ApprovalsPage {
  constructor(root, context) {
    this.context = context;
    this.drawn = "";
    const panel = element("section", { class: "panel" });
    this.part = new Part(context, panel);
    this.more = element("p", { class: "note", hidden: true, text: context.words("approvals.more", { most: PAGE_REQUESTS }) });
    panel.append(this.more);
    root.append(panel);
    this.part.loading();
    this.reading = poll((signal) => this.read(signal), READ_MS);
  }

  stop() {
    this.reading.stop();
  }

  async read(signal) {
    try {
      const query = { limit: PAGE_REQUESTS };
      this.show(await this.context.client.request("GET", "/v1/approvals", { query, signal }));
    } catch (error) {
      if (!signal.aborted) this.part.failed(error, () => this.reading.now());
    }
  }

  show({ items, next }) {
    const { words } = this.context;
    this.more.hidden = !next;
    if (!items.length) {
      this.drawn = "";
      this.part.empty(words("approvals.none"), words("approvals.none_hint"));
      return;
    }
    const drawn = JSON.stringify(items);
    this.part.show(drawn === this.drawn ? null : [element("ul", { class: "requests" }, ...items.map((request) => this.request(request)))]);
    this.drawn = drawn;
  }

  request(request) {
    const { words } = this.context;
    const isPolicy = request.kind === "policy";
    const title = isPolicy ? words("approvals.policy") : words("approvals.order");
    const isOwn = request.requested_by === this.context.holder;
    const by = element("p", { class: "aside" }, words("approvals.by", { name: request.requested_by }), " · ",
      moment(this.context, request.requested_at, "ago"), " · ", words("approvals.until"), " ", moment(this.context, request.expires_at));
    const own = isOwn ? element("p", { class: "badge mode-preorder", text: words("approvals.own") }) : "";
    return element("li", {},
      element("h2", {}, title, " ", this.subject(request)),
      by,
      own,
      element("p", {}, `${words("parts.reason")}: ${request.reason}`),
      isPolicy ? changesOf(this.context, request.before, request.after) : this.lines(request),
      this.buttons(request, isOwn));
  }

  subject(request) {
    const { words } = this.context;
    if (request.kind !== "policy") return element("span", {}, nameOf(request.order_id), " · ", nameOf(request.channel));
    const channel = request.channel === "*" ? words("parts.all_channels") : nameOf(request.channel);
    return element("span", {}, channel, ...(request.sku ? [" · ", skuLink(request.sku)] : []));
  }

  lines({ lines }) {
    const { words, format } = this.context;
    const shown = lines.slice(0, LINES_MAX).map(({ sku, quantity }) => element("li", {}, `${format.number(quantity)} × `, skuLink(sku)));
    const others = lines.length - shown.length;
    if (others > 0) shown.push(element("li", { text: words("approvals.more_lines", { count: format.number(others) }) }));
    return element("ul", { class: "request-lines" }, ...shown);
  }

  buttons(request, isOwn) {
    const { words, role } = this.context;
    if (!DECIDERS.includes(role)) return "";
    const about = `${request.order_id ?? request.channel} ${request.sku ?? ""}`.trim();
    const button = (key, kind, decide) => element("button", {
      type: "button", class: kind, text: words(key), "aria-label": `${words(key)}: ${about}`, on: { click: () => decide(request, about) },
    });
    const made = [button("approvals.reject", "danger", (...all) => this.reject(...all))];
    // The API refuses it too: the second person is another one.
    if (!isOwn) made.unshift(button("approvals.approve", "primary", (...all) => this.approve(...all)));
    return element("div", { class: "buttons" }, ...made);
  }

  async approve(request, about) {
    const { words } = this.context;
    const title = words("approvals.approve_title", { name: about });
    await this.decide(request, { title, action: words("approvals.approve") }, "approve", () => ({}));
  }

  async reject(request, about) {
    const { words } = this.context;
    const why = element("textarea", { name: "reason", rows: "3", required: true, maxlength: String(REASON_CHARACTERS_MAX) });
    const question = { title: words("approvals.reject_title", { name: about }), action: words("approvals.reject"), danger: true };
    const fields = [field("approvals-reason", words("approvals.why"), why)];
    await this.decide(request, { ...question, fields }, "reject", (form) => ({ reason: String(form.get("reason")).trim() }));
  }

  async decide(request, question, verb, bodyOf) {
    const { client, words } = this.context;
    const path = `/v1/approvals/{id}/${verb}`;
    const sent = await ask(this.context, question, (form) =>
      client.request("POST", path, { path: { id: request.id }, body: bodyOf(form) }));
    if (sent) this.context.say(words(`approvals.done_${verb}`));
    this.reading.now();
  }
}

export default {
  id: "approvals",
  title: "approvals.title",
  roles: null,
  mount(root, context) {
    const page = new ApprovalsPage(root, context);
    return () => page.stop();
  },
};
