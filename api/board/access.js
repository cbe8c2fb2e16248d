// The key of this page: asked for once, kept until the tab is closed, sent as a header; feeds get a ticket instead.

const STORED = "key";
const form = document.getElementById("sign-in");

// As `fetch`. A refused key opens the form.
export async function call(path, options = {}) {
  const key = sessionStorage.getItem(STORED);
  const headers = key ? { ...options.headers, Authorization: `Bearer ${key}` } : options.headers;
  const answer = await fetch(path, { ...options, headers });
  if (answer.status === 401) form.hidden = false;
  return answer;
}

// The address of a feed, with a ticket that one connection may use.
export async function feedAddress(path) {
  const answer = await call("/v1/feeds/tickets", { method: "POST" });
  if (!answer.ok) throw new Error(`no ticket: ${answer.status}`);
  return `${path}?${new URLSearchParams({ ticket: (await answer.json()).ticket })}`;
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const field = document.getElementById("sign-in-key");
  sessionStorage.setItem(STORED, field.value.trim());
  location.reload();
});
