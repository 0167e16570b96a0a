// Replaces what the page shows, and keeps what the reader holds: a dragged slider, the focus, opened details.

const IDENTITIES = ["control", "view", "run", "name"]; // data attributes that name a control in every drawing

/** Replace the content of the page. Returns a function that restores focus and opened details, for when all is drawn. */
export function replaceContent(root, children, dragged) {
  const focused = selectorOf(document.activeElement);
  const opened = openedDetails(root);
  const fresh = document.createElement("div");
  fresh.append(...children);
  if (!keepSlider(root, fresh, dragged)) root.replaceChildren(...fresh.childNodes);
  open(root, opened); // before the views are drawn, whose height is what is left of the window
  return () => {
    open(root, opened);
    if (!dragged) findControl(root, focused)?.focus({ preventScroll: true });
  };
}

/** Replace all but a slider and its ancestors: a slider that leaves the document loses the pointer. */
function keepSlider(old, fresh, dragged) {
  const twin = dragged && fresh.querySelector(`[data-control="${dragged.dataset.control}"]`);
  if (!twin || !old.contains(dragged)) return false;
  const kept = [...old.children].find((child) => child.contains(dragged));
  const counterpart = [...fresh.children].find((child) => child.contains(twin));
  for (const node of [...old.childNodes]) if (node !== kept) node.remove();
  let isAfter = false;
  for (const node of [...fresh.childNodes]) {
    if (node === counterpart) isAfter = true;
    else old.insertBefore(node, isAfter ? null : kept);
  }
  if (kept !== dragged) {
    kept.className = counterpart.className;
    keepSlider(kept, counterpart, dragged);
  }
  return true;
}

function selectorOf(node) {
  for (const name of IDENTITIES) {
    const value = node?.closest?.(`[data-${name}]`)?.dataset[name];
    if (value !== undefined) return `[data-${name}="${CSS.escape(value)}"]`;
  }
  return null;
}

function findControl(root, selector) {
  const holder = selector && root.querySelector(selector);
  return holder?.matches("button, select, input") ? holder : holder?.querySelector("button");
}

function openedDetails(root) {
  return new Set([...root.querySelectorAll("details[open]")].map(summaryOf));
}

function open(root, summaries) {
  for (const details of root.querySelectorAll("details")) if (summaries.has(summaryOf(details))) details.open = true;
}

function summaryOf(details) {
  return details.querySelector("summary").textContent;
}
