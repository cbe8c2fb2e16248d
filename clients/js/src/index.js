// What the package offers. Begin with `createClient`.

export { createClient, StocktideClient } from "./client.js";
export { CLOSE_CODES } from "./close_codes.js";
export { StocktideError } from "./errors.js";
export { Feed } from "./feed.js";
