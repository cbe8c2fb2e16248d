// One call of the API: its address, its key, and its attempts.

import { pauseMs, wait } from "./backoff.js";
import { errorOf, StocktideError } from "./errors.js";

// An attempt that has no answer by now has lost it; the API itself gives up after five seconds.
const ATTEMPT_MS_MAX = 10_000;
// A restart of the API takes a few seconds, which five attempts outlast.
const ATTEMPTS_MAX = 5;
const PAUSE_MS = 200;
const PAUSE_MS_MAX = 5_000;
// Who is asked to wait longer than this gets the error instead.
const RETRY_AFTER_MS_MAX = 30_000;
// Not decided yet, or not known to whom it was answered.
const RETRIED = new Set([408, 429, 502, 503, 504]);

/** How a client reaches an API.
 * @typedef {object} ClientOptions
 * @property {string} [baseUrl] as `https://stock.example`; in a page by default the page's own host
 * @property {string} [key] of a server, or of a page that needs no sign-in
 * @property {() => string | null | undefined | Promise<string | null | undefined>} [getKey] asked before each call
 * @property {typeof globalThis.fetch} [fetch]
 * @property {typeof globalThis.WebSocket} [WebSocket] for sockets where there is no global one: Node before 22
 * @property {number} [attemptMsMax] an attempt without an answer ends after this
 * @property {number} [attemptsMax] 1: nothing is tried again
 */

/** What a call may say beside its body.
 * @typedef {object} CallOptions
 * @property {Record<string, string | number>} [path] the names in the path, unescaped
 * @property {Record<string, unknown>} [query] a list is repeated; undefined and null are left out
 * @property {unknown} [body] sent as JSON
 * @property {Record<string, string>} [headers]
 * @property {boolean} [retry] whether the same may be sent again: true for what counts once
 * @property {AbortSignal} [signal]
 */

export class Http {
  /** @param {ClientOptions} options */
  constructor(options) {
    this.baseUrl = (options.baseUrl ?? globalThis.location?.origin ?? "").replace(/\/+$/, "");
    // Another one would be tried again for ever, as that of an API that does not answer.
    if (!globalThis.location && !/^https?:\/\/[^/]/.test(this.baseUrl)) {
      throw new TypeError(`outside of a page, baseUrl has to begin with http:// or https://: ${JSON.stringify(this.baseUrl)}`);
    }
    this.options = options;
    this.fetch = options.fetch ?? ((/** @type {any} */ input, /** @type {any} */ init) => globalThis.fetch(input, init));
    this.attemptMsMax = options.attemptMsMax ?? ATTEMPT_MS_MAX;
    this.attemptsMax = options.attemptsMax ?? ATTEMPTS_MAX;
  }

  /** @returns {Promise<string | null>} */
  async key() {
    const { key, getKey } = this.options;
    return key ?? (await getKey?.()) ?? null;
  }

  /**
   * The address of a call.
   * @param {string} template
   * @param {Record<string, string | number>} [names]
   * @param {Record<string, unknown>} [query]
   * @returns {string}
   */
  url(template, names = {}, query = {}) {
    const path = template.replace(/\{(\w+)\}/g, (_, name) => {
      if (names[name] === undefined) throw new TypeError(`the path ${template} needs \`${name}\``);
      return encodeURIComponent(String(names[name]));
    });
    const pairs = Object.entries(query).flatMap(([name, value]) =>
      (Array.isArray(value) ? value : [value])
        .filter((each) => each !== undefined && each !== null)
        .map((each) => `${encodeURIComponent(name)}=${encodeURIComponent(String(each))}`),
    );
    return this.baseUrl + path + (pairs.length ? `?${pairs.join("&")}` : "");
  }

  /**
   * The answer of a call that succeeded. Throws a StocktideError.
   * @param {string} method
   * @param {string} template
   * @param {CallOptions} [options]
   * @returns {Promise<Response>}
   */
  async call(method, template, options = {}) {
    const url = this.url(template, options.path, options.query);
    const mayRetry = options.retry ?? isRepeatable(method, options);
    for (let attempt = 1; ; attempt += 1) {
      const error = await this.#attempt(method, url, options).catch((/** @type {unknown} */ reason) => reason);
      if (!(error instanceof Error)) return /** @type {Response} */ (error);
      if (!(error instanceof StocktideError)) throw error;
      const pause = Math.max(error.retryAfterMs ?? 0, pauseMs(attempt, PAUSE_MS, PAUSE_MS_MAX));
      const isPassing = error.status === 0 ? error.code !== "aborted" : RETRIED.has(error.status);
      if (!mayRetry || !isPassing || attempt >= this.attemptsMax || pause > RETRY_AFTER_MS_MAX) throw error;
      await wait(pause, options.signal);
      if (options.signal?.aborted) throw error;
    }
  }

  /**
   * The body of `call`: JSON, text of another type, or null where there is none.
   * @param {string} method
   * @param {string} template
   * @param {CallOptions} [options]
   * @returns {Promise<any>}
   */
  async read(method, template, options) {
    const answer = await this.call(method, template, options);
    if (answer.status === 204) return null;
    return answer.headers.get("Content-Type")?.includes("json") ? answer.json() : answer.text();
  }

  /**
   * @param {string} method
   * @param {string} url
   * @param {CallOptions} options
   * @returns {Promise<Response>}
   */
  async #attempt(method, url, options) {
    const headers = new Headers(options.headers);
    const key = await this.key();
    if (key) headers.set("Authorization", `Bearer ${key}`);
    const hasBody = options.body !== undefined;
    if (hasBody && !headers.has("Content-Type")) headers.set("Content-Type", "application/json");
    const timer = new AbortController();
    const late = setTimeout(() => timer.abort(), this.attemptMsMax);
    const abort = () => timer.abort();
    if (options.signal?.aborted) abort();
    options.signal?.addEventListener("abort", abort);
    try {
      const body = hasBody ? JSON.stringify(options.body) : undefined;
      const answer = await this.fetch(url, { method, headers, body, signal: timer.signal });
      if (!answer.ok) throw await errorOf(answer);
      // Read while the attempt may still be ended: an answer that stops half-way is a lost one.
      return new Response(answer.status === 204 ? null : await answer.arrayBuffer(), answer);
    } catch (error) {
      if (error instanceof StocktideError) throw error;
      throw noAnswer(error, options.signal?.aborted ?? false, timer.signal.aborted, this.attemptMsMax);
    } finally {
      clearTimeout(late);
      options.signal?.removeEventListener("abort", abort);
    }
  }
}

/**
 * What the same call has the same effect as once: a POST only with an id of its own.
 * @param {string} method
 * @param {CallOptions} options
 */
function isRepeatable(method, options) {
  if (method === "GET") return true;
  // The second of two would find that the first has changed it.
  if (new Headers(options.headers).has("If-Match")) return false;
  if (method === "PUT") return true;
  const body = /** @type {any} */ (options.body);
  return method === "POST" && (body?.id ?? null) !== null;
}

/**
 * @param {unknown} cause
 * @param {boolean} isAborted
 * @param {boolean} isLate
 * @param {number} ms
 */
function noAnswer(cause, isAborted, isLate, ms) {
  if (isAborted) return new StocktideError("aborted", "the caller has ended the call", { cause });
  if (isLate) return new StocktideError("timeout", `no answer within ${ms / 1000} s`, { cause });
  const why = cause instanceof Error ? String(/** @type {any} */ (cause.cause)?.message ?? cause.message) : String(cause);
  return new StocktideError("no_answer", `the API did not answer: ${why}`, { cause });
}
