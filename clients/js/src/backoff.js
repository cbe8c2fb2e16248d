// Pauses between attempts: they grow, they are random, and a caller can end them.

/**
 * A pause before attempt `attempt` (from 1): random, so that clients that failed together do not return together.
 * @param {number} attempt
 * @param {number} baseMs
 * @param {number} maxMs
 * @returns {number}
 */
export function pauseMs(attempt, baseMs, maxMs) {
  const longest = Math.min(maxMs, baseMs * 2 ** (attempt - 1));
  return longest / 2 + (Math.random() * longest) / 2;
}

/**
 * Waits; ends early, without an error, when `signal` does.
 * @param {number} ms
 * @param {AbortSignal} [signal]
 * @returns {Promise<void>}
 */
export function wait(ms, signal) {
  return new Promise((resolve) => {
    if (signal?.aborted) return resolve();
    const end = () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", end);
      resolve();
    };
    const timer = setTimeout(end, ms);
    signal?.addEventListener("abort", end);
  });
}
