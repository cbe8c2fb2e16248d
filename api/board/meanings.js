// What codes and states of the API mean, in the reader's language. The API's own sentences are English; some have values.

import { chosenLanguage } from "./words.js";
import * as health from "./words/health.js";
import * as problems from "./words/problems.js";

/** The meaning of a code; a code without words is shown itself. */
export function meaningOf({ words }, code) {
  return code in problems.en ? words(`problems.${code}`) : code;
}

/** What a code and the API's own detail say: `[text, detail]`; the detail is empty where the text says all of it. */
export function explained(context, code, detail) {
  const isKnown = code in problems.en;
  if (!isKnown || chosenLanguage() === "en") return [detail || meaningOf(context, code), ""];
  return [meaningOf(context, code), detail === problems.en[code] ? "" : detail ?? ""];
}

/** The same as one text, where there is no place for two. */
export function explanation(context, code, detail) {
  const [text, own] = explained(context, code, detail);
  return own ? `${text}（${own}）` : text;
}

/** What the state of a part means, `[text, detail]`: words of the part, else of any part. A part that is well may have none. */
export function stateOfPart({ words }, part, state, detail) {
  const key = [`meaning_${part}_${state}`, `meaning_${state}`].find((each) => each in health.en);
  const text = key === undefined ? "" : words(`health.${key}`);
  return chosenLanguage() === "en" ? [detail || text, ""] : [text, detail];
}
