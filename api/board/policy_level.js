// One level of policies over the API: read with its tag, previewed, changed only if it is the one that was read.

const PREVIEW_ITEMS_MAX = 200;

export class PolicyLevel {
  constructor(client, channel, sku) {
    this.client = client;
    this.names = sku ? { channel, sku } : { channel };
    this.level = sku ? "{channel}/{sku}" : "{channel}";
    this.path = `/v1/policies/${this.level}`;
    /** The tag of what was read. */
    this.tag = "";
  }

  /** `{own, effective}`. */
  async read(signal) {
    return this.#taken(await this.client.http.call("GET", this.path, { path: this.names, signal }));
  }

  /** Replaces the policy that was read; null removes it. Throws 412 if another one was set meanwhile. */
  async save(policy) {
    const options = { path: this.names, headers: this.#match };
    if (policy === null) {
      await this.client.http.call("DELETE", this.path, options);
      return this.read();
    }
    return this.#taken(await this.client.http.call("PUT", this.path, { ...options, body: policy }));
  }

  /** Sets again what a version of the history had set. */
  async rollback(version) {
    const options = { path: this.names, headers: this.#match, body: { version } };
    return this.#taken(await this.client.http.call("POST", `${this.path}/rollback`, options));
  }

  /** Asks a second person. */
  request(policy, reason) {
    return this.client.http.read("POST", `${this.path}/request`, { path: this.names, body: { policy, reason } });
  }

  history(cursor, limit, signal) {
    return this.client.http.read("GET", `/v1/policy_history/${this.level}`, { path: this.names, query: { cursor, limit }, signal });
  }

  /** A part of a preview, added to what was previewed before. */
  async preview(policy, before, signal) {
    const options = { path: this.names, body: policy, query: { cursor: before?.next ?? undefined }, retry: true, signal };
    const page = await this.client.http.read("POST", `${this.path}/preview`, options);
    if (!before) return page;
    const items = [...before.items, ...page.items].slice(0, PREVIEW_ITEMS_MAX);
    return {
      ...page,
      items,
      examined: before.examined + page.examined,
      changed: before.changed + page.changed,
      quantity: added(before.quantity, page.quantity),
      modes: { before: added(before.modes.before, page.modes.before), after: added(before.modes.after, page.modes.after) },
    };
  }

  get #match() {
    return { "If-Match": this.tag };
  }

  async #taken(answer) {
    this.tag = answer.headers.get("ETag") ?? "";
    return answer.json();
  }
}

function added(some, others) {
  return Object.fromEntries(Object.entries(some).map(([name, value]) => [name, value + others[name]]));
}
