// The regions as cards: state, since when and why, what it is made of, and
// how many countries it serves.

import { ago, attr, clock, count, el, glyph, keyed, setGlyph, text } from './dom.js';

export const stateWords = { up: 'up', degraded: 'degraded', down: 'down', drain: 'drained', unknown: 'unknown' };
const tierWords = { dns: 'DNS', l4: 'Layer 4', l7: 'Layer 7', endpoints: 'Endpoints' };

export function drawRegions(parent, state, service, choice, choose) {
  keyed(parent, state.regions, (r) => r.id, (r) => makeCard(r, choose), (card, r) => {
    attr(card, 'data-state', r.state);
    attr(card, 'data-tint', state.tint.get(r.id));
    attr(card, 'data-picked', choice.region === r.id ? 'true' : null);
    setGlyph(card, r.state);
    text(card.querySelector('b'), r.name);
    text(card.querySelector('.where'), where(r));
    text(card.querySelector('.word'), stateWords[r.state]);
    const since = card.querySelector('time');
    text(since, r.since ? `for ${ago(r.since)}` : '');
    attr(since, 'datetime', r.since);
    attr(since, 'title', r.since ? `since ${clock(r.since)}` : null);
    text(card.querySelector('.why'), r.note);
    drawTiers(card.querySelector('.tiers'), r.tiers);
    const served = service?.steered[r.id]?.length ?? 0;
    text(card.querySelector('.served'), count(served, 'country', 'countries'));
    text(card.querySelector('.prober'), r.prober ? 'prober heard' : 'prober silent');
  });
}

const countryNames = new Intl.DisplayNames(['en'], { type: 'region' });

/** country names an ISO code, also one that is not assigned. */
export function country(code) {
  return code ? countryNames.of(code) : '';
}

/** where says where a region is, without repeating its name. */
export function where(r) {
  return [r.city === r.name ? '' : r.city, country(r.country)].filter(Boolean).join(', ');
}

function makeCard(r, choose) {
  const pick = () => choose({ region: r.id });
  const drop = () => choose({ region: '' });
  return el('li', { class: 'card', 'data-card': r.id, pointerenter: pick, pointerleave: drop },
    el('button', { type: 'button', class: 'cover', 'aria-label': `Show what ${r.name} serves on the map`, focus: pick, blur: drop }),
    el('div', { class: 'head' }, glyph(r.state), el('b', {}), el('span', { class: 'where' }), el('span', { class: 'id' }, r.id)),
    el('p', { class: 'status' }, el('span', { class: 'word' }), ' ', el('time', {})),
    el('p', { class: 'why' }),
    el('ul', { class: 'tiers' }),
    el('p', { class: 'serves' }, el('i', { class: 'swatch' }), el('span', { class: 'served' }), el('span', { class: 'prober' })));
}

function drawTiers(parent, tiers) {
  keyed(parent, tiers, (t) => t.tier,
    (t) => el('li', {}, el('span', {}, tierWords[t.tier]), el('span', { class: 'pips', 'aria-hidden': 'true' }), el('em', {})),
    (node, t) => {
      const [, pips, sum] = node.children;
      const shown = Math.min(t.total, 12);
      keyed(pips, Array.from({ length: shown }, (_, i) => i), (i) => i, () => el('i', {}),
        (pip, i) => attr(pip, 'data-state', i < t.up ? 'up' : i < t.up + t.down ? 'down' : 'unknown'));
      text(sum, `${t.up}/${t.total}`);
      attr(node, 'title', `${t.up} up, ${t.down} down, ${t.total - t.up - t.down} unknown`);
    });
}
