import assert from "node:assert/strict";
import { test } from "node:test";

import { CLOSE_CODES } from "../src/index.js";
import { CHANNEL, connect, connectByProxy, receive, unique, until } from "./system.js";

/** @typedef {import("../src/feed.js").Feed} Feed */

/**
 * What a feed says, with a check that versions only grow.
 * @param {import("node:test").TestContext} t
 * @param {Feed} feed
 */
function record(t, feed) {
  const seen = {
    feed,
    /** @type {Map<string, {quantity: number, version: number}>} */ stock: new Map(),
    /** @type {string[]} */ events: [],
    /** @type {import("../src/index.js").StocktideError[]} */ errors: [],
    isFinal: false,
    updates: 0,
    /** @param {string} sku */
    quantity: (sku) => seen.stock.get(sku)?.quantity,
    /** @param {string} event */
    has: (event) => seen.events.includes(event),
  };
  feed.on("stock", (update) => {
    seen.updates += 1;
    assert.ok(update.version > (seen.stock.get(update.sku)?.version ?? 0));
    seen.stock.set(update.sku, update);
  });
  for (const event of /** @type {const} */ (["synced", "resumed", "reset"])) feed.on(event, () => seen.events.push(event));
  feed.on("error", (error, final) => {
    seen.errors.push(error);
    seen.isFinal = final;
  });
  t.after(() => feed.close());
  return seen;
}

for (const transport of /** @type {const} */ (["sse", "websocket"])) {
  test(`${transport}: a feed goes on after a dropped connection and misses nothing`, async (t) => {
    const { proxy, client } = await connectByProxy(t);
    const direct = connect();
    const prefix = unique("resume");
    const skus = [1, 2, 3].map((number) => `${prefix}-${number}`);
    for (const sku of skus) await receive(direct, sku, 10);
    const seen = record(t, client.feed(CHANNEL, { transport, prefixes: [prefix] }));
    await until(() => seen.has("synced") && seen.stock.size === 3 && seen.feed.lastEventId);
    assert.equal(seen.feed.state, "live");
    proxy.drop(true);
    await until(() => seen.errors.length > 0);
    assert.equal(seen.isFinal, false);
    await direct.orders.place({ order_id: unique("order"), channel: CHANNEL, lines: [{ sku: skus[0], quantity: 4 }] });
    await receive(direct, `${prefix}-4`, 7);
    proxy.isDown = false;
    await until(() => seen.quantity(skus[0]) === 6 && seen.quantity(`${prefix}-4`) === 7);
    assert.ok(seen.has("resumed") && !seen.has("reset"));
    assert.equal(seen.quantity(skus[1]), 10);
    await until(() => seen.feed.state === "live");
    // What had not changed was not sent again.
    assert.equal(seen.updates, 5);
  });

  test(`${transport}: a page that starts again goes on from an id that it has kept`, async (t) => {
    const client = connect();
    const sku = unique("kept");
    await receive(client, sku, 5);
    const before = record(t, client.feed(CHANNEL, { transport, skus: [sku] }));
    await until(() => before.feed.lastEventId && before.feed.state === "live");
    before.feed.close();
    await receive(client, sku, 1);
    const { lastEventId } = before.feed;
    const after = record(t, client.feed(CHANNEL, { transport, skus: [sku], lastEventId }));
    await until(() => after.quantity(sku) === 6);
    assert.ok(after.has("resumed"));
    const unknown = record(t, client.feed(CHANNEL, { transport, skus: [sku], lastEventId: "no-such-id" }));
    await until(() => unknown.quantity(sku) === 6);
    assert.ok(unknown.has("reset"));
  });

  test(`${transport}: a feed on which nothing arrives is opened again`, async (t) => {
    const { proxy, client } = await connectByProxy(t);
    const sku = unique("silent");
    await receive(connect(), sku, 5);
    const seen = record(t, client.feed(CHANNEL, { transport, skus: [sku], silenceMsMax: 1_500 }));
    await until(() => seen.feed.state === "live");
    proxy.isSilent = true;
    await until(() => seen.errors.some((error) => error.code === "timeout"));
    proxy.isSilent = false;
    await receive(connect(), sku, 1);
    await until(() => seen.quantity(sku) === 6);
  });

  test(`${transport}: another selection is sent what it has not, and nothing else`, async (t) => {
    const client = connect();
    const name = unique("select");
    const [a, b, c] = ["a", "b", "c"].map((letter) => `${name}-${letter}`);
    for (const sku of [a, b, c]) await receive(client, sku, 5);
    const seen = record(t, client.feed(CHANNEL, { transport, skus: [a] }));
    await until(() => seen.feed.state === "live");
    assert.deepEqual([...seen.stock.keys()], [a]);
    seen.feed.select({ skus: [b], prefixes: [`${name}-c`] });
    await until(() => seen.quantity(b) && seen.quantity(c));
    await receive(client, a, 1);
    await receive(client, b, 1);
    await until(() => seen.quantity(b) === 6);
    assert.equal(seen.quantity(a), 5);
    // Its version has not changed since it was forgotten, but for `a` it is one that was not sent.
    seen.feed.select({ skus: [] });
    assert.equal(seen.feed.state, "idle");
    seen.stock.clear();
    seen.feed.select({ skus: [a, b, c] });
    await until(() => seen.stock.size === 3);
    assert.equal(seen.quantity(a), 6);
  });

  test(`${transport}: a feed without a valid key ends and asks to sign in`, async (t) => {
    const seen = record(t, connect({ key: "stk_local_wrong" }).feed(CHANNEL, { transport }));
    await until(() => seen.isFinal);
    assert.ok(seen.errors[0].needsSignIn);
    assert.equal(seen.feed.state, "closed");
  });
}

test("sse: what the API refuses is not asked for again", async (t) => {
  const seen = record(t, connect().feed("*"));
  await until(() => seen.isFinal);
  assert.deepEqual([seen.errors[0].status, seen.errors[0].code], [422, "invalid_field"]);
});

test("websocket: the selection of an open socket changes without another connection", async (t) => {
  const { proxy, client } = await connectByProxy(t);
  const name = unique("live");
  for (const letter of "abc") await receive(connect(), `${name}-${letter}`, 5);
  const seen = record(t, client.feed(CHANNEL, { transport: "websocket", skus: [`${name}-a`] }));
  await until(() => seen.feed.state === "live");
  const { connections } = proxy;
  seen.feed.select({ skus: [`${name}-b`] });
  await until(() => seen.quantity(`${name}-b`));
  // Away and back before a message was sent: the value is sent again all the same.
  seen.feed.select({ skus: [`${name}-c`] });
  seen.feed.select({ skus: [`${name}-b`, `${name}-c`] });
  seen.stock.clear();
  await until(() => seen.stock.size === 2);
  assert.deepEqual([...seen.stock.keys()].sort(), [`${name}-b`, `${name}-c`]);
  assert.equal(proxy.connections, connections);
  proxy.drop();
  await receive(connect(), `${name}-b`, 1);
  await until(() => seen.quantity(`${name}-b`) === 6);
  assert.throws(() => seen.feed.select({ prefixes: Array.from({ length: 51 }, (_, number) => `${number}`) }), {
    code: "too_many_subscriptions",
  });
  seen.feed.select({ skus: ["not a name"] });
  await until(() => seen.errors.some((error) => error.path === "skus[0]"));
});

test("a hidden page pauses its feed and misses nothing", async (t) => {
  const client = connect();
  const sku = unique("hidden");
  await receive(client, sku, 5);
  const seen = record(t, client.feed(CHANNEL, { transport: "websocket", skus: [sku] }));
  await until(() => seen.feed.state === "live");
  seen.feed.pause();
  await receive(client, sku, 1);
  assert.deepEqual([seen.feed.state, seen.quantity(sku)], ["idle", 5]);
  seen.feed.resume();
  await until(() => seen.quantity(sku) === 6);
  assert.deepEqual([seen.has("resumed"), seen.updates], [true, 2]);
});

test("a listener that fails ends the feed and is named", async (t) => {
  const client = connect();
  const sku = unique("fails");
  await receive(client, sku, 5);
  const feed = client.feed(CHANNEL, { skus: [sku] });
  const seen = record(t, feed);
  feed.on("stock", () => { throw new RangeError("no row"); });
  await until(() => seen.isFinal);
  assert.equal(seen.errors[0].code, "listener_failed");
  assert.ok(seen.errors[0].cause instanceof RangeError);
});

test("a listener that fails before there is a connection ends the feed too", async (t) => {
  const seen = record(t, connect().feed(CHANNEL));
  seen.feed.on("state", () => { throw new Error("mine"); });
  await until(() => seen.errors.length > 0);
  assert.deepEqual([seen.errors[0].code, seen.isFinal, seen.feed.state], ["listener_failed", true, "closed"]);
});

test("a feed that is closed or paused as it begins to connect opens nothing", async (t) => {
  const { proxy, client } = await connectByProxy(t);
  for (const [end, state] of /** @type {const} */ ([["close", "closed"], ["pause", "idle"]])) {
    for (const transport of /** @type {const} */ (["sse", "websocket"])) {
      const { feed } = record(t, client.feed(CHANNEL, { transport }));
      feed.on("state", (now) => { if (now === "connecting") feed[end](); });
      await until(() => feed.state === state);
    }
  }
  await client.channels();
  assert.equal(proxy.connections, 1);
});

test("a ticket opens one connection and no second one", async () => {
  const client = connect();
  const { ticket } = await client.request("POST", "/v1/feeds/tickets");
  const open = () => fetch(client.http.url("/v1/channels/{channel}/feed", { channel: CHANNEL }, { ticket }));
  const first = await open();
  assert.equal(first.status, 200);
  await first.body?.cancel();
  assert.equal((await open()).status, 401);
});

test("each change of an order is told", async (t) => {
  const client = connect();
  const sku = unique("told");
  await receive(client, sku, 5);
  /** @type {string[]} */
  const states = [];
  const order_id = unique("order");
  const feed = client.orderFeed(CHANNEL);
  t.after(() => feed.close());
  feed.on("order", (order) => { if (order.order_id === order_id) states.push(order.state); });
  await until(() => feed.state === "live");
  await client.orders.place({ order_id, channel: CHANNEL, lines: [{ sku, quantity: 1 }] });
  await client.orders.cancel(order_id);
  await until(() => states.length === 2);
  assert.deepEqual(states, ["reserved", "cancelled"]);
});

test("the codes that end a feed are those of the API", () => {
  const named = Object.fromEntries(Object.entries(CLOSE_CODES).map(([code, { name }]) => [code, name]));
  assert.deepEqual(named, JSON.parse(process.env.STOCKTIDE_CLOSE_CODES ?? "{}"));
});
