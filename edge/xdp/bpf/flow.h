/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The flow table: an established flow stays with its endpoint while the ring
 * changes. Buckets of four flows, one cache line each. */
#pragma once

static __always_inline struct bucket *flow_bucket(__u64 hash)
{
	__u32 i = (__u32)hash & flow_mask;

	return bpf_map_lookup_elem(&flows, &i);
}

/* masked gives the tag as it stands in the table beside its owner. */
static __always_inline __u64 masked(__u64 hash, __u32 owner)
{
	return hash ^ owner * 0x9e3779b97f4a7c15ULL;
}

/* flow_way finds the flow in its bucket and its owner, else (owner 0) the way
 * to put it: a free one, else the one unused for longest. */
static __always_inline struct flow *flow_way(struct bucket *b, __u64 hash, __u32 *owner)
{
	struct flow *oldest = &b->way[0];
	int i;

#pragma unroll
	for (i = 0; i < FLOW_WAYS; i++) {
		struct flow *f = &b->way[i];
		__u32 o = *(volatile __u32 *)&f->owner;

		if (o && f->tag == masked(hash, o)) {
			*owner = o;
			return f;
		}
		if (f->seen < oldest->seen)
			oldest = f;
	}
	*owner = 0;
	return oldest;
}

static __always_inline void flow_put(struct flow *f, __u64 hash, __u32 owner, __u32 now)
{
	f->owner = owner;
	f->seen = now;
	f->tag = masked(hash, owner);
}

static __always_inline __u32 now_seconds(void)
{
	return bpf_ktime_get_coarse_ns() / 1000000000ULL;
}

/* from_ring gives the endpoint's index that the ring has for the hash; 0: none. */
static __always_inline __u32 from_ring(const struct vip *vip, __u64 hash)
{
	__u32 zero = 0, slot = slot_of(hash), index = vip->ring;
	struct ring *ring;
	void *inner = bpf_map_lookup_elem(&rings, &index);

	if (!inner)
		return 0;
	ring = bpf_map_lookup_elem(inner, &zero);
	if (!ring || slot >= SLOTS)
		return 0;
	return ring->slot[slot];
}

/* choose gives the endpoint for the packet, or NULL, and keeps the flow: by
 * the table if it knows the flow and the endpoint still stands, else by the
 * ring. A SYN begins a flow anew; an ICMP error or RST leaves no trace. */
static __always_inline struct endpoint *choose(const struct packet *p, const struct vip *vip, __u64 hash)
{
	int syn = (p->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN;
	int keep = !p->icmp_error && !(p->tcp_flags & TCP_RST);
	__u32 idle = p->proto == PROTO_TCP ? FLOW_IDLE_TCP : FLOW_IDLE_UDP;
	__u32 now = now_seconds(), index, owner;
	struct bucket *b = flow_bucket(hash);
	struct endpoint *e;
	struct flow *f;

	if (!b)
		return 0;
	f = flow_way(b, hash, &owner);
	if (owner && !syn && now - f->seen <= idle) {
		index = owner >> 16;
		e = bpf_map_lookup_elem(&endpoints, &index);
		if (e && e->usable && e->generation == (owner & 0xffff)) {
			if (keep && f->seen != now)
				f->seen = now;
			count(FLOW_HIT);
			return e;
		}
		count(FLOW_MOVED);
	} else {
		count(FLOW_NEW);
	}
	index = from_ring(vip, hash);
	e = bpf_map_lookup_elem(&endpoints, &index);
	if (!index || !e || e->how == FORWARD_NONE)
		return 0;
	if (keep)
		flow_put(f, hash, index << 16 | e->generation, now);
	return e;
}
