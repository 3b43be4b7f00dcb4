// The services, how their clients are shared out, and the shifts in force.

import { attr, clock, count, el, glyph, keyed, text } from './dom.js';

const answers = { regional: 'regional addresses', anycast: 'the anycast address' };

export function drawServices(parent, state) {
  keyed(parent, state.services, (s) => s.service,
    (s) => el('li', { class: 'service' },
      el('div', { class: 'head' }, el('b', {}, s.service), el('span', { class: 'hosts' })),
      el('p', { class: 'policy' }),
      el('div', { class: 'bar', 'aria-hidden': 'true' }),
      el('ul', { class: 'shares' }),
      el('p', { class: 'warning' })),
    (node, s) => {
      const [, policy, bar, shares, warning] = node.children;
      text(node.querySelector('.hosts'), s.hosts.join(', ') || s.protocol);
      text(policy, `${s.policy}, answers with ${answers[s.answer] ?? s.answer}`);
      const total = Object.values(s.steered).reduce((n, list) => n + list.length, 0);
      const parts = state.regions.map((r) => ({ ...r, n: s.steered[r.id]?.length ?? 0 }));
      keyed(bar, parts, (p) => p.id, () => el('i', {}), (part, p) => {
        attr(part, 'data-tint', state.tint.get(p.id));
        part.style.flexGrow = p.n;
      });
      keyed(shares, parts, (p) => p.id, () => el('li', {}, el('i', { class: 'swatch' }), el('span', {}), el('em', {})), (share, p) => {
        attr(share, 'data-tint', state.tint.get(p.id));
        attr(share, 'data-none', p.n ? null : 'true');
        text(share.children[1], p.name);
        text(share.children[2], total ? `${Math.round((100 * p.n) / total)} %` : '–');
        attr(share, 'title', count(p.n, 'country', 'countries'));
      });
      const moved = Object.keys(s.moved).length;
      text(warning, s.fail_open ? 'Fail open: no region is left, so all are answered.'
        : moved ? `Clients in ${count(moved, 'country', 'countries')} go elsewhere than they would if all were well.` : '');
    });
}

export function drawShifts(parent, state) {
  keyed(parent, state.shifts, (s) => s.id,
    () => el('p', { class: 'shift', 'data-state': 'drain' }, glyph('drain'), el('span', {})),
    (node, s) => {
      const away = s.drain ? `${state.name(s.from)} is drained` : `${Math.round(s.share * 100)} % of ${state.name(s.from)}'s clients are shifted`;
      const to = s.to.length ? ` to ${s.to.map(state.name).join(', ')}` : '';
      const what = s.service ? ` for ${s.service}` : '';
      const until = s.expires ? `, until ${clock(s.expires)}` : '';
      text(node.lastChild, `${away}${what}${to}${until}${s.reason ? `: ${s.reason}` : ''}`);
    });
}
