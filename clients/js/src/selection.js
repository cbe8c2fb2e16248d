// Which SKUs of a channel a feed has: those with given names, and those whose names begin with given prefixes.

import { StocktideError } from "./errors.js";

// What the API takes of one feed.
export const SELECTED_MAX = 1_000;
export const PREFIXES_MAX = 50;

/** Names and prefixes; a selection without either is everything.
 * @typedef {{skus?: Iterable<string>, prefixes?: Iterable<string>}} Selected
 */

export class Selection {
  /** @param {Selected | null} [selected] null: the whole channel */
  constructor(selected = null) {
    this.isEverything = selected === null;
    this.skus = new Set(selected?.skus ?? []);
    this.prefixes = new Set(selected?.prefixes ?? []);
    if (this.skus.size + this.prefixes.size > SELECTED_MAX || this.prefixes.size > PREFIXES_MAX) {
      const detail = `at most ${SELECTED_MAX} SKUs and prefixes, ${PREFIXES_MAX} of them prefixes`;
      throw new StocktideError("too_many_subscriptions", detail);
    }
  }

  get isEmpty() {
    return !this.isEverything && this.skus.size === 0 && this.prefixes.size === 0;
  }

  /** @param {string} sku */
  has(sku) {
    if (this.isEverything || this.skus.has(sku)) return true;
    for (const prefix of this.prefixes) if (sku.startsWith(prefix)) return true;
    return false;
  }

  /** As the query of a feed. */
  get query() {
    return { sku: [...this.skus], prefix: [...this.prefixes] };
  }

  /**
   * What is in this and not in `other`, as a message of a socket names it.
   * @param {Selection} other
   */
  without(other) {
    return {
      skus: [...this.skus].filter((sku) => !other.skus.has(sku)),
      prefixes: [...this.prefixes].filter((prefix) => !other.prefixes.has(prefix)),
    };
  }
}
