// Whoever works by keyboard stays where they are when a part of the page is drawn again.

const FOCUSABLE = "a[href], button, input, select, textarea, summary, [tabindex]";

/** What a reader takes for the same control. */
function meaning(control) {
  return [control.tagName, control.id, control.getAttribute("href"), control.getAttribute("aria-label") ?? control.textContent].join("\n");
}

function rowOf(control) {
  return control.closest("tr, li")?.textContent;
}

/** Replaces what is in `root`; who was in there stands on the same control, or on `root` where it is gone. */
export function redraw(root, ...nodes) {
  const held = root.contains(document.activeElement) ? document.activeElement : null;
  const row = held && rowOf(held);
  root.replaceChildren(...nodes);
  if (!held) return;
  // A node that is put back has lost the focus all the same.
  const same = held.isConnected ? [held] : [...root.querySelectorAll(FOCUSABLE)].filter((each) => meaning(each) === meaning(held));
  const next = same.find((each) => rowOf(each) === row) ?? same[0] ?? root;
  if (next === root) root.tabIndex = -1;
  next.focus({ preventScroll: true });
}
