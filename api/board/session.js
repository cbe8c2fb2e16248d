// Who reads this page: a key is asked for once, and is kept until the tab is closed.

import { createClient, StocktideError } from "./client/index.js";

const KEY = "stocktide-key";
// Why the key before is not used any more, told to whoever has to sign in again.
const REASON = "stocktide-reason";
// What a header may hold: visible characters of ASCII.
const SENDABLE = /^[!-~]+$/;
const READERS = new Set(["operator", "approver", "viewer"]);
// Two more attempts outlast a lost connection; the state of the API is shown long before more would help.
const ATTEMPTS_MAX = 3;

const at = (id) => document.getElementById(id);

/** The client of this page. A key that is no longer valid ends the session. */
export const client = createClient({ attemptsMax: ATTEMPTS_MAX, getKey: () => sessionStorage.getItem(KEY), fetch: ask });

async function ask(input, options) {
  const answer = await fetch(input, options);
  if (answer.status === 401 && !at("page").hidden) leave("not_valid");
  return answer;
}

/** Returns whose key it is, `{role, holder, wasAsked}`, once it may read the board. */
export async function signIn(words) {
  let reason = sessionStorage.getItem(REASON) ?? "";
  sessionStorage.removeItem(REASON);
  let wasAsked = false;
  at("asking").hidden = false;
  for (;;) {
    const { holder, refused } = reason ? { refused: reason } : await whoami();
    at("asking").hidden = true;
    if (holder) return { ...entered(holder), wasAsked };
    sessionStorage.removeItem(KEY);
    await submitted(words, refused);
    wasAsked = true;
    reason = "";
  }
}

function entered(holder) {
  document.body.classList.remove("signed-out");
  at("sign-in").hidden = true;
  at("sign-out").hidden = sessionStorage.getItem(KEY) === null;
  return holder;
}

/** The holder, or why this page may not read: empty where it has no key yet. */
async function whoami() {
  const key = sessionStorage.getItem(KEY);
  if (key !== null && !SENDABLE.test(key)) return { refused: "not_valid" };
  try {
    const holder = await client.request("GET", "/v1/whoami");
    return READERS.has(holder.role) ? { holder } : { refused: "not_enough" };
  } catch (error) {
    if (!(error instanceof StocktideError)) throw error;
    if (error.status === 401) return { refused: key === null ? "" : "not_valid" };
    return { refused: error.status === 403 ? "not_enough" : "no_answer" };
  }
}

/** Shows the form until it is sent, with the key in the session. */
function submitted(words, refused) {
  document.body.classList.add("signed-out");
  at("sign-in").hidden = false;
  at("sign-in-error").dataset.words = refused ? `shell.refused_${refused}` : "shell.nothing";
  at("sign-in-error").textContent = words()(at("sign-in-error").dataset.words);
  at("sign-in-key").setAttribute("aria-invalid", String(refused !== ""));
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

/** A new page has no numbers and no connections of the one before. */
export function leave(reason) {
  sessionStorage.removeItem(KEY);
  if (reason) sessionStorage.setItem(REASON, reason);
  location.reload();
}

at("sign-out").addEventListener("click", () => leave(""));
