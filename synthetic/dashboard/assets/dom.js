// Small tools over the DOM: elements, lists that keep their elements, words
// for times.

const SVG = 'http://www.w3.org/2000/svg';

/** el makes an element; attributes that are functions become listeners. */
export function el(tag, attributes = {}, ...children) {
  const node = tag.startsWith('svg:') ? document.createElementNS(SVG, tag.slice(4)) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === 'function') node.addEventListener(name, value);
    else attr(node, name, value);
  }
  node.append(...children.filter((c) => c != null));
  return node;
}

/** attr sets an attribute if it differs; null takes it away. */
export function attr(node, name, value) {
  if (value == null || value === false) node.removeAttribute(name);
  else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
}

/** text sets an element's text if it differs. */
export function text(node, value) {
  if (node.textContent !== value) node.textContent = value;
}

/** glyph draws a state, by shape as well as by colour. */
export function glyph(state) {
  return el('svg:svg', { class: 'glyph', 'aria-hidden': 'true' }, el('svg:use', { href: `#glyph-${state || 'note'}` }));
}

export function setGlyph(node, state) {
  attr(node.querySelector('use'), 'href', `#glyph-${state || 'note'}`);
}

/**
 * keyed makes parent's children stand for items, in order: one element for
 * each key, made once and updated from then on, so that focus and transitions
 * survive.
 */
export function keyed(parent, items, key, make, update) {
  const wanted = new Set(items.map(key));
  const old = new Map();
  for (const child of [...parent.children]) {
    if (wanted.has(child.key)) old.set(child.key, child);
    else child.remove();
  }
  let place = parent.firstElementChild;
  for (const item of items) {
    let node = old.get(key(item));
    if (!node) {
      node = make(item);
      node.key = key(item);
    }
    if (node === place) place = place.nextElementSibling;
    else parent.insertBefore(node, place);
    update?.(node, item);
  }
}

/** tabs draws a group of buttons, of which one is pressed; none for one choice. */
export function tabs(parent, choices, chosen, choose) {
  parent.hidden = choices.length < 2;
  keyed(parent, choices, (c) => c.id,
    (c) => el('button', { type: 'button', click: () => choose(c.id) }),
    (node, c) => {
      text(node, c.label);
      attr(node, 'aria-pressed', String(c.id === chosen));
    });
}

const clockFormat = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23' });
const dayFormat = new Intl.DateTimeFormat(undefined, { day: 'numeric', month: 'short' });

/** clock writes the time of day, with the date if it is not today's. */
export function clock(iso) {
  const t = new Date(iso);
  const day = t.toDateString() === new Date().toDateString() ? '' : `${dayFormat.format(t)} `;
  return day + clockFormat.format(t);
}

/** ago words how long ago a time was. */
export function ago(iso) {
  const s = Math.max(0, Math.round((Date.now() - new Date(iso)) / 1000));
  if (s < 120) return `${s} s`;
  if (s < 7200) return `${Math.floor(s / 60)} min`;
  if (s < 172800) return `${Math.floor(s / 3600)} h`;
  return `${Math.floor(s / 86400)} d`;
}

/** count writes a number with its noun. */
export function count(n, one, many) {
  return `${n} ${n === 1 ? one : many}`;
}

const tip = document.getElementById('tip');

/** showTip shows a line beside a point of the window. */
export function showTip(line, x, y) {
  text(tip, line);
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  const left = Math.min(Math.max(8, x + 14), innerWidth - box.width - 8);
  const top = y + 18 + box.height > innerHeight ? y - box.height - 12 : y + 18;
  tip.style.translate = `${Math.round(left)}px ${Math.round(top)}px`;
}

export function hideTip() {
  tip.hidden = true;
}
