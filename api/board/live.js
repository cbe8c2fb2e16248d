// The feeds of the SKUs that a page shows: one WebSocket for each channel, never the whole catalogue.

/** Sockets of a page; columns beyond could not be read anyway. */
export const CHANNELS_MAX = 8;

export class LiveOffers {
  #feeds = new Map();
  #skus = [];
  #seen = () => this.#pauseOrResume();

  /** `onOffer(update, live)`: `live` is false for what was there before. */
  constructor(context, onOffer) {
    this.context = context;
    this.onOffer = onOffer;
    document.addEventListener("visibilitychange", this.#seen);
  }

  /** Follows these SKUs in these channels, and nothing else. */
  follow(channels, skus) {
    this.#skus = skus;
    for (const [channel, feed] of this.#feeds) {
      if (channels.includes(channel)) continue;
      feed.close();
      this.#feeds.delete(channel);
    }
    this.context.connection.forgetFeeds();
    for (const channel of channels.slice(0, CHANNELS_MAX)) this.#follow(channel);
  }

  #follow(channel) {
    const open = this.#feeds.get(channel);
    if (open) {
      open.select({ skus: this.#skus });
      this.context.connection.feed(channel, open.state);
      return;
    }
    if (!this.#skus.length) return;
    const feed = this.context.client.feed(channel, { transport: "websocket", skus: this.#skus });
    feed.on("stock", this.onOffer);
    feed.on("state", (state) => {
      if (this.#feeds.get(channel) === feed && state !== "idle") this.context.connection.feed(channel, state);
    });
    this.#feeds.set(channel, feed);
  }

  #pauseOrResume() {
    for (const feed of this.#feeds.values()) {
      if (document.hidden) feed.pause();
      else feed.resume();
    }
  }

  stop() {
    document.removeEventListener("visibilitychange", this.#seen);
    for (const feed of this.#feeds.values()) feed.close();
    this.#feeds.clear();
  }
}
