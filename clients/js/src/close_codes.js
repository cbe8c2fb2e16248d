// What ends a feed: close codes of sockets, which have the same names in `event: error` of Server-Sent Events.

/** @typedef {"retry" | "sign_in" | "give_up"} Reaction what to do after the end of a feed */

/** @type {Readonly<Record<number, {name: string, reaction: Reaction}>>} */
export const CLOSE_CODES = Object.freeze({
  4400: { name: "bad_message", reaction: "give_up" },
  4401: { name: "key_not_valid", reaction: "sign_in" },
  4408: { name: "too_slow", reaction: "retry" },
  4410: { name: "stream_recreated", reaction: "retry" },
  4429: { name: "too_many_messages", reaction: "retry" },
  4500: { name: "internal_error", reaction: "retry" },
  4503: { name: "shutting_down", reaction: "retry" },
});

/** @type {ReadonlyMap<string, Reaction>} */
const REACTIONS = new Map(Object.values(CLOSE_CODES).map(({ name, reaction }) => [name, reaction]));

/**
 * Whether a feed that ended with this error may be opened again.
 * @param {import("./errors.js").StocktideError} error
 * @returns {boolean}
 */
export function mayReconnect(error) {
  const reaction = REACTIONS.get(error.code);
  if (reaction !== undefined) return reaction === "retry";
  if (error.code === "listener_failed") return false;
  // A refused request is refused again, unless it was only too early.
  const { status } = error;
  return status < 400 || status >= 500 || status === 408 || status === 429;
}
