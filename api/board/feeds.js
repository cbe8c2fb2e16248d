// Subscribes to channels: one stream (Server-Sent Events) each.
// In: names of channels. Out: `onUpdate(update, live)` for each channel update, `onState(channel, state)`.

import { feedAddress } from "./access.js";

// A browser opens six connections to a host; one remains for other requests.
export const FEEDS_MAX = 5;
// The pause before a refused stream is opened again.
const RETRY_MS = 2000;

export class Feeds {
  constructor(onUpdate, onState) {
    this.onUpdate = onUpdate;
    this.onState = onState;
    this.streams = new Map();
    this.wanted = [];
  }

  follow(channels) {
    this.wanted = channels.slice(0, FEEDS_MAX);
    for (const channel of [...this.streams.keys()]) {
      if (!this.wanted.includes(channel)) this.drop(channel);
    }
    for (const channel of this.wanted) {
      if (!this.streams.has(channel)) this.open(channel);
    }
  }

  // A hidden page closes its connections, which a second tab needs.
  pause() {
    for (const channel of [...this.streams.keys()]) this.drop(channel);
  }

  resume() {
    this.follow(this.wanted);
  }

  drop(channel) {
    const stream = this.streams.get(channel);
    clearTimeout(stream.retry);
    stream.source?.close();
    this.streams.delete(channel);
  }

  async open(channel) {
    const stream = { source: null, synced: false, retry: 0 };
    this.streams.set(channel, stream);
    this.onState(channel, "waiting");
    const again = () => {
      this.onState(channel, "down");
      stream.retry = setTimeout(() => { this.drop(channel); this.open(channel); }, RETRY_MS);
    };
    const address = await feedAddress(`/v1/channels/${encodeURIComponent(channel)}/feed`).catch(() => null);
    if (this.streams.get(channel) !== stream) return;
    if (address === null) {
      again();
      return;
    }
    const source = new EventSource(address);
    stream.source = source;
    source.addEventListener("stock", (event) => this.onUpdate(JSON.parse(event.data), stream.synced));
    source.addEventListener("synced", () => {
      stream.synced = true;
      this.onState(channel, "live");
    });
    // All numbers are sent again, after a restore with lower versions.
    source.addEventListener("reset", () => {
      stream.synced = false;
      this.onState(channel, "waiting");
    });
    source.addEventListener("status", (event) => {
      const ready = JSON.parse(event.data).ready;
      this.onState(channel, ready ? (stream.synced ? "live" : "waiting") : "down");
    });
    source.addEventListener("error", () => {
      if (this.streams.get(channel) !== stream) return;
      // Its ticket was used: the browser's own attempt to reconnect would be refused.
      source.close();
      again();
    });
  }
}
