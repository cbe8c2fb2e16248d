// A TCP proxy before the API that breaks connections as networks do.

import net from "node:net";

export class Proxy {
  /** @param {string} api */
  constructor(api) {
    this.target = new URL(api);
    /** @type {Set<net.Socket>} */
    this.sockets = new Set();
    this.connections = 0;
    // How many answers are still lost: the API has the request, the client gets nothing.
    this.losing = 0;
    // What each of the next requests is answered without the API.
    /** @type {string[]} */
    this.answers = [];
    this.isSilent = false;
    this.isDown = false;
    this.server = net.createServer((client) => this.#forward(client));
  }

  async start() {
    await new Promise((resolve) => this.server.listen(0, "127.0.0.1", () => resolve(null)));
    const address = /** @type {net.AddressInfo} */ (this.server.address());
    this.url = `http://127.0.0.1:${address.port}`;
    return this;
  }

  // Breaks all connections; with `down`, new ones too.
  drop(down = false) {
    this.isDown = down;
    for (const socket of this.sockets) socket.destroy();
  }

  async stop() {
    this.drop(true);
    await new Promise((resolve) => this.server.close(resolve));
  }

  /** @param {net.Socket} client */
  #forward(client) {
    this.connections += 1;
    if (this.isDown) return client.destroy();
    const api = net.connect(Number(this.target.port), this.target.hostname);
    for (const socket of [client, api]) {
      this.sockets.add(socket);
      socket.on("error", () => socket.destroy());
      socket.on("close", () => {
        this.sockets.delete(socket);
        client.destroy();
        api.destroy();
      });
    }
    client.on("data", (chunk) => {
      const answer = this.answers.shift();
      if (answer === undefined) api.write(chunk);
      else client.end(answer);
    });
    api.on("data", (chunk) => {
      if (this.isSilent) return;
      if (this.losing > 0) {
        this.losing -= 1;
        client.destroy();
      } else client.write(chunk);
    });
  }
}
