// The machines and what they run.

import { ago, attr, el, glyph, keyed, setGlyph, text } from './dom.js';

const heardLately = 5000; // milliseconds within which the age is not worth a number

export function drawNodes(table, state) {
  keyed(table.tBodies[0], state.nodes, (n) => n.name,
    (n) => el('tr', { 'data-node': n.name },
      el('th', { scope: 'row' }, n.name),
      el('td', {}),
      el('td', { class: 'roles' }),
      el('td', {}, el('span', { class: 'state' }, glyph(n.state), el('span', {}))),
      el('td', {}),
      el('td', { class: 'num' })),
    (row, n) => {
      const [, region, roles, condition, revision, seen] = row.cells;
      attr(row, 'data-state', n.state);
      text(region, state.name(n.region));
      keyed(roles, n.roles, (r) => r, (r) => el('span', { class: 'chip' }, r));
      setGlyph(condition, n.state);
      text(condition.querySelector('span span'), n.admin === 'active' ? n.state : `${n.state}, ${n.admin}`);
      attr(revision, 'data-state', n.error ? 'down' : n.state === 'unknown' && !n.revision ? 'unknown' : n.current ? 'up' : 'degraded');
      text(revision, acknowledged(n));
      attr(revision, 'title', n.error);
      text(seen, !n.seen ? '–' : Date.now() - new Date(n.seen) < heardLately ? 'now' : `${ago(n.seen)} ago`);
    });
}

function acknowledged(n) {
  if (n.error) return `refused: ${n.error}`;
  if (n.state === 'unknown' && !n.revision) return '–';
  const which = n.revision ? String(n.revision) : 'from file';
  return n.current ? `${which}, current` : `${which}, behind`;
}
