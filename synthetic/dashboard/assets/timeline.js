// What happened, newest first.

import { ago, attr, clock, el, glyph, keyed, text } from './dom.js';

const shown = 80;
let before = null; // the newest event at the last drawing

export function drawTimeline(parent, state) {
  const events = state.events.slice(-shown).reverse();
  keyed(parent, events, (e) => e.id,
    (e) => el('li', { 'data-state': e.state, 'data-kind': e.kind, class: before !== null && e.id > before ? 'fresh' : null },
      glyph(e.kind === 'steering' ? 'move' : e.state),
      el('p', {}, e.text),
      el('span', { class: 'when' }, el('time', { datetime: e.time }, clock(e.time)), ' ', el('span', { class: 'ago' }))),
    (node, e) => text(node.querySelector('.ago'), `${ago(e.time)} ago`));
  before = events[0]?.id ?? 0;
  attr(parent, 'data-empty', events.length ? null : 'Nothing has happened yet.');
}
