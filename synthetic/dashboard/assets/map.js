// The map: countries in the colour of the region that serves them, regions as
// markers, arcs from clients to regions, and who sees a region fail.

import { attr, count, el, glyph, hideTip, keyed, setGlyph, showTip, tabs, text } from './dom.js';
import { country, stateWords, where } from './regions.js';

const byId = (id) => document.getElementById(id);
const world = byId('world');
const view = { x: 50, y: -6, width: 950, height: 442 }; // the land's viewBox

/** countries by ISO code: the path, and the middle of its mainland. */
const countries = new Map();
for (const path of byId('countries').querySelectorAll('[data-country]')) {
  const { country: code, x, y } = path.dataset;
  countries.set(code, { path, x: Number(x), y: Number(y) });
}

// Arcs are drawn from the countries with most people, so that the map stays
// calm; a region that is picked shows them all.
const populous = ('IN CN US ID PK NG BR BD RU ET MX JP EG PH CD VN IR TR DE TH TZ GB FR ZA IT KE MM CO KR SD UG ES DZ IQ ' +
  'AR AF YE CA AO UA MA PL UZ MY MZ GH PE SA MG CI NP CM VE NE AU KP SY ML KZ CL NL RO NZ SE FI NO PT GR').split(' ');

const thicket = 12; // lines

let served = new Map(); // country to region
let latest;

export function drawMap(state, service, choice, choose) {
  latest = { state, service, choice };
  tabs(byId('map-tabs'), state.services.map((s) => ({ id: s.service, label: s.service })), service?.service,
    (id) => choose({ service: id }));
  drawCountries(state, service, choice.region);
  drawArcs(state, choice.region);
  drawFailures(state, choice.region);
  drawMarkers(state, choice, choose);
  const lines = state.regions.map((r) => `${r.name} is ${stateWords[r.state]} and serves ${count(service?.steered[r.id]?.length ?? 0, 'country', 'countries')}`);
  text(byId('map-text'), `World map. ${lines.join('. ')}.`);
}

function drawCountries(state, service, picked) {
  served = new Map();
  for (const [region, list] of Object.entries(service?.steered ?? {})) {
    for (const code of list) served.set(code, region);
  }
  for (const [code, { path }] of countries) {
    const region = served.get(code);
    attr(path, 'data-tint', region === undefined ? null : state.tint.get(region));
    attr(path, 'data-moved', service?.moved[code] ? 'true' : null);
    attr(path, 'data-dim', picked && region !== picked ? 'true' : null);
  }
}

function drawArcs(state, picked) {
  const place = new Map(state.regions.map((r) => [r.id, r]));
  const arcs = [];
  for (const [code, region] of served) {
    const from = countries.get(code);
    const to = place.get(region);
    if (!from || !to || (picked ? region !== picked : !populous.includes(code))) continue;
    if (Math.hypot(from.x - to.x, from.y - to.y) > 12) arcs.push({ key: `${code} ${region}`, from, to, region });
  }
  keyed(byId('arcs'), arcs, (a) => a.key,
    (a) => el('svg:path', { d: curve(a.from, a.to), class: 'arc' }),
    (path, a) => {
      attr(path, 'data-tint', state.tint.get(a.region));
      attr(path, 'data-picked', picked ? 'true' : null);
    });
}

/** drawFailures draws a line from each vantage to each region that it sees
 * fail; where that would be a thicket, only to the region that is picked. */
function drawFailures(state, picked) {
  const place = new Map(state.regions.map((r) => [r.id, r]));
  const lines = state.regions.flatMap((r) => r.failed_by.filter((v) => v !== r.id && place.has(v))
    .map((v) => ({ key: `${v} ${r.id}`, from: place.get(v), to: r })));
  const shown = lines.length > thicket ? lines.filter((l) => l.to.id === picked) : lines;
  keyed(byId('failures'), shown, (l) => l.key, (l) => el('svg:path', { d: curve(l.from, l.to), class: 'failure' }));
}

/** curve bends a line towards the nearer pole, the more the longer it is. */
function curve(from, to) {
  const length = Math.hypot(to.x - from.x, to.y - from.y);
  const side = (from.y + to.y) / 2 < 290 ? -1 : 1;
  const x = (from.x + to.x) / 2;
  const y = (from.y + to.y) / 2 + side * length * 0.22;
  return `M${from.x} ${from.y}Q${x.toFixed(1)} ${y.toFixed(1)} ${to.x} ${to.y}`;
}

function drawMarkers(state, choice, choose) {
  const most = Math.max(1, ...state.regions.map((r) => r.capacity));
  keyed(byId('markers'), state.regions, (r) => r.id,
    (r) => {
      const pick = () => choose({ region: r.id });
      const drop = () => choose({ region: '' });
      return el('li', { class: 'marker', 'data-region': r.id },
        el('button', { type: 'button', pointerenter: pick, pointerleave: drop, focus: pick, blur: drop },
          el('i', { class: 'ring' }), glyph(r.state), el('span', { class: 'label' })));
    },
    (node, r) => {
      attr(node, 'data-state', r.state);
      attr(node, 'data-tint', state.tint.get(r.id));
      attr(node, 'data-picked', choice.region === r.id ? 'true' : null);
      node.place = { x: (r.x - view.x) / view.width, y: (r.y - view.y) / view.height };
      node.style.setProperty('--size', Math.sqrt(r.capacity / most).toFixed(3));
      const button = node.firstChild;
      setGlyph(button, r.state);
      text(button.lastChild, r.name);
      attr(button, 'aria-label', `${r.name}, ${where(r)}: ${stateWords[r.state]}${r.note ? `, ${r.note}` : ''}`);
    });
  placeMarkers();
}

/** placeMarkers puts markers in their places, pushed apart where they would
 * cover each other, and each label where it covers nothing. */
function placeMarkers() {
  const box = world.getBoundingClientRect();
  const spots = [...byId('markers').children].map((node) => ({ node, x: node.place.x * box.width, y: node.place.y * box.height }));
  pushApart(spots, box.width < 600 ? 18 : 26);
  const taken = spots.map(({ x, y }) => ({ left: x - 10, right: x + 10, top: y - 10, bottom: y + 10 }));
  spots.forEach(({ node, x, y }, i) => {
    node.style.translate = `${x.toFixed(1)}px ${y.toFixed(1)}px`;
    const { offsetWidth: width, offsetHeight: height } = node.querySelector('.label');
    const gap = 15;
    const sides = {
      right: [x + gap, y - height / 2], left: [x - gap - width, y - height / 2],
      top: [x - width / 2, y - gap - height], bottom: [x - width / 2, y + gap],
    };
    let side = 'hidden';
    for (const [name, [left, top]] of Object.entries(sides)) {
      const label = { left, top, right: left + width, bottom: top + height };
      if (left < 0 || label.right > box.width || top < 0 || taken.some((t, k) => k !== i && overlap(t, label))) continue;
      side = name;
      taken.push(label);
      break;
    }
    attr(node, 'data-label', side);
  });
}

/** pushApart moves points that are nearer than the distance, a little at a time. */
function pushApart(points, distance) {
  for (let round = 0; round < 12; round++) {
    for (let i = 0; i < points.length; i++) {
      for (let k = i + 1; k < points.length; k++) {
        const [p, q] = [points[i], points[k]];
        const dx = q.x - p.x || 0.1;
        const dy = q.y - p.y;
        const apart = Math.hypot(dx, dy);
        if (apart >= distance) continue;
        const step = (distance - apart) / 2 / apart;
        p.x -= dx * step; p.y -= dy * step;
        q.x += dx * step; q.y += dy * step;
      }
    }
  }
}

function overlap(a, b) {
  return a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
}

new ResizeObserver(placeMarkers).observe(world);

byId('countries').addEventListener('pointermove', (event) => {
  const code = event.target.dataset.country;
  if (!code) return hideTip();
  const region = served.get(code);
  const home = latest.service?.moved[code];
  const line = region === undefined ? `${country(code)}: not steered` : `${country(code)} → ${latest.state.name(region)}`;
  showTip(home ? `${line} (at home in ${latest.state.name(home)})` : line, event.clientX, event.clientY);
});
byId('countries').addEventListener('pointerleave', hideTip);
