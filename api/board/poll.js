// Reads again and again while the page is seen, one read at a time.

/** `read(signal)` is called now, at the interval and by `now()`; the result ends it with `stop()`. */
export function poll(read, ms) {
  const controller = new AbortController();
  let timer = 0;
  let busy = false;
  let again = false;
  async function run() {
    clearTimeout(timer);
    if (busy) {
      again = true;
      return;
    }
    busy = true;
    do {
      again = false;
      if (!document.hidden && !controller.signal.aborted) await read(controller.signal);
    } while (again && !controller.signal.aborted);
    busy = false;
    if (!controller.signal.aborted) timer = setTimeout(run, ms);
  }
  const seen = () => { if (!document.hidden) run(); };
  document.addEventListener("visibilitychange", seen);
  run();
  return {
    now: run,
    stop() {
      controller.abort();
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", seen);
    },
  };
}
