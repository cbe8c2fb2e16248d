import assert from "node:assert/strict";
import { test } from "node:test";

import { createClient, StocktideError } from "../src/index.js";
import { CHANNEL, connect, connectByProxy, receive, unique } from "./system.js";

const line = (/** @type {string} */ sku, quantity = 1) => ({ order_id: unique("order"), channel: CHANNEL, lines: [{ sku, quantity }] });

/**
 * @param {Promise<unknown>} call
 * @returns {Promise<StocktideError>}
 */
const errorOf = (call) => call.then(() => assert.fail("it succeeded"), (error) => error);

test("an address that no call can reach is refused at once", () => {
  for (const baseUrl of ["127.0.0.1:8080", "ftp://shop", "http://", "/"]) {
    assert.throws(() => createClient({ baseUrl }), { name: "TypeError", message: /baseUrl/ });
  }
});

test("an order whose answer was lost is sent again and counts once", async (t) => {
  const { proxy, client } = await connectByProxy(t);
  const sku = unique("sku");
  await receive(connect(), sku, 10);
  proxy.losing = 2;
  const order = await client.orders.place(line(sku, 3));
  assert.equal(order.state, "reserved");
  assert.equal(proxy.losing, 0);
  assert.equal((await client.stock(sku)).available, 7);
});

test("an event of an order whose answer was lost has one id for all attempts", async (t) => {
  const { proxy, client } = await connectByProxy(t);
  const sku = unique("sku");
  await receive(connect(), sku, 10);
  const order = line(sku, 4);
  await client.orders.place(order);
  proxy.drop();
  proxy.losing = 1;
  const changed = await client.orders.change(order.order_id, { remove: [{ sku, quantity: 1 }] });
  assert.equal(proxy.losing, 0);
  assert.equal(changed.replayed, true);
  assert.equal((await client.stock(sku)).available, 7);
  assert.equal((await client.orders.pay(order.order_id)).state, "paid");
  assert.equal((await client.orders.get(order.order_id)).state, "paid");
});

test("what has no id is not sent again", async (t) => {
  const { proxy, client } = await connectByProxy(t);
  proxy.losing = 9;
  const error = await errorOf(client.request("POST", "/v1/feeds/tickets"));
  assert.deepEqual([error.code, error.status, proxy.losing], ["no_answer", 0, 8]);
});

test("the API is asked again after the time that it names, and a longer one is the caller's", async (t) => {
  const { proxy, client } = await connectByProxy(t);
  const refused = (/** @type {number} */ seconds) =>
    `HTTP/1.1 503 Unavailable\r\nRetry-After: ${seconds}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n`;
  proxy.answers = [refused(1)];
  const started = Date.now();
  await client.channels();
  assert.ok(Date.now() - started >= 1000);
  proxy.drop();
  proxy.answers = [refused(3600)];
  const error = await errorOf(client.channels());
  assert.deepEqual([error.status, error.code, error.retryAfterMs], [503, "http_503", 3_600_000]);
});

test("attempts end: a host that is not there is an error", async (t) => {
  const { proxy, client } = await connectByProxy(t, { attemptsMax: 2 });
  proxy.drop(true);
  const error = await errorOf(client.channels());
  assert.deepEqual([error.code, error.needsSignIn, proxy.connections], ["no_answer", false, 2]);
});

test("an API that does not answer in time is an error, and a caller may end a call", async (t) => {
  const { proxy, client } = await connectByProxy(t, { attemptsMax: 1, attemptMsMax: 100 });
  proxy.isSilent = true;
  assert.equal((await errorOf(client.channels())).code, "timeout");
  const controller = new AbortController();
  setTimeout(() => controller.abort(), 20);
  assert.equal((await errorOf(client.request("GET", "/v1/channels", { signal: controller.signal }))).code, "aborted");
});

test("a problem document is an error with its code, status, detail and path", async () => {
  const client = connect();
  const wrong = await errorOf(client.orders.place(line("", 1)));
  assert.ok(wrong instanceof StocktideError);
  assert.deepEqual([wrong.status, wrong.code, wrong.path], [422, "invalid_field", "lines[0].sku"]);
  const refused = await errorOf(client.orders.place(line(unique("nothing"), 1)));
  assert.equal(refused.status, 409);
  assert.equal(refused.problem?.code, refused.code);
  assert.ok(refused.detail.length > 10);
  const stranger = await errorOf(connect({ key: "stk_local_wrong" }).channels());
  assert.deepEqual([stranger.status, stranger.code, stranger.needsSignIn], [401, "unauthorized", true]);
});

test("a name may hold any character", async () => {
  const client = connect();
  const sku = unique("a/b?c#d%e+é");
  await receive(client, sku, 2);
  assert.equal((await client.stock(sku)).sku, sku);
});

test("the key is asked for before each call", async () => {
  let asked = 0;
  const key = process.env.STOCKTIDE_KEY;
  const client = connect({ key: undefined, getKey: async () => ((asked += 1), key) });
  await client.channels();
  await client.channelStock(CHANNEL, { limit: 1 });
  assert.equal(asked, 2);
});

test("an id that is undefined is made, and what has none is not sent again", async (t) => {
  const { proxy, client } = await connectByProxy(t);
  const sku = unique("sku");
  await receive(connect(), sku, 10);
  const order = line(sku, 4);
  await client.orders.place(order);
  proxy.drop();
  proxy.losing = 1;
  const part = { id: undefined, lines: [{ sku, quantity: 1 }] };
  assert.equal((await client.orders.cancel(order.order_id, part)).replayed, true);
  assert.equal((await client.stock(sku)).available, 7);
  proxy.losing = 9;
  const path = { order_id: order.order_id };
  await errorOf(client.request("POST", "/v1/orders/{order_id}/cancel", { path, body: part }));
  assert.equal(proxy.losing, 8);
});
