// Builds elements and updates them in place. Text is only ever set as text; nothing here parses markup,
// and no attribute `style` is written, which the Content-Security-Policy forbids.

const SVG = "http://www.w3.org/2000/svg";

/** The element of the page with this id. */
export function byId(id) {
  return document.getElementById(id);
}

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) attribute(node, name, value);
  for (const child of children) {
    if (child !== null && child !== undefined) node.append(child);
  }
  return node;
}

/** An HTML element with attributes and children; strings become text. */
export function html(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** The same in SVG. */
export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

/** Sets an attribute if it differs; null, undefined and false remove it. */
export function attribute(node, name, value) {
  if (value === null || value === undefined || value === false) {
    if (node.hasAttribute(name)) node.removeAttribute(name);
    return;
  }
  const wanted = String(value === true ? "" : value);
  if (node.getAttribute(name) !== wanted) node.setAttribute(name, wanted);
}

/** Sets the text if it differs, so that a selection in unchanged text stays. */
export function text(node, wanted) {
  if (node.textContent !== wanted) node.textContent = wanted;
}

/** Sets a style property by way of the CSSOM if it differs. */
export function style(node, property, value) {
  if (node.style.getPropertyValue(property) !== value) node.style.setProperty(property, value);
}

/** Shows or hides. */
export function shown(node, visible) {
  if (node.hidden === visible) node.hidden = !visible;
}

const KEYS = new WeakMap();

/**
 * Makes the children of `parent` match `items`, by key: what is there is updated, not built again, so that focus,
 * selection and whatever is open stay as they are. A focused element that has to move gets the focus back.
 */
export function keyed(parent, items, keyOf, create, update) {
  const before = KEYS.get(parent) ?? new Map();
  const after = new Map();
  for (const item of items) {
    const key = keyOf(item);
    if (after.has(key)) continue;
    const child = before.get(key) ?? create(item);
    after.set(key, child);
  }
  for (const [key, child] of before) {
    if (!after.has(key)) child.remove();
  }
  const focused = parent.contains(document.activeElement) ? document.activeElement : null;
  let at = parent.firstElementChild;
  for (const child of after.values()) {
    if (child === at) at = at.nextElementSibling;
    else parent.insertBefore(child, at);
  }
  if (focused && focused.isConnected && document.activeElement !== focused) focused.focus({ preventScroll: true });
  KEYS.set(parent, after);
  if (!update) return;
  const told = new Set();
  for (const item of items) {
    const key = keyOf(item);
    if (!told.has(key)) update(after.get(key), item);
    told.add(key);
  }
}

/** Whether the user asked for less motion. */
export function calm() {
  return window.matchMedia("(prefers-reduced-motion: reduce)").matches;
}
