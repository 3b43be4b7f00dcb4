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
	return p->proto != PROTO_TCP || !begins(p) || (e->takes && now - f->seen <= SYN_AGAIN);
}

static __always_inline struct endpoint *choose_tracked(const struct packet *p, const struct vip *vip, const struct node *n,
						       __u64 hash, __u16 slot)
{
	int keep = !p->icmp_error && !(p->tcp_flags & TCP_RST);
	int new_here = begins(p) || !(vip->flags & VIP_CHAIN);
	__u32 now = now_seconds(), owner;
	struct flow *f = find_flow(hash, now, n, &owner);
	struct endpoint *e;

	if (owner && f) {
		e = owned(owner);
		if (e && stays(p, f, e, now)) {
			if (keep && f->seen != now)
				f->seen = now;
			count(FLOW_HIT);
			return e;
		}
		count(e ? FLOW_NEW : FLOW_MOVED);
	} else {
		count(keep && new_here ? FLOW_NEW : FLOW_UNKNOWN);
	}
	e = by_slot(slot);
	if (e && keep && new_here)
		put_flow(f, hash, owner_of(e, p), now);
	return e;
}

static __always_inline struct endpoint *choose(const struct packet *p, const struct vip *vip, const struct node *n, __u64 hash,
					       __u16 *slot)
{
	*slot = from_ring(vip, hash);
	if (*slot & SLOT_UNSAFE)
		return choose_tracked(p, vip, n, hash, *slot);
	count(FLOW_SAFE);
	return by_slot(*slot);
}

/* keep_fragments notes where a first fragment goes, for the later ones. */
static __always_inline void keep_fragments(const struct packet *p, const struct node *n, __u32 owner)
{
	struct vip *row = vip_at(&p->dst, 0, p->proto);
	__u32 now = now_seconds(), had;
	__u64 hash;

	if (!row)
		return;
	hash = fragment_hash(p, row);
	put_flow(find_flow(hash, now, n, &had), hash, owner | FLOW_UDP, now);
}

/* choose_later gives the endpoint of a later fragment: the first one's, or
 * what its addresses alone say. */
static __always_inline struct endpoint *choose_later(const struct packet *p, const struct vip *vip, const struct node *n)
{
	__u64 hash = fragment_hash(p, vip);
	struct endpoint *e;
	__u32 owner;

	find_flow(hash, now_seconds(), n, &owner);
	e = owner ? owned(owner) : 0;
	count(e ? FLOW_FRAGMENT : FLOW_FRAGMENT_ROW);
	return e ? e : by_slot(from_ring(vip, flow_hash(p, vip)));
}
