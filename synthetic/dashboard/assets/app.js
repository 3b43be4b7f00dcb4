// The page: holds the state, takes changes in, and has every part drawn.

import { ago, attr, clock, el, keyed, text } from './dom.js';
import { follow } from './live.js';
import { drawMap } from './map.js';
import { drawMatrix } from './matrix.js';
import { drawNodes } from './nodes.js';
import { drawRegions } from './regions.js';
import { drawServices, drawShifts } from './services.js';
import { drawTimeline } from './timeline.js';

const keptEvents = 200;
const byId = (id) => document.getElementById(id);

let state = JSON.parse(byId('state').textContent);

/** choice is what the reader picked; it outlives changes of the state. */
const choice = { service: '', matrix: '', region: '' };

function take(patch) {
  const { events, ...rest } = patch;
  Object.assign(state, rest);
  if (events) {
    const known = new Set(state.events.map((e) => e.id));
    state.events = state.events.concat(events.filter((e) => !known.has(e.id))).slice(-keptEvents);
  }
}

let drawing = false;
function redraw() {
  drawTitle(); // at once: a hidden tab draws nothing else
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(() => {
    drawing = false;
    draw();
  });
}

function draw() {
  const { regions, services } = state;
  // A region's colour is its place in the list; 12 colours repeat.
  state.tint = new Map(regions.map((r, i) => [r.id, i % 12]));
  state.name = (id) => regions.find((r) => r.id === id)?.name ?? id;
  const service = services.find((s) => s.service === choice.service) ?? services[0];
  drawTop();
  drawHero();
  drawShifts(byId('shifts'), state);
  drawMap(state, service, choice, choose);
  drawRegions(byId('regions'), state, service, choice, choose);
  drawTimeline(byId('timeline'), state);
  drawMatrix(state, choice, choose);
  drawServices(byId('services'), state);
  drawNodes(byId('nodes'), state);
}

function choose(what) {
  Object.assign(choice, what);
  redraw();
}

function drawTitle() {
  const { headline } = state;
  document.title = `${headline.text} · Meridian`;
  const icon = byId('icon');
  const href = icon.getAttribute('href').replace(/icon-\w+/, headline.state === 'down' ? 'icon-down' : 'icon-up');
  attr(icon, 'href', href);
}

function drawTop() {
  text(byId('fleet'), state.fleet);
  text(byId('node'), state.node || '–');
  const revision = byId('revision');
  text(revision, state.revision ? `${state.revision} · ${state.hash.slice(0, 8)}` : state.hash.slice(0, 8) || '–');
  attr(revision, 'title', state.hash);
}

function drawHero() {
  const { headline, regions, nodes, matrix } = state;
  attr(byId('hero'), 'data-state', headline.state);
  attr(byId('headline-glyph'), 'href', `#glyph-${headline.state}`);
  text(byId('headline'), headline.text);
  text(byId('detail'), headline.detail);

  const rows = matrix[0]?.rows ?? [];
  const between = rows.flatMap((row) => row.cells.filter((c, i) => c.latency_ms && regions.some((r) => r.id === matrix[0].columns[i] && r.id !== row.vantage)));
  const latencies = between.map((c) => c.latency_ms).sort((a, b) => a - b);
  const share = (n, of) => (of ? `${n}/${of}` : '–');
  const figures = [
    ['Regions serving', share(regions.filter((r) => r.state === 'up' || r.state === 'degraded').length, regions.length)],
    ['Probers heard', share(rows.filter((r) => r.live).length, rows.length)],
    ['Nodes current', share(nodes.filter((n) => n.state === 'up' && n.current).length, nodes.length)],
    ['Median latency', latencies.length ? `${latencies[latencies.length >> 1]} ms` : '–', 'between regions'],
  ];
  if (headline.since) figures.unshift(['Since', clock(headline.since), `${ago(headline.since)} ago`]);
  keyed(byId('figures'), figures, (f) => f[0],
    (f) => el('div', {}, el('dt', {}, f[0]), el('dd', {})),
    (node, f) => {
      text(node.lastChild, f[1]);
      attr(node, 'title', f[2]);
    });
}

const liveWords = { connecting: 'Connecting', live: 'Live', lost: 'Reconnecting' };
function setLive(how) {
  const node = byId('live');
  attr(node, 'data-live', how);
  text(node.querySelector('span'), liveWords[how]);
}

draw();
follow(state.id, {
  onState(whole) {
    if (whole.build !== state.build) location.reload(); // the program is newer than this page
    state = whole;
    redraw();
  },
  onPatch(patch) {
    take(patch);
    redraw();
  },
  onLive: setLive,
});
setInterval(redraw, 1000); // times since
