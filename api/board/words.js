// The texts of the board in the chosen language. Each page has a module of words with the same keys in each language.

import * as alerts from "./words/alerts.js";
import * as approvals from "./words/approvals.js";
import * as causes from "./words/causes.js";
import * as dead_letters from "./words/dead_letters.js";
import * as health from "./words/health.js";
import * as orders from "./words/orders.js";
import * as parts from "./words/parts.js";
import * as policies from "./words/policies.js";
import * as problems from "./words/problems.js";
import * as queue from "./words/queue.js";
import * as reports from "./words/reports.js";
import * as shell from "./words/shell.js";
import * as sku from "./words/sku.js";
import * as states from "./words/states.js";
import * as stock from "./words/stock.js";

/** The languages: the code for words, what `lang` says, whose numbers and times, and the name for whoever speaks it. */
export const LANGUAGES = {
  en: { lang: "en", locale: "en-GB", name: "English" },
  zh: { lang: "zh-Hans", locale: "zh-CN", name: "简体中文" },
};
const MODULES = {
  alerts, approvals, causes, dead_letters, health, orders, parts, policies, problems, queue, reports, shell, sku,
  states, stock,
};

export function chosenLanguage() {
  return document.documentElement.lang.startsWith("zh") ? "zh" : "en";
}

export function chooseLanguage(language) {
  localStorage.setItem("language", language);
  document.documentElement.lang = LANGUAGES[language].lang;
}

/** `words("stock.title")`, `words("stock.found", { count: 3 })`: the text of a key, with values for its braces. */
export function makeWords(language) {
  return (key, values = {}) => {
    const [module, name] = key.split(".");
    const text = MODULES[module]?.[language]?.[name];
    if (text === undefined) {
      console.error(`no words for ${key} in ${language}`);
      return key;
    }
    return text.replace(/\{(\w+)\}/g, (braces, value) => String(values[value] ?? braces));
  };
}

/** Sets the texts that stand in the page itself. */
export function translate(root, words) {
  for (const each of root.querySelectorAll("[data-words]")) each.textContent = words(each.dataset.words);
  for (const each of root.querySelectorAll("[data-words-label]")) {
    each.setAttribute("aria-label", words(each.dataset.wordsLabel));
  }
}
