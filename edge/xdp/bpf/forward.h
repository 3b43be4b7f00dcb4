/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* To the endpoint that was chosen. */
#pragma once

static __always_inline enum reason send(struct xdp_md *ctx, struct packet *p, const struct node *n,
					const struct endpoint *e, __u8 how)
{
	__u32 outer = how == FORWARD_TUNNEL4 || how == FORWARD_TUNNEL6 ? e->outer : 0;
	struct eth_header *eth;

	if (e->mtu && p->len + outer > e->mtu)
		return tell_too_big(ctx, p, e->mtu - outer);
	p->device = e->device;
	if (p->device && p->l3 != sizeof(*eth) && !untag(ctx, p))
		return DROP_NO_ROOM;
	switch (how) {
	case FORWARD_LOCAL:
		return PASS_LOCAL;
	case FORWARD_TUNNEL4:
		return encapsulate4(ctx, p, n, e);
	case FORWARD_TUNNEL6:
		return encapsulate(ctx, p, n, e);
	case FORWARD_L2:
		eth = at(ctx, 0, sizeof(*eth));
		if (!eth || !e->next_hop.set)
			return DROP_NO_NEIGHBOUR;
		aim(eth, e);
		return TX_L2;
	}
	return DROP_NO_MEMBER;
}

/* may_pass_on says whether the budgets have room for one more packet of a
 * connection that this gateway does not have. If nobody has it the packet goes round
 * all that may, so there is an end to how many are passed on; and to how many of
 * one source, so that a flood leaves others their part. */
APART int may_pass_on(const struct packet *p)
{
	return p && affords(CHANCE_BUDGETS + budget_of(p), CHANCES_PER_SOURCE) && affords(ALL_CHANCES, CHANCES_PER_SECOND);
}

/* pass_on sends the packet to another gateway, always in a tunnel: it tells who
 * has had it. */
static __always_inline enum reason pass_on(struct xdp_md *ctx, struct packet *p, const struct node *n,
					   const struct endpoint *e)
{
	enum reason r;

	if (p->unowned && !may_pass_on(p))
		return DROP_CHANCE_LIMIT;
	p->hops++;
	r = send(ctx, p, n, e, is4(&e->addr) ? FORWARD_TUNNEL4 : FORWARD_TUNNEL6);
	return r == TX_TUNNEL ? TX_PASSED_ON : r;
}

static __always_inline void count_vip(const struct vip *vip, const struct packet *p)
{
	__u32 key = vip->stats;
	struct traffic *t = bpf_map_lookup_elem(&vip_stats, &key);

	if (!t)
		return;
	t->packets++;
	t->octets += p->len;
}

/* no_service judges a packet that no service wants: of no concern, or for a
 * VIP all the same. A VIP that stands on this node is answered by its kernel;
 * where it does not, a kernel that forwards would send the packet round in
 * circles. */
static __always_inline enum reason no_service(struct xdp_md *ctx, struct packet *p, const struct node *n)
{
	enum reason r;

	if (!is_vip(&p->dst, n))
		return PASS_OTHER;
	r = n->defends ? defend(ctx, p, n, 0) : 0;
	if (r)
		return r;
	if (n->duties & DUTY_DECAPSULATE)
		return PASS_NO_SERVICE;
	return is_echo(ctx, p) ? answer_echo(ctx, p) : DROP_NO_SERVICE;
}

static __always_inline enum reason balance(struct xdp_md *ctx, struct packet *p, const struct node *n)
{
	struct vip *vip = find_vip(p, n);
	struct endpoint *e, *next;
	enum reason r;
	__u16 slot = 0;

	if (!vip)
		return no_service(ctx, p, n);
	r = n->defends ? defend(ctx, p, n, vip) : 0;
	if (r)
		return r;
	p->hash = flow_hash(p, vip);
	if (vip->gate && concerns(p, vip)) {
		r = at_gate(ctx, p, n, vip);
		if (r)
			return r;
	}
	e = vip->flags & VIP_QUIC ? endpoint_of(by_connection_id(ctx, p, vip)) : 0;
	if (e)
		count(FLOW_QUIC);
	else
		e = p->fragment == LATER ? endpoint_of(choose_later(p, vip, n)) : choose(p, vip, n, &slot);
	count_vip(vip, p);
	if (!e)
		return DROP_NO_MEMBER;
	if (p->fragment == FIRST)
		keep_fragments(p, n, owner_of(e, p));
	if (e->how == FORWARD_LOCAL && (slot & SLOT_UNSAFE)) {
		next = endpoint_of(next_owner(ctx, p, n));
		if (next)
			return pass_on(ctx, p, n, next);
	}
	if (n->stamped && e->how == FORWARD_LOCAL)
		stamp(ctx, p, n->stamped);
	return send(ctx, p, n, e, e->how);
}

/* receive takes what comes to a gateway in the clear: for a VIP that is a
 * packet that a balancer sent to its MAC address. */
static __always_inline enum reason receive(struct xdp_md *ctx, struct packet *p, const struct node *n)
{
	struct endpoint *next = endpoint_of(next_owner(ctx, p, n));

	if (n->stamped && !next && is_vip(&p->dst, n))
		stamp(ctx, p, n->stamped);
	return next ? pass_on(ctx, p, n, next) : PASS_OTHER;
}
