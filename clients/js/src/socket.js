// A feed by a WebSocket: the same events, and messages that change what it selects.

import { CLOSE_CODES } from "./close_codes.js";
import { StocktideError } from "./errors.js";

const OPEN = 1;
// A name that no feed selects: a message that unsubscribes it changes nothing, and is answered.
const PROBE = "stocktide-client-probe";

export class FeedSocket {
  /**
   * @param {WebSocket} socket
   * @param {import("./event_stream.js").Receiver} receiver
   */
  constructor(socket, receiver) {
    this.socket = socket;
    this.receiver = receiver;
  }

  get isOpen() {
    return this.socket.readyState === OPEN;
  }

  /** @param {object} message */
  send(message) {
    if (this.isOpen) this.socket.send(JSON.stringify(message));
  }

  /** A page sees no pings: asks for a sign of life. */
  probe() {
    this.send({ type: "unsubscribe", id: PROBE, skus: [PROBE] });
  }

  /**
   * Follows the feed until it ends, and throws why.
   * @param {AbortSignal} signal
   * @returns {Promise<never>}
   */
  async run(signal) {
    const { socket, receiver } = this;
    return new Promise((_, reject) => {
      const end = (/** @type {Error} */ error) => {
        socket.onopen = socket.onmessage = socket.onclose = socket.onerror = null;
        signal.removeEventListener("abort", abort);
        if (socket.readyState <= OPEN) socket.close();
        reject(error);
      };
      const abort = () => end(new StocktideError("aborted", "the feed was closed"));
      socket.onopen = () => receiver.opened();
      socket.onmessage = (message) => {
        try {
          receiver.alive();
          const { event, data, id = null } = JSON.parse(message.data);
          if (data?.id !== PROBE) receiver.frame({ event, data, id });
        } catch (error) {
          end(/** @type {Error} */ (error));
        }
      };
      socket.onclose = ({ code, reason }) => {
        const name = CLOSE_CODES[code]?.name ?? "no_answer";
        end(new StocktideError(name, reason || `the socket was closed with ${code}`));
      };
      // The event `close` follows and says more.
      socket.onerror = () => {};
      signal.addEventListener("abort", abort);
      if (signal.aborted) abort();
    });
  }
}

/**
 * @param {import("./http.js").Http} http
 * @param {string} url
 * @returns {WebSocket}
 */
export function openSocket(http, url) {
  const Socket = http.options.WebSocket ?? globalThis.WebSocket;
  if (Socket === undefined) throw new TypeError("this platform has no WebSocket: pass one to createClient");
  return new Socket(url.replace(/^http/, "ws"));
}
