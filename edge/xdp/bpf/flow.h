/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The flow table: which endpoint a flow has where the ring alone does not tell.
 * Buckets of four flows, one cache line each. A flow stands in the first of its
 * buckets that had room; the next is looked at only where one is full, so that
 * within the table's size no flow has to go for another. Anybody can make flows,
 * in any number and in any name, so one that was seen in a single second goes
 * before one that went on: what floods pushes out its like. Of what a SYN alone
 * has made, or a datagram's first fragment, is known still less: it goes first of
 * all, and is forgotten soon. */
#pragma once

static __always_inline __u32 now_seconds(void)
{
	return bpf_ktime_get_coarse_ns() / 1000000000ULL;
}

/* bucket_of gives the nth bucket of a hash. */
static __always_inline struct bucket *bucket_of(__u64 hash, __u32 n)
{
	__u32 i = ((__u64)(__u32)(hash + n * 0x9e3779b97f4a7c15ULL) * flow_buckets) >> 32;

	return bpf_map_lookup_elem(&flows, &i);
}

/* masked gives the tag as it stands in the table beside its owner. */
static __always_inline __u64 masked(__u64 hash, __u32 owner)
{
	return hash ^ owner * 0x9e3779b97f4a7c15ULL;
}

static __always_inline __u32 idle_of(const struct node *n, __u32 owner)
{
	return n->idle[(owner / FLOW_UDP) & 3];
}

/* is_idle says whether a flow was unused for too long. Another CPU may have seen
 * it in a second that has not begun here yet. */
static __always_inline int is_idle(const struct flow *f, __u32 owner, __u32 now, const struct node *n)
{
	return (__s32)(now - f->seen) > (__s32)idle_of(n, owner);
}

/* in_bucket looks for the flow, and for a place to put it: a free or idle
 * one. 1: no more is to be looked at, for it is found, or would stand at a place
 * that was never taken. */
static __always_inline int in_bucket(struct bucket *b, __u64 hash, __u32 now, const struct node *n,
				     struct flow **at, __u32 *owner)
{
	int i;

#pragma unroll
	for (i = 0; i < FLOW_WAYS; i++) {
		struct flow *f = &b->way[i];
		__u32 o = *(volatile __u32 *)&f->owner;

		if (o && f->tag == masked(hash, o)) {
			*at = f;
			*owner = o;
			return 1;
		}
		if (!o) {
			if (!*at)
				*at = f;
			return 1;
		}
		if (!*at && is_idle(f, o, now, n))
			*at = f;
	}
	return 0;
}

/* fetch reads of all buckets that come after the first, so that the processor
 * waits for them at once and not for one after the other. */
static __always_inline void fetch(__u64 hash)
{
	struct bucket *b;
	__u32 i;

#pragma unroll
	for (i = 1; i < NEW_BUCKETS; i++) {
		b = bucket_of(hash, i);
		if (b)
			(void)*(volatile __u32 *)&b->way[0].owner;
	}
}

/* find_flow gives the flow's place and its owner; without the flow owner is 0
 * and the place one to put it, or NULL where all of its buckets are full. For a
 * flow that begins anew fewer are looked at: in a table that is full beyond its
 * size, as in a flood, the rest costs much and finds nothing. */
static __always_inline struct flow *find_flow(__u64 hash, __u32 now, const struct node *n, __u32 *owner, const int anew)
{
	struct flow *at = 0;
	struct bucket *b;
	__u32 i;

	*owner = 0;
	for (i = 0; i < FLOW_BUCKETS; i++) {
		if (anew && i == NEW_BUCKETS)
			break;
		if (anew && i == 1)
			fetch(hash);
		b = bucket_of(hash, i);
		if (!b || in_bucket(b, hash, now, n, &at, owner) || (anew && at))
			break;
	}
	if (*owner && is_idle(at, *owner, now, n))
		*owner = 0;
	return at;
}

/* rather says whether f is to go for another flow rather than g: one that was
 * seen in one second only, above all of which only its SYN was, before one that
 * has gone on, else the one that was in use the longest time ago. */
static __always_inline int rather(const struct flow *f, const struct flow *g)
{
	__u32 a = f->owner >> FLOW_WORTH, b = g->owner >> FLOW_WORTH;

	return a != b ? a > b : (__s32)(f->seen - g->seen) < 0;
}

/* goes gives the place of the flow in a bucket that is to go for another. */
static __always_inline struct flow *goes(struct bucket *b)
{
	struct flow *f = &b->way[0];
	int i;

#pragma unroll
	for (i = 1; i < FLOW_WAYS; i++)
		if (rather(&b->way[i], f))
			f = &b->way[i];
	return f;
}

/* make_room gives the place of a flow in use that goes for one whose buckets are
 * full: in the first of those that have one of the least worth. */
static __always_inline struct flow *make_room(__u64 hash)
{
	struct flow *f, *least = 0;
	struct bucket *b;
	__u32 i;

	for (i = 0; i < NEW_BUCKETS; i++) {
		b = bucket_of(hash, i);
		if (!b)
			break;
		f = goes(b);
		if (!least || f->owner >> FLOW_WORTH > least->owner >> FLOW_WORTH)
			least = f;
		if (least->owner >> FLOW_WORTH == (FLOW_YOUNG | FLOW_HALF) >> FLOW_WORTH)
			break;
	}
	return least;
}

/* put_flow keeps the flow at its place, or in place of another. */
static __always_inline void put_flow(struct flow *f, __u64 hash, __u32 owner, __u32 now)
{
	if (!f) {
		f = make_room(hash);
		if (f && !(f->owner >> FLOW_WORTH))
			count(FLOW_EVICTED);
	}
	if (!f)
		return;
	owner |= FLOW_YOUNG;
	f->owner = owner;
	f->seen = now;
	f->tag = masked(hash, owner);
}

static __always_inline __u32 owner_of(const struct endpoint *e, const struct packet *p)
{
	return (p->proto == PROTO_TCP ? 0 : FLOW_UDP) | (e->index & SLOT_ENDPOINT) << 16 | e->generation;
}

/* goes_on notes that there was a packet of a flow, maybe in another second than
 * the last, and maybe more than a SYN. What another CPU writes at the same moment
 * may lose the flow. */
static __always_inline void goes_on(struct flow *f, __u64 hash, __u32 owner, int more, __u32 now)
{
	__u32 next = more ? owner & ~FLOW_HALF : owner;

	if ((__s32)(now - f->seen) > 0)
		next &= ~FLOW_YOUNG;
	if (f->seen != now)
		f->seen = now;
	if (next == owner)
		return;
	f->owner = next;
	f->tag = masked(hash, next);
}

/* owned gives the endpoint of a flow's owner while it stands, or NULL. */
static __always_inline struct endpoint *owned(__u32 owner)
{
	struct endpoint *e = endpoint_of(owner >> 16);

	return e && e->keeps && e->generation == (owner & 0xffff) ? e : 0;
}
