// A feed that stays: it connects again where it was, misses nothing, and hands out only versions that grow.

import { pauseMs, wait } from "./backoff.js";
import { mayReconnect } from "./close_codes.js";
import { StocktideError } from "./errors.js";
import { readEventStream } from "./event_stream.js";
import { Selection } from "./selection.js";
import { FeedSocket, openSocket } from "./socket.js";

// The API sends a heartbeat every 15 s; after two that are missing the connection is dead.
const SILENCE_MS_MAX = 35_000;
const PAUSE_MS = 300;
const PAUSE_MS_MAX = 10_000;
// The API takes five messages a second of a socket; a change of the selection is two.
const SELECT_MS = 500;

/** `connecting`: also again. `syncing`: what was there before arrives. `live`: it has all, and gets each change.
 * `unready`: open, and the API says that numbers are late. `idle`: nothing is selected, or paused. `closed`: for good.
 * @typedef {"idle" | "connecting" | "syncing" | "live" | "unready" | "closed"} FeedState
 */

/** What a channel may sell of a SKU.
 * @typedef {import("../types/openapi.d.ts").components["schemas"]["ChannelUpdate"]} ChannelUpdate
 * @typedef {import("../types/openapi.d.ts").components["schemas"]["Order"]} Order
 */

/** What listeners get.
 * @typedef {object} FeedEvents
 * @property {(update: ChannelUpdate, live: boolean) => void} stock `live` is false for what was there before
 * @property {(order: Order, live: boolean) => void} order
 * @property {(position: {channel: string}) => void} synced all that was there before has arrived
 * @property {(position: {channel: string}) => void} resumed the feed goes on where it was
 * @property {(reset: {channel: string, reason: string}) => void} reset forget all: everything is sent anew
 * @property {(status: {ready: boolean, reasons: Record<string, string>}) => void} status
 * @property {(error: StocktideError, final: boolean) => void} error a connection ended; `final`: it stays so
 * @property {(state: FeedState) => void} state
 */

/** @typedef {{transport?: "sse" | "websocket", of?: "stock" | "orders", skus?: Iterable<string>,
 *   prefixes?: Iterable<string>, lastEventId?: string | null, silenceMsMax?: number}} FeedOptions
 */

export class Feed {
  /** @type {Map<string, Set<Function>>} */
  #listeners = new Map();
  /** The newest version of each SKU that was handed out: what is not newer was sent before. @type {Map<string, number>} */
  #versions = new Map();
  /** Ends the loop: pause and close. @type {AbortController | null} */
  #running = null;
  /** Ends one connection only. @type {AbortController | null} */
  #connection = null;
  /** @type {FeedSocket | null} */
  #socket = null;
  /** @type {Selection} */
  #wanted;
  /** What the open socket has; null while there is none. @type {Selection | null} */
  #sent = null;
  /** Names that are to be sent although the socket has them: their values were forgotten meanwhile. */
  #again = { skus: new Set(), prefixes: new Set() };
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #selecting;
  #messages = 0;
  #isPaused = false;
  #aliveAt = 0;
  #synced = false;
  #ready = true;

  /**
   * @param {import("./http.js").Http} http
   * @param {string} channel
   * @param {FeedOptions} [options]
   */
  constructor(http, channel, options = {}) {
    this.http = http;
    this.channel = channel;
    this.transport = options.transport ?? "sse";
    this.of = options.of ?? "stock";
    this.silenceMsMax = options.silenceMsMax ?? SILENCE_MS_MAX;
    /** The id from which the next connection goes on; store it to go on after a restart. @type {string | null} */
    this.lastEventId = options.lastEventId ?? null;
    /** @type {FeedState} */
    this.state = "idle";
    const { skus, prefixes } = options;
    this.#wanted = new Selection(skus || prefixes ? { skus, prefixes } : null);
    // Listeners that are added now get everything.
    queueMicrotask(() => this.#start());
  }

  /**
   * Adds a listener; the result removes it.
   * @template {keyof FeedEvents} E
   * @param {E} event
   * @param {FeedEvents[E]} listener
   * @returns {() => void}
   */
  on(event, listener) {
    const listeners = this.#listeners.get(event) ?? new Set();
    this.#listeners.set(event, listeners.add(listener));
    return () => listeners.delete(listener);
  }

  /** Goes on after `pause`, where it was. */
  resume() {
    this.#isPaused = false;
    this.#start();
  }

  /** Closes the connection and keeps the position, as for a hidden page. */
  pause() {
    this.#isPaused = true;
    this.#stop();
  }

  /** Ends the feed for good. */
  close() {
    this.#stop();
    this.#become("closed");
  }

  /**
   * Changes which SKUs it has: at once on an open socket, else by a new connection. What is selected again is sent
   * again.
   * @param {import("./selection.js").Selected | null} selected null: the whole channel
   */
  select(selected) {
    const wanted = new Selection(selected);
    const before = this.#wanted;
    const added = wanted.without(before);
    for (const sku of added.skus) this.#again.skus.add(sku);
    for (const prefix of added.prefixes) this.#again.prefixes.add(prefix);
    this.#wanted = wanted;
    for (const sku of this.#versions.keys()) if (!wanted.has(sku)) this.#versions.delete(sku);
    if (wanted.isEmpty) return this.#stop();
    if (this.#running === null) return this.#start();
    if (wanted.isEverything !== before.isEverything || this.transport === "sse") return this.#reconnect();
    this.#selecting ??= setTimeout(() => this.#sendSelection(), this.#messages ? SELECT_MS : 0);
  }

  #start() {
    if (this.#running !== null || this.#isPaused || this.state === "closed" || this.#wanted.isEmpty) return;
    this.#running = new AbortController();
    void this.#run(this.#running.signal);
  }

  #stop() {
    this.#running?.abort();
    this.#running = null;
    this.#become("idle");
  }

  /** @param {AbortSignal} signal */
  async #run(signal) {
    for (let attempt = 1; !signal.aborted; attempt += 1) {
      const error = await this.#connect(signal);
      if (signal.aborted) return;
      if (this.#synced || error.code === "selected") attempt = 1;
      if (error.code === "selected") continue;
      const isFinal = !mayReconnect(error);
      if (isFinal) this.close();
      this.#emit("error", error, isFinal);
      const pause = pauseMs(attempt, PAUSE_MS, PAUSE_MS_MAX);
      if (!isFinal) await wait(Math.max(pause, Math.min(error.retryAfterMs ?? 0, PAUSE_MS_MAX)), signal);
    }
  }

  /**
   * One connection, until it ends.
   * @param {AbortSignal} signal
   * @returns {Promise<StocktideError>}
   */
  async #connect(signal) {
    const connection = (this.#connection = new AbortController());
    const end = () => connection.abort();
    signal.addEventListener("abort", end);
    this.#synced = false;
    this.#ready = true;
    this.#aliveAt = Date.now();
    const watch = setInterval(() => this.#watch(connection), this.silenceMsMax / 4);
    /** @type {import("./event_stream.js").Receiver} */
    const receiver = {
      opened: () => this.#become("syncing"),
      alive: () => { this.#aliveAt = Date.now(); },
      frame: (frame) => { if (!connection.signal.aborted) this.#receive(frame); },
    };
    try {
      this.#become("connecting");
      if (this.transport === "sse") return await readEventStream(this.http, this.#url({}), receiver, connection.signal);
      return await this.#runSocket(receiver, connection.signal);
    } catch (error) {
      if (connection.signal.reason instanceof StocktideError) return connection.signal.reason;
      if (error instanceof StocktideError) return error;
      return new StocktideError("no_answer", `the feed broke: ${/** @type {any} */ (error)?.message}`, { cause: error });
    } finally {
      connection.abort();
      clearInterval(watch);
      signal.removeEventListener("abort", end);
      if (this.#connection === connection) this.#dropSocket();
    }
  }

  /**
   * @param {import("./event_stream.js").Receiver} receiver
   * @param {AbortSignal} signal
   */
  async #runSocket(receiver, signal) {
    const ticket = (await this.http.key()) ? await this.#ticket(signal) : undefined;
    if (signal.aborted) throw new StocktideError("aborted", "the feed was closed");
    this.#sent = this.#wanted;
    this.#forgetChanges();
    this.#socket = new FeedSocket(openSocket(this.http, this.#url({ ticket })), receiver);
    return this.#socket.run(signal);
  }

  #dropSocket() {
    clearTimeout(this.#selecting);
    this.#selecting = undefined;
    this.#socket = null;
    this.#sent = null;
  }

  /** A ticket opens one connection: no header can be sent with a socket, and no key belongs into a URL.
   * @param {AbortSignal} signal
   * @returns {Promise<string>}
   */
  async #ticket(signal) {
    return (await this.http.read("POST", "/v1/feeds/tickets", { retry: true, signal })).ticket;
  }

  /** @param {{ticket?: string}} more */
  #url(more) {
    const end = this.of === "orders" ? "orders/feed" : this.transport === "sse" ? "feed" : "socket";
    const query = { ...this.#wanted.query, last_event_id: this.lastEventId, ...more };
    return this.http.url(`/v1/channels/{channel}/${end}`, { channel: this.channel }, query);
  }

  /** @param {import("./event_stream.js").Frame} frame */
  #receive({ event, data, id }) {
    if (event === "stock") this.#receiveStock(data);
    else if (event === "order") this.#emit("order", data, this.#synced);
    else if (event === "reset") this.#forget();
    else if (event === "synced") this.#synced = true;
    else if (event === "status") this.#ready = data.ready;
    else if (event === "error") throw new StocktideError(data.code, data.detail);
    else if (event === "rejected") return this.#rejected(data);
    if (event === "synced" || event === "resumed" || event === "reset" || event === "status") {
      this.#emit(event, data);
      this.#become(!this.#ready ? "unready" : this.#synced ? "live" : "syncing");
    }
    // Only now: who fails before this gets the event again.
    if (id !== null) this.lastEventId = id;
  }

  /** @param {ChannelUpdate} update */
  #receiveStock(update) {
    const { sku, version } = update;
    // Sent before, or on its way when it was deselected.
    if (version <= (this.#versions.get(sku) ?? 0) || !this.#wanted.has(sku)) return;
    this.#versions.set(sku, version);
    this.#emit("stock", update, this.#synced);
  }

  /** Everything is sent anew, perhaps with lower versions: the system was restored. */
  #forget() {
    this.#versions.clear();
    this.lastEventId = null;
    this.#synced = false;
  }

  #forgetChanges() {
    this.#again.skus.clear();
    this.#again.prefixes.clear();
  }

  /** @param {{code: string, detail: string, path: string | null}} rejected */
  #rejected(rejected) {
    this.#emit("error", new StocktideError(rejected.code, rejected.detail, { path: rejected.path }), false);
  }

  #sendSelection() {
    this.#selecting = undefined;
    if (this.#socket === null || this.#sent === null) return; // the next connection begins with it
    if (!this.#socket.isOpen) {
      this.#selecting = setTimeout(() => this.#sendSelection(), SELECT_MS);
      return;
    }
    const wanted = this.#wanted;
    const skus = [...this.#again.skus].filter((sku) => wanted.skus.has(sku));
    const prefixes = [...this.#again.prefixes].filter((prefix) => wanted.prefixes.has(prefix));
    const removed = this.#sent.without(wanted);
    const identity = (this.#messages += 1);
    // What is removed goes first: both together may be more than one feed may have.
    if (removed.skus.length + removed.prefixes.length) this.#socket.send({ type: "unsubscribe", id: identity, ...removed });
    if (skus.length + prefixes.length) this.#socket.send({ type: "subscribe", id: identity, skus, prefixes });
    this.#sent = wanted;
    this.#forgetChanges();
  }

  #reconnect() {
    this.#connection?.abort(new StocktideError("selected", "another selection"));
  }

  /** @param {AbortController} connection */
  #watch(connection) {
    const silence = Date.now() - this.#aliveAt;
    if (silence > this.silenceMsMax) {
      connection.abort(new StocktideError("timeout", `nothing arrived for ${this.silenceMsMax / 1000} s`));
    } else if (silence > this.silenceMsMax / 2) this.#socket?.probe();
  }

  /** @param {FeedState} state */
  #become(state) {
    if (this.state === state || this.state === "closed") return;
    this.state = state;
    this.#emit("state", state);
  }

  /**
   * @param {string} event
   * @param {...unknown} details
   */
  #emit(event, ...details) {
    for (const listener of this.#listeners.get(event) ?? []) {
      try {
        listener(...details);
      } catch (cause) {
        // The same event would come again, and fail again; so would the news that the feed has ended.
        this.#listeners.get(event)?.delete(listener);
        throw new StocktideError("listener_failed", `a listener of \`${event}\` threw: ${cause}`, { cause });
      }
    }
  }
}
