// The shell: language, theme, sign-in, navigation, and the page that the address names.

import { Connection } from "./connection.js";
import { element, renewMoments } from "./elements.js";
import { makeFormat } from "./format.js";
import { FIRST, GROUPS, PAGES } from "./pages.js";
import { client, signIn } from "./session.js";
import { chooseLanguage, chosenLanguage, LANGUAGES, makeWords, translate } from "./words.js";

// "In 7 min" is true for seconds at least.
const RENEW_MS = 5_000;

const at = (id) => document.getElementById(id);

/** What pages get. `go` opens an address; `keep` changes the query of this one, without opening it again. */
const context = {
  client,
  words: makeWords(chosenLanguage()),
  format: makeFormat(LANGUAGES[chosenLanguage()].locale),
  route: routeOf(location.hash),
  role: null,
  holder: null,
  connection: null,
  go: (hash) => { location.hash = hash; },
  keep,
  say,
  title: setTitle,
};

// The address.

/** `#/sku/NAME?tab=x`: the page, the names after it, and the query. */
function routeOf(hash) {
  const [path, query = ""] = hash.replace(/^#\/?/, "").split("?");
  const [page, ...names] = path.split("/").map(decoded);
  return { page: page || FIRST.id, names, name: names[0] ?? "", query: new URLSearchParams(query) };
}

function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part; // typed by hand
  }
}

function keep(values) {
  const { route } = context;
  for (const [name, value] of Object.entries(values)) {
    if (value) route.query.set(name, value);
    else route.query.delete(name);
  }
  const query = route.query.toString();
  const path = [route.page, ...route.names].map(encodeURIComponent).join("/");
  history.replaceState(null, "", `#/${path}${query ? `?${query}` : ""}`);
}

// What is said and shown around a page.

/** For screen readers: one short sentence, once. */
function say(text) {
  at("said").textContent = text;
}

function setTitle(text) {
  at("title").textContent = text;
  document.title = `${text} · Stocktide`;
}

function drawNavigation() {
  const { words, role, route } = context;
  const current = PAGES.get(route.page)?.under ?? route.page;
  const lists = GROUPS.map((group) => {
    const pages = group.pages.filter((page) => !page.under && (page.roles === null || page.roles.includes(role)));
    const items = pages.map((page) => {
      const here = page.id === current ? "page" : null;
      return element("li", {}, element("a", { href: `#/${page.id}`, "aria-current": here, text: words(page.title) }));
    });
    const title = element("h2", { text: words(group.title) });
    return pages.length ? element("section", {}, title, element("ul", {}, ...items)) : "";
  });
  at("nav").replaceChildren(...lists);
}

function drawShell() {
  const { words } = context;
  translate(document, words);
  const themes = ["system", "light", "dark"].map((each) => new Option(words(`shell.theme_${each}`), each));
  at("theme").replaceChildren(...themes);
  at("theme").value = document.documentElement.dataset.theme ?? "system";
  const { holder, role } = context;
  const texts = holder ? [...(holder === role ? [] : [holder]), words(`shell.role_${role}`)] : [];
  at("holder").textContent = texts.join(" · ");
}

// Pages.

let unmount = () => {};

function openPage({ focus }) {
  unmount();
  unmount = () => {};
  context.connection.forgetFeeds();
  const { words, role, route } = context;
  const page = PAGES.get(route.page);
  const may = page && (page.roles === null || page.roles.includes(role));
  at("page-tools").replaceChildren();
  at("page-body").replaceChildren();
  at("page").dataset.page = page?.id ?? "";
  closeMenu();
  drawNavigation();
  setTitle(may ? words(page.title) : words("shell.no_page"));
  if (may) mount(page);
  else at("page-body").append(element("p", { class: "state", text: words(page ? "states.forbidden" : "shell.no_page_here") }));
  if (!focus) return;
  at("title").focus({ preventScroll: true });
  scrollTo(0, 0);
}

function mount(page) {
  try {
    unmount = page.mount(at("page-body"), { ...context, tools: at("page-tools") }) ?? (() => {});
  } catch (error) {
    console.error(error);
    at("page-body").append(element("p", { class: "state error", text: String(error) }));
  }
}

// The controls of the shell.

function closeMenu() {
  at("menu").setAttribute("aria-expanded", "false");
}

at("menu").addEventListener("click", () => {
  const open = at("menu").getAttribute("aria-expanded") === "true";
  at("menu").setAttribute("aria-expanded", String(!open));
  if (!open) at("nav").querySelector("a")?.focus();
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || at("menu").getAttribute("aria-expanded") !== "true") return;
  closeMenu();
  at("menu").focus();
});
// A fragment of the page's own would be taken for an address.
at("skip").addEventListener("click", (event) => {
  event.preventDefault();
  at("main").focus();
});
at("theme").addEventListener("change", () => {
  const theme = at("theme").value;
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  localStorage.setItem("theme", theme);
  // Pictures are drawn with colours of the theme.
  document.dispatchEvent(new CustomEvent("theme"));
});
for (const [code, { name, lang }] of Object.entries(LANGUAGES)) {
  at("language").append(element("option", { value: code, lang, text: name }));
}
at("language").value = chosenLanguage();
at("language").addEventListener("change", () => {
  chooseLanguage(at("language").value);
  context.words = makeWords(chosenLanguage());
  context.format = makeFormat(LANGUAGES[chosenLanguage()].locale);
  drawShell();
  if (!context.connection) return;
  context.connection.draw();
  openPage({ focus: false });
});

drawShell();
const { role, holder, wasAsked } = await signIn(() => context.words);
Object.assign(context, { role, holder });
context.connection = new Connection(context);
at("page").hidden = false;
drawShell();
openPage({ focus: wasAsked });
setInterval(() => renewMoments(context), RENEW_MS);
addEventListener("hashchange", () => {
  context.route = routeOf(location.hash);
  openPage({ focus: true });
});
