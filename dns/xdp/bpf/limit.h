/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Response rate limiting as in dns/limit, on the same table of debts as the
 * sockets. */
#pragma once

enum fate { FATE_SEND, FATE_DROP, FATE_TRUNCATE };

#define TICK_BITS 48
#define TICK_MASK ((1ULL << TICK_BITS) - 1)
#define WINDOW 1000000       /* ticks of a microsecond: the greatest debt */

static __always_inline __u64 due(__u64 v, __u64 now)
{
	v &= TICK_MASK;
	return v > now ? v - now : 0;
}

static __always_inline int limits_on(void)
{
	__u32 zero = 0;
	struct limits *l = bpf_map_lookup_elem(&rate, &zero);

	return l && l->on;
}

/* find_debt notes the way that holds a network's debt, or else the one with
 * the least, which the network takes over. It gives the debt. */
static __always_inline __u64 find_debt(struct query *q, const struct limits *l, const struct network *n, int i,
				       __u64 now)
{
	__u64 h = l->key, tag, least = TICK_MASK, v, d;
	__u32 at, j, best = 0;
	struct debts *set;

	h = mix(h, bpf_be64_to_cpu(q->client.half[0]) & n->mask_hi);
	h = mix(h, bpf_be64_to_cpu(q->client.half[1]) & n->mask_lo);
	h = mix(h, n->bits);
	tag = h >> TICK_BITS | 1;
	at = h & l->mask;
	set = bpf_map_lookup_elem(&debts, &at);
	if (!set)
		return 0;
	for (j = 0; j < WAYS; j++) {
		v = set->way[j];
		if (v >> TICK_BITS == tag) {
			best = j;
			break;
		}
		d = due(v, now);
		if (d < least) {
			least = d;
			best = j;
		}
	}
	q->way[i] = at * WAYS + best; /* by memory, where the verifier forgets what it was */
	q->tag[i] = tag;
	v = set->way[q->way[i] % WAYS];
	return v >> TICK_BITS == tag ? due(v, now) : 0;
}

static __always_inline void pay(struct query *q, int i, __u64 now, __u64 cost)
{
	__u32 at = q->way[i] / WAYS;
	struct debts *set = bpf_map_lookup_elem(&debts, &at);
	__u64 *way, v, next, tag = q->tag[i];
	int try;

	if (!set)
		return;
	way = &set->way[q->way[i] % WAYS];
	for (try = 0; try < 2; try++) { /* who loses twice against other CPUs pays nothing */
		v = *(volatile __u64 *)way;
		next = tag << TICK_BITS | ((now + (v >> TICK_BITS == tag ? due(v, now) : 0) + cost) & TICK_MASK);
		if (__sync_val_compare_and_swap(way, v, next) == v)
			return;
	}
}

/* limit says what becomes of an answer to the client (enum fate), and has one
 * that is sent paid. */
__noinline int limit(struct query *q, int pays)
{
	__u32 zero = 0, v6, i;
	struct limits *l = bpf_map_lookup_elem(&rate, &zero);
	struct slips *s;
	__u64 now;

	if (!q)
		return FATE_DROP;
	v6 = q->v6 & 1;
	if (!l || !l->on || (l->exempt && among(q, l->exempt)))
		return FATE_SEND;
	now = bpf_ktime_get_ns() / 1000;
	for (i = 0; i < NETWORKS; i++) {
		if (!l->network[v6][i].cost)
			break;
		if (find_debt(q, l, &l->network[v6][i], i, now) + l->network[v6][i].cost > WINDOW)
			goto over;
	}
	for (i = 0; i < NETWORKS; i++) {
		if (!pays || !l->network[v6][i].cost)
			break;
		pay(q, i, now, l->network[v6][i].cost);
	}
	return FATE_SEND;
over:
	s = bpf_map_lookup_elem(&slipping, &zero);
	if (!s || !l->slip)
		return FATE_DROP;
	if (++s->over < l->slip)
		return FATE_DROP;
	s->over = 0;
	return FATE_TRUNCATE;
}
