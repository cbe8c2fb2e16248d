// The running system of these tests, which `tests/integration/access/test_js_client.py` starts.

import { createClient } from "../src/index.js";
import { Proxy } from "./proxy.js";

export const URL_OF_API = need("STOCKTIDE_URL");
export const KEY = need("STOCKTIDE_KEY");
export const CHANNEL = "tmall";

let numbers = 0;

/** @param {string} name */
function need(name) {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set: run \`pytest tests/integration/access/test_js_client.py\``);
  return value;
}

/** @param {string} prefix */
export function unique(prefix) {
  return `${prefix}-js-${Date.now() % 1e9}-${(numbers += 1)}`;
}

/** @param {import("../src/http.js").ClientOptions} [options] */
export function connect(options = {}) {
  return createClient({ baseUrl: URL_OF_API, key: KEY, ...options });
}

/**
 * A client behind a proxy, both ended with the test.
 * @param {import("node:test").TestContext} test
 * @param {import("../src/http.js").ClientOptions} [options]
 */
export async function connectByProxy(test, options = {}) {
  const proxy = await new Proxy(URL_OF_API).start();
  test.after(() => proxy.stop());
  return { proxy, client: connect({ baseUrl: proxy.url, ...options }) };
}

/**
 * Units of a SKU, which the ledger has when this returns.
 * @param {import("../src/client.js").StocktideClient} client
 * @param {string} sku
 * @param {number} quantity
 */
export async function receive(client, sku, quantity) {
  const id = unique("receipt");
  const body = { type: /** @type {const} */ ("stock.received"), id, occurred_at: new Date().toISOString(), warehouse: "SH1", lines: [{ sku, quantity }] };
  await client.request("POST", "/v1/movements", { body });
  const path = { warehouse: "SH1", movement_id: id };
  await until(() => client.http.read("GET", "/v1/warehouses/{warehouse}/movements/{movement_id}", { path }).catch(() => null));
}

/**
 * Waits until `found` gives something, which it returns.
 * @template T
 * @param {() => T | Promise<T>} found
 * @param {number} [ms]
 * @returns {Promise<NonNullable<T>>}
 */
export async function until(found, ms = 30_000) {
  for (const end = Date.now() + ms; ;) {
    const value = await found();
    if (value) return value;
    if (Date.now() > end) throw new Error(`not within ${ms} ms: ${found}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
