/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The endpoint of a packet. Nothing is kept, nor looked up, where a slot never
 * had another owner that lives: the ring says it all (JET; Mendelson et al.,
 * CoNEXT 2021). At the other slots, which are called unsafe, the table holds the
 * flows that began since; those that are older go to the slot's owner, and if
 * that is a gateway which does not have them, it passes them on (chance.h). */
#pragma once

static __always_inline int begins(const struct packet *p)
{
	return p->proto != PROTO_TCP || (p->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN;
}

/* by_slot gives the endpoint that a slot names, or NULL. */
static __always_inline struct endpoint *by_slot(__u16 slot)
{
	struct endpoint *e = endpoint_of(slot);

	return e && e->how != FORWARD_NONE ? e : 0;
}

/* stays says whether a SYN goes where the flow's last one went: not where that
 * is to get no more flows, nor long after. */
static __always_inline int stays(const struct packet *p, const struct flow *f, const struct endpoint *e, __u32 now)
{
	return p->proto != PROTO_TCP || !begins(p) || (e->takes && (__s32)(now - f->seen) <= SYN_AGAIN);
}

/* choose_tracked gives the index of the endpoint of a packet at an unsafe slot;
 * 0: none. */
APART __u32 choose_tracked(const struct packet *p, const struct vip *vip, const struct node *n, __u16 slot)
{
	__u32 now = now_seconds(), owner;
	int keep, new_here, first;
	struct endpoint *e;
	struct flow *f;
	__u64 hash;

	if (!p || !vip || !n)
		return 0;
	keep = !p->icmp_error && !(p->tcp_flags & TCP_RST);
	new_here = begins(p) || !(vip->flags & VIP_CHAIN);
	first = p->proto == PROTO_TCP && begins(p);
	hash = tracked_hash(p, vip, p->hash);
	f = find_flow(hash, now, n, &owner, first);
	if (owner && f) {
		e = owned(owner);
		if (e && stays(p, f, e, now)) {
			if (keep)
				goes_on(f, hash, owner, !first, now);
			count(FLOW_HIT);
			return e->index;
		}
		count(e ? FLOW_NEW : FLOW_MOVED);
	} else {
		count(keep && new_here ? FLOW_NEW : FLOW_UNKNOWN);
	}
	e = by_slot(slot);
	if (e && keep && new_here)
		put_flow(f, hash, owner_of(e, p) | (first ? FLOW_HALF : 0), now);
	return e ? e->index : 0;
}

/* choose_known gives the endpoint of a flow that stands in its first bucket and
 * goes on as it did, as most at unsafe slots do; NULL: choose_tracked tells, as
 * for a flow of which only the SYN was seen, or that is seen in a second second. */
static __always_inline struct endpoint *choose_known(const struct packet *p, const struct vip *vip, const struct node *n)
{
	__u64 hash = tracked_hash(p, vip, p->hash);
	struct bucket *b = bucket_of(hash, 0);
	__u32 now = now_seconds(), owner;
	struct endpoint *e;
	struct flow *f;
	int i;

	if (!b || (p->tcp_flags & (TCP_SYN | TCP_RST)) || p->icmp_error)
		return 0;
#pragma unroll
	for (i = 0; i < FLOW_WAYS; i++) {
		f = &b->way[i];
		owner = *(volatile __u32 *)&f->owner;
		if (f->tag == masked(hash, owner) && (owner & ~FLOW_YOUNG) - 1 < FLOW_HALF - 1)
			break; /* neither free nor half */
	}
	if (i == FLOW_WAYS || is_idle(f, owner, now, n) || ((owner & FLOW_YOUNG) && f->seen != now))
		return 0;
	e = owned(owner);
	if (!e)
		return 0;
	if (f->seen != now)
		f->seen = now;
	count(FLOW_HIT);
	return e;
}

static __always_inline struct endpoint *choose(const struct packet *p, const struct vip *vip, const struct node *n, __u16 *slot)
{
	*slot = from_ring(vip, p->hash);
	if (*slot & SLOT_UNSAFE) {
		struct endpoint *e = choose_known(p, vip, n);

		return e ? e : endpoint_of(choose_tracked(p, vip, n, *slot));
	}
	count(FLOW_SAFE);
	return by_slot(*slot);
}

/* keep_fragments notes where a first fragment goes, for the later ones: not for
 * long, and as little worth as a SYN's flow. */
APART int keep_fragments(const struct packet *p, const struct node *n, __u32 owner)
{
	__u32 now = now_seconds(), had;
	struct vip *row;
	__u64 hash;

	if (!p || !n)
		return 0;
	row = find_service(&p->dst, 0, p->proto, 1, n);
	if (!row)
		return 0;
	hash = fragment_hash(p, row);
	put_flow(find_flow(hash, now, n, &had, 0), hash, owner | FLOW_UDP | FLOW_HALF, now);
	return 0;
}

/* choose_later gives the index of the endpoint of a later fragment: the first
 * one's, or what its addresses alone say; 0: none. */
APART __u32 choose_later(const struct packet *p, const struct vip *vip, const struct node *n)
{
	struct endpoint *e;
	__u32 owner;

	if (!p || !vip || !n)
		return 0;
	find_flow(fragment_hash(p, vip), now_seconds(), n, &owner, 0);
	e = owner ? owned(owner) : 0;
	count(e ? FLOW_FRAGMENT : FLOW_FRAGMENT_ROW);
	if (!e)
		e = by_slot(from_ring(vip, p->hash));
	return e ? e->index : 0;
}
