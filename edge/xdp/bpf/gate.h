/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What stands between a SYN flood and the gateways. While a VIP is under attack
 * every SYN for it is answered here, with a cookie, and goes no further.
 *
 * Packets that are no SYN are let through if they are of a flow in the table, or
 * bring a valid cookie, whose flow is put there: so all connections that begin
 * under attack are known, also at slots where flows are not kept otherwise. Of
 * those that began before, the table has only some, since at a safe slot nothing
 * is kept; nor can it have those of a balancer that has died. The gateways know
 * them, but to ask them is to let the packets through. So a VIP under attack gets
 * packets of no known flow, strangers, up to a number in each window: what
 * gateways bear in any case (the Spec's layer4.stranger_limit), and four times all
 * packets that are usual in peace. Of what comes through, the gateway answers
 * what it has no socket for; of a flood of ACKs the rest ends here, and while it
 * goes on the old connections that the table does not have lose packets with it.
 * To tell them apart would take a record of each flow in peace too, which JET is
 * there to save, or one of strangers, which the flood would fill.
 *
 * An attack is told by SYNs alone. Packets of flows that nobody has seen may be a
 * flood, and may be all of another balancer's connections, which come in a moment
 * where that dies or drains; so a flood of ACKs without SYNs passes here, and is
 * for rules and limits (defend.h). */
#pragma once

/* shut says whether a packet that is no SYN meets an attack. */
static __always_inline int shut(struct vip *vip, const struct node *n, __u64 now)
{
	__u32 stats = vip->stats;
	struct gate *g = bpf_map_lookup_elem(&gates, &stats);

	if (vip->gate == GATE_SHUT) {
		if (g && g->window != now)
			roll(g, vip, n, now); /* so that nothing of this is learned once it is over */
		return 1;
	}
	if (g && g->until >= now)
		return 1;
	if (vip->attack)
		vip->attack = 0;
	return 0;
}

/* usual says whether one more stranger may pass. */
static __always_inline int usual(const struct vip *vip, const struct node *n, __u64 now)
{
	__u32 stats = vip->stats;
	struct gate *g = bpf_map_lookup_elem(&gates, &stats);
	struct post *own = bpf_map_lookup_elem(&posts, &stats);
	__u64 most;

	if (!g || !own)
		return 1;
	if (own->credit && own->credit_window == now) {
		own->credit--;
		return 1;
	}
	if (g->window != now)
		roll(g, vip, n, now);
	most = g->usual * STRANGER_SHARE + n->strangers;
	if (g->strangers >= most || __sync_fetch_and_add(&g->strangers, STRANGER_BATCH) >= most)
		return 0;
	own->credit = STRANGER_BATCH - 1;
	own->credit_window = now;
	return 1;
}

/* answer sends the SYN-ACK back to the router that the SYN came from. */
static __always_inline enum reason answer(struct xdp_md *ctx, const struct packet *p, const struct vip *vip,
					  const struct cookie_keys *k)
{
	struct endpoint *e = by_slot(from_ring(vip, p->hash));
	const struct endpoint back = {};
	struct eth_header *eth;
	__u32 zero = 0, size;
	struct desk *d = bpf_map_lookup_elem(&desks, &zero);

	if (!e)
		return DROP_NO_MEMBER;
	if (!d || p->fragment)
		return DROP_BAD_CHECKSUM;
	size = take_header(ctx, p, d);
	if (!size || !is_whole(ctx, p, d, size))
		return DROP_BAD_CHECKSUM;
	bake(d, p, k);
	if (!put_synack(ctx, p, d, segment_size(p, e->mtu)))
		return DROP_NO_ROOM;
	eth = at(ctx, 0, sizeof(*eth));
	if (!eth)
		return DROP_NO_ROOM;
	aim(eth, &back);
	return TX_COOKIE;
}

/* meet has a packet that is no SYN show why it should pass. */
static __always_inline enum reason meet(struct xdp_md *ctx, const struct packet *p, struct vip *vip, const struct node *n,
					__u64 ns)
{
	__u64 key = p->fragment == LATER ? fragment_hash(p, vip) : tracked_hash(p, vip, p->hash);
	int more = p->fragment != LATER && !p->icmp_error && !(p->tcp_flags & TCP_RST);
	__u32 now = ns / 1000000000ULL, owner;
	struct flow *f = find_flow(key, now, n, &owner, 0);
	struct endpoint *e;

	if (f && owner && owned(owner)) {
		goes_on(f, key, owner, more, now);
		return 0;
	}
	if (brings_cookie(ctx, p)) {
		e = by_slot(from_ring(vip, p->hash));
		if (e)
			put_flow(f, key, owner_of(e, p), now);
		count(COOKIE_VALID);
		return 0;
	}
	if (!usual(vip, n, ns >> WINDOW_BITS))
		return DROP_NO_COOKIE;
	count(COOKIE_STRANGER);
	return 0;
}

/* concerns says whether a packet has to go to the gate: SYNs, to be counted, and
 * under attack all; later fragments, which do not show what they are of, have no
 * mark of their own for that. */
static __always_inline int concerns(const struct packet *p, const struct vip *vip)
{
	return vip->gate != GATE_KERNEL &&
	       (vip->attack || vip->gate == GATE_SHUT || p->fragment == LATER || (p->tcp_flags & TCP_SYN));
}

/* at_gate gives what becomes of a packet for a VIP; 0: it goes on. Without keys in
 * force it stands open. */
APART int at_gate(struct xdp_md *ctx, const struct packet *p, const struct node *n, struct vip *vip)
{
	__u32 zero = 0;
	struct cookie_keys *k = bpf_map_lookup_elem(&cookies, &zero);
	__u64 ns = bpf_ktime_get_coarse_ns();

	if (!p || !n || !vip || !k || k->until < ns)
		return 0;
	if (p->fragment != LATER && !p->icmp_error &&
	    (p->tcp_flags & (TCP_SYN | TCP_ACK | TCP_RST | TCP_FIN)) == TCP_SYN) {
		return vip->gate == GATE_SHUT || flooded(vip, n, ns >> WINDOW_BITS) ? answer(ctx, p, vip, k) : 0;
	}
	return shut(vip, n, ns >> WINDOW_BITS) ? meet(ctx, p, vip, n, ns) : 0;
}
