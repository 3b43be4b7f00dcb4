// The matrix of probers and what they watch.

import { ago, attr, clock, el, hideTip, keyed, showTip, tabs, text } from './dom.js';

const byId = (id) => document.getElementById(id);

export function drawMatrix(state, choice, choose) {
  const all = state.matrix.map((m) => ({ id: (m.dns ? 'dns ' : 'service ') + m.name, label: m.dns ? 'Nameservers' : m.name, matrix: m }));
  const chosen = all.find((m) => m.id === choice.matrix) ?? all[0];
  tabs(byId('matrix-tabs'), all, chosen?.id, (id) => choose({ matrix: id }));
  const table = byId('matrix');
  if (!chosen) {
    table.replaceChildren();
    return;
  }
  const { columns, rows } = chosen.matrix;
  attr(table, 'data-dense', columns.length > 8 ? 'true' : null);
  const lines = [{ vantage: '', head: true }, ...rows];
  keyed(table, lines, (row) => row.vantage,
    () => el('tr', {}),
    (line, row) => {
      attr(line, 'data-silent', row.head || row.live ? null : 'true');
      const cells = [{ id: '' }, ...columns.map((id, i) => ({ id, cell: row.cells?.[i] }))];
      keyed(line, cells, (c) => c.id, (c) => makeCell(row, c), (node, c) => {
        if (row.head) drawHead(node, state, c.id, columns.length);
        else if (!c.id) text(node, state.name(row.vantage));
        else drawCell(node, state, row, c);
      });
    });
  const first = table.querySelector('td[data-state]');
  if (first && !table.querySelector('td[tabindex="0"]')) first.tabIndex = 0;
  table.onkeydown = (event) => walk(table, event);
}

function drawHead(node, state, id, n) {
  text(node, !id ? 'from ↓ to →' : n > 8 ? id : label(state, id));
  attr(node, 'title', id ? label(state, id) : null);
}

function label(state, id) {
  return id === 'anycast' ? 'anycast' : state.name(id);
}

function makeCell(row, c) {
  if (row.head) return el(c.id ? 'th' : 'td', { scope: c.id ? 'col' : null, class: c.id ? null : 'corner' });
  if (!c.id) return el('th', { scope: 'row' });
  return el('td', {
    tabindex: '-1',
    pointermove: (e) => showTip(e.currentTarget.line, e.clientX, e.clientY),
    pointerleave: hideTip,
    focus: (e) => text(byId('cell-note'), e.currentTarget.line),
  }, el('span', {}));
}

function drawCell(node, state, row, c) {
  const { cell } = c;
  const failed = cell.state === 'down';
  attr(node, 'data-state', cell.state);
  attr(node, 'data-self', row.vantage === c.id ? 'true' : null);
  node.style.setProperty('--heat', heat(cell.latency_ms));
  text(node.firstChild, failed ? cell.cause.replaceAll('_', ' ') : cell.latency_ms ? String(cell.latency_ms) : cell.state === 'unknown' ? '–' : '✓');
  node.line = describe(state, row, c);
  attr(node, 'aria-label', node.line);
}

function describe(state, row, c) {
  const { cell } = c;
  const parts = [`${state.name(row.vantage)} to ${label(state, c.id)}: ${cell.state}`];
  if (cell.cause) parts.push(cell.cause.replaceAll('_', ' '));
  if (cell.latency_ms) parts.push(`${cell.latency_ms} ms`);
  if (cell.since) parts.push(`since ${clock(cell.since)} (${ago(cell.since)})`);
  if (cell.detail) parts.push(cell.detail);
  return parts.join(', ');
}

/** heat maps 0 to 350 ms to 0 to 1, with more room for the short ones. */
function heat(ms) {
  return Math.min(1, (ms / 350) ** 0.65).toFixed(3);
}

/** walk moves the focus by the arrow keys; one cell alone is in the tab order. */
function walk(table, event) {
  const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
  const from = event.target.closest('td[data-state]');
  if (!step || !from) return;
  const to = table.rows[from.parentNode.rowIndex + step[0]]?.cells[from.cellIndex + step[1]];
  if (!to?.dataset.state) return;
  event.preventDefault();
  from.tabIndex = -1;
  to.tabIndex = 0;
  to.focus();
}
