// The requests that wait for a second person, read again at an interval.

import { call } from "./access.js";
import { element, nameOf, number } from "./marks.js";

// A request waits for minutes.
const READ_MS = 5000;
const ROWS_MAX = 20;
// An order may have 2,000 lines.
const LINES_MAX = 3;

export class Requests {
  constructor(panel, list, more) {
    this.panel = panel;
    this.list = list;
    this.more = more;
    this.read();
  }

  async read() {
    try {
      const answer = document.hidden ? null : await call(`/v1/approvals?limit=${ROWS_MAX}`);
      if (answer?.ok) this.draw(await answer.json());
    } catch {
      // The state of the connection is shown elsewhere; the next read follows.
    }
    setTimeout(() => this.read(), READ_MS);
  }

  draw(page) {
    this.panel.hidden = page.items.length === 0;
    this.more.hidden = !page.next;
    this.list.replaceChildren(...page.items.map((request) => this.line(request)));
  }

  line(request) {
    const until = new Date(request.expires_at);
    const time = element("time", { datetime: request.expires_at, text: until.toLocaleTimeString("en-GB") });
    const what = element("div", {}, element("strong", {}, nameOf(request.order_id)), " on ", nameOf(request.channel), ": ");
    for (const line of request.lines.slice(0, LINES_MAX)) what.append(`${number(line.quantity)} of `, nameOf(line.sku), ", ");
    const others = request.lines.length - LINES_MAX;
    if (others > 0) what.append(`${number(others)} more lines, `);
    what.append("requested by ", nameOf(request.requested_by), `: ${request.reason}`);
    return element("li", {}, time, what);
  }
}
