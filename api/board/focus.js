// Whoever works by keyboard stays where they are when a part of the page is drawn again.

const FOCUSABLE = "a[href], button, input, select, textarea, summary, [tabindex]";

/** What a reader takes for the same control. */
function meaning(control) {
  return [control.tagName, control.id, control.getAttribute("href"), control.getAttribute("aria-label") ?? control.textContent].join("\n");
}

function rowOf(control) {
  return control.closest("tr, li")?.textContent;
}

// What had the focus in a part that has nothing like it now, as while it loads.
const lost = new WeakMap();

/** Replaces what is in `root`; who was in there stands on the same control, or on `root` until it is there again. */
export function redraw(root, ...nodes) {
  const active = root.contains(document.activeElement) ? document.activeElement : null;
  const held = active === root ? lost.get(root) : active && { control: active, meaning: meaning(active), row: rowOf(active) };
  root.replaceChildren(...nodes);
  if (!held) return;
  // A node that is put back has lost the focus all the same.
  const same = held.control.isConnected
    ? [held.control]
    : [...root.querySelectorAll(FOCUSABLE)].filter((each) => meaning(each) === held.meaning);
  const next = same.find((each) => rowOf(each) === held.row) ?? same[0];
  if (next) lost.delete(root);
  else {
    lost.set(root, held);
    root.tabIndex = -1;
  }
  (next ?? root).focus({ preventScroll: true });
}
