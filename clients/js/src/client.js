// The client: typed calls, and feeds.

import { Feed } from "./feed.js";
import { Http } from "./http.js";

/** @typedef {import("../types/calls.d.ts").Schemas} Schemas */

/**
 * A client of one API.
 * @param {import("./http.js").ClientOptions} [options]
 */
export function createClient(options = {}) {
  return new StocktideClient(options);
}

export class StocktideClient {
  /** @param {import("./http.js").ClientOptions} [options] */
  constructor(options = {}) {
    this.http = new Http(options);
    this.orders = new Orders(this);
  }

  /**
   * Any call of the API, by its path in `/openapi.json`. Throws a StocktideError unless it succeeds.
   * @template {import("../types/calls.d.ts").Path} P
   * @template {import("../types/calls.d.ts").Method<P>} M
   * @param {M} method
   * @param {P} path with the names in braces, as `/v1/orders/{order_id}`
   * @param {import("../types/calls.d.ts").RequestOptions<P, M>} [options]
   * @returns {Promise<import("../types/calls.d.ts").Answer<P, M>>}
   */
  request(method, path, options) {
    return this.http.read(method, path, /** @type {import("./http.js").CallOptions} */ (options));
  }

  /** The channels that are known. */
  channels() {
    return this.request("GET", "/v1/channels");
  }

  /**
   * What is there of a SKU, in all warehouses.
   * @param {string} sku
   */
  stock(sku) {
    return this.request("GET", "/v1/stock/{sku}", { path: { sku } });
  }

  /**
   * A page of what a channel may sell.
   * @param {string} channel
   * @param {import("../types/calls.d.ts").RequestOptions<"/v1/channels/{channel}/stock", "GET">["query"]} [query]
   */
  channelStock(channel, query) {
    return this.request("GET", "/v1/channels/{channel}/stock", { path: { channel }, query });
  }

  /**
   * The policy of a channel, or of one SKU there.
   * @param {string} channel
   * @param {string} [sku]
   */
  policy(channel, sku) {
    if (sku === undefined) return this.request("GET", "/v1/policies/{channel}", { path: { channel } });
    return this.request("GET", "/v1/policies/{channel}/{sku}", { path: { channel, sku } });
  }

  /**
   * What a channel may sell, now and from now on. It connects by itself, and again, until it is closed.
   * @param {string} channel
   * @param {import("./feed.js").FeedOptions} [options]
   */
  feed(channel, options) {
    return new Feed(this.http, channel, options);
  }

  /**
   * Each change of a channel's orders from now on, or from `lastEventId` on. After a new connection one may come twice.
   * @param {string} channel
   * @param {{lastEventId?: string | null}} [options]
   */
  orderFeed(channel, options) {
    return new Feed(this.http, channel, { ...options, of: "orders" });
  }
}

/** Each of these counts once, however often it is sent: it has an id. */
class Orders {
  /** @param {StocktideClient} client */
  constructor(client) {
    this.client = client;
  }

  /**
   * Holds units. The order's id makes a repeated call the same one.
   * @param {import("../types/calls.d.ts").Body<"/v1/orders", "POST">} order
   */
  place(order) {
    return this.client.request("POST", "/v1/orders", { body: order, retry: true });
  }

  /** @param {string} orderId */
  get(orderId) {
    return this.client.request("GET", "/v1/orders/{order_id}", { path: { order_id: orderId } });
  }

  /**
   * @param {string} orderId
   * @param {import("../types/calls.d.ts").Body<"/v1/orders/{order_id}/pay", "POST">} [body] `id`: of the payment
   */
  pay(orderId, body = {}) {
    return this.#send("pay", orderId, body);
  }

  /**
   * @param {string} orderId
   * @param {import("../types/calls.d.ts").Body<"/v1/orders/{order_id}/cancel", "POST">} [body] without lines, all of it
   */
  cancel(orderId, body = {}) {
    return this.#send("cancel", orderId, body);
  }

  /**
   * @param {string} orderId
   * @param {import("../types/calls.d.ts").Body<"/v1/orders/{order_id}/extend", "POST">} [body]
   */
  extend(orderId, body = {}) {
    return this.#send("extend", orderId, body);
  }

  /**
   * @param {string} orderId
   * @param {import("../types/calls.d.ts").Body<"/v1/orders/{order_id}/change", "POST">} body
   */
  change(orderId, body) {
    return this.#send("change", orderId, body);
  }

  /**
   * @param {"pay" | "cancel" | "extend" | "change"} action
   * @param {string} orderId
   * @param {{id?: string | null}} body
   * @returns {Promise<Schemas["Order"]>}
   */
  #send(action, orderId, body) {
    const names = { order_id: orderId };
    // One id for all attempts, also where the caller's is undefined.
    const own = { ...body, id: body.id ?? newId() };
    return this.client.http.read("POST", `/v1/orders/{order_id}/${action}`, { path: names, body: own, retry: true });
  }
}

/** A random id. `crypto.randomUUID` is missing in pages without TLS. */
function newId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
