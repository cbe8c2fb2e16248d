// What a call that did not succeed is thrown as.

/** The body of a problem document (RFC 9457) as the API sends it.
 * @typedef {{type?: string, title?: string, status?: number, detail?: string, code?: string,
 *   errors?: {path?: string, code?: string, detail?: string}[], [field: string]: unknown}} Problem
 */

/** The API refused a call, did not answer it, or ended a feed. `code` is stable, `detail` is for people. */
export class StocktideError extends Error {
  /**
   * @param {string} code one of the codes of `/problems/{code}`, or `no_answer`, `timeout` or `aborted` of this client
   * @param {string} detail
   * @param {{status?: number, path?: string | null, problem?: Problem | null, retryAfterMs?: number | null,
   *   cause?: unknown}} [about]
   */
  constructor(code, detail, about = {}) {
    super(`${code}: ${detail}`, { cause: about.cause });
    this.name = "StocktideError";
    this.code = code;
    this.detail = detail;
    /** The status of HTTP; 0 where there was no answer. */
    this.status = about.status ?? 0;
    /** The field of the request that is wrong, as `lines[0].sku`; null where no single field is. */
    this.path = about.path ?? null;
    /** The whole document, with `order` or `errors` where the API adds them. */
    this.problem = about.problem ?? null;
    /** How long the API asks to wait, in milliseconds. */
    this.retryAfterMs = about.retryAfterMs ?? null;
  }

  /** A key is needed, or another one: a page asks its user to sign in again. */
  get needsSignIn() {
    return this.status === 401 || this.code === "key_not_valid";
  }
}

/**
 * The error of an answer that is no success.
 * @param {Response} answer
 * @returns {Promise<StocktideError>}
 */
export async function errorOf(answer) {
  const text = await answer.text().catch(() => "");
  /** @type {Problem} */
  let problem = {};
  try {
    const parsed = JSON.parse(text);
    if (typeof parsed === "object" && parsed !== null) problem = parsed;
  } catch {
    // A proxy before the API answers with a page of its own.
  }
  return new StocktideError(
    problem.code ?? `http_${answer.status}`,
    problem.detail ?? (answer.statusText || `status ${answer.status}`),
    {
      status: answer.status,
      path: problem.errors?.[0]?.path ?? null,
      problem,
      retryAfterMs: retryAfterMs(answer.headers.get("Retry-After")),
    },
  );
}

/**
 * @param {string | null} header seconds; a date, which the API does not send, is ignored
 * @returns {number | null}
 */
function retryAfterMs(header) {
  const seconds = Number(header);
  return header === null || !Number.isFinite(seconds) || seconds < 0 ? null : seconds * 1000;
}
