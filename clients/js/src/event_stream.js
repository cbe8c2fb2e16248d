// A feed by Server-Sent Events, read from a `fetch`: in Node and in pages alike, the key is sent as a header, and
// statuses and heartbeats are seen, which `EventSource` hides.

import { errorOf, StocktideError } from "./errors.js";

// A frame holds one update or order; this bounds one that never ends.
const FRAME_CHARACTERS_MAX = 4 * 1024 * 1024;

/** One event of a feed.
 * @typedef {{event: string, data: any, id: string | null}} Frame
 */

/** What a transport calls: with each event, and for each sign of life.
 * @typedef {{frame: (frame: Frame) => void, alive: () => void, opened: () => void}} Receiver
 */

/**
 * Follows a feed until it ends, and throws why.
 * @param {import("./http.js").Http} http
 * @param {string} url
 * @param {Receiver} receiver
 * @param {AbortSignal} signal
 * @returns {Promise<never>}
 */
export async function readEventStream(http, url, receiver, signal) {
  const key = await http.key();
  const headers = { Accept: "text/event-stream", ...(key ? { Authorization: `Bearer ${key}` } : {}) };
  const answer = await http.fetch(url, { headers, signal, cache: "no-store" });
  if (!answer.ok || answer.body === null) throw await errorOf(answer);
  receiver.opened();
  const reader = answer.body.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) throw new StocktideError("no_answer", "the connection ended");
    receiver.alive();
    rest += decoder.decode(value, { stream: true });
    const frames = rest.split("\n\n");
    rest = frames.pop() ?? "";
    if (rest.length > FRAME_CHARACTERS_MAX) throw new StocktideError("too_large", "a frame of the feed does not end");
    for (const text of frames) {
      const frame = parseFrame(text);
      if (frame !== null) receiver.frame(frame);
    }
  }
}

/**
 * @param {string} text the lines of a frame
 * @returns {Frame | null} null for a heartbeat, and for `retry`
 */
export function parseFrame(text) {
  let event = "";
  let data = "";
  let id = null;
  for (const line of text.split("\n")) {
    const colon = line.indexOf(": ");
    const field = line.slice(0, colon);
    const value = line.slice(colon + 2);
    if (field === "event") event = value;
    else if (field === "data") data = value;
    else if (field === "id") id = value;
  }
  return event ? { event, data: JSON.parse(data), id } : null;
}
