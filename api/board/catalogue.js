// Pages of the catalogue from `GET /v1/stock`, which looks at a bounded number of SKUs in each call.

/** SKUs on a page: as many as an operator scans, of a catalogue that may have a million. */
export const PAGE_SKUS = 50;
// Calls for one page with a filter that leaves few SKUs; the reader says whether to search on.
const CALLS_MAX = 6;

/** A filter as a query; what is empty is left out. */
function queryOf({ prefix, mode, below }) {
  return { prefix: prefix || undefined, mode: mode || undefined, below: below || undefined };
}

/** The SKUs after a cursor: `{items, next, stale}`; `next` is null at the end. */
export async function readPage(client, filter, cursor, signal) {
  const items = [];
  let next = cursor;
  let stale = false;
  for (let call = 0; call < CALLS_MAX && items.length < PAGE_SKUS; call += 1) {
    const query = { ...queryOf(filter), cursor: next ?? undefined, limit: PAGE_SKUS - items.length };
    const page = await client.request("GET", "/v1/stock", { query, signal });
    items.push(...page.items);
    stale ||= page.stale === true;
    next = page.next;
    if (next === null) break;
  }
  return { items, next, stale };
}

/** The newest numbers of some SKUs. */
export async function readSkus(client, skus, signal) {
  if (!skus.length) return { items: [], stale: false };
  return client.request("GET", "/v1/stock", { query: { sku: skus, limit: PAGE_SKUS }, signal });
}
