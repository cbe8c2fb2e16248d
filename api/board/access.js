// Who reads this page: a key is asked for once, kept until the tab is closed, and sent as a header; feeds get a ticket.

const KEY = "stocktide-key";
const REASON = "stocktide-reason";
// What a header may hold: visible characters of ASCII.
const SENDABLE = /^[!-~]+$/;
// Told to whoever has to sign in again.
const NOT_VALID = "This key is not valid. It may be mistyped, revoked or expired.";
const NOT_ENOUGH = "This key may not read the board. Use one of the role viewer, approver or operator.";

const at = (id) => document.getElementById(id);

// As `fetch`. A key that is no longer valid ends the session.
export async function call(path, options = {}) {
  const answer = await ask(path, options);
  if (answer.status === 401) leave(sessionStorage.getItem(KEY) === null ? "" : NOT_VALID);
  return answer;
}

// The address of a feed, with a ticket that one connection may use.
export async function feedAddress(path) {
  const answer = await call("/v1/feeds/tickets", { method: "POST" });
  if (!answer.ok) throw new Error(`no ticket: ${answer.status}`);
  return `${path}?${new URLSearchParams({ ticket: (await answer.json()).ticket })}`;
}

// Returns once the API lets this page read, or does not answer at all, which the board itself reports.
export async function signIn() {
  let reason = sessionStorage.getItem(REASON) ?? "";
  sessionStorage.removeItem(REASON);
  for (;;) {
    const refused = reason || (await refusal());
    if (refused === null) break;
    sessionStorage.removeItem(KEY);
    await submitted(refused);
    reason = "";
  }
  document.body.classList.remove("signed-out");
  at("sign-in").hidden = true;
  at("sign-out").hidden = sessionStorage.getItem(KEY) === null;
}

// Why this page may not read: empty where it has no key yet, null where it may.
async function refusal() {
  const key = sessionStorage.getItem(KEY);
  if (key !== null && !SENDABLE.test(key)) return NOT_VALID;
  const status = await ask("/v1/channels").then((answer) => answer.status, () => 0);
  if (status === 401) return key === null ? "" : NOT_VALID;
  return status === 403 ? NOT_ENOUGH : null;
}

function ask(path, options = {}) {
  const key = sessionStorage.getItem(KEY);
  const headers = key ? { ...options.headers, Authorization: `Bearer ${key}` } : options.headers;
  return fetch(path, { ...options, headers });
}

// Shows the form until it is sent, with the key in the session.
function submitted(reason) {
  document.body.classList.add("signed-out");
  at("sign-in").hidden = false;
  at("sign-in-error").textContent = reason;
  at("sign-in-key").setAttribute("aria-invalid", String(reason !== ""));
  at("sign-in-key").focus();
  return new Promise((resolve) => {
    at("sign-in").addEventListener("submit", (event) => {
      event.preventDefault();
      const text = at("sign-in-key").value.trim();
      at("sign-in").reset();
      sessionStorage.setItem(KEY, text);
      resolve();
    }, { once: true });
  });
}

// A new page has no numbers and no connections of the one before.
function leave(reason) {
  sessionStorage.removeItem(KEY);
  if (reason) sessionStorage.setItem(REASON, reason);
  location.reload();
}

at("sign-out").addEventListener("click", () => leave(""));
