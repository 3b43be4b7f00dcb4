/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Rates: each packet let through has its price, and what is due may lie a second
 * ahead, so that a burst of one second's packets passes and no more (GCRA). All
 * CPUs go by one debt, but pay for several packets at a time; one that finds
 * the purse empty writes nothing, so a flood does not fight for its line. */
#pragma once

#define TICKS 16ULL                         /* a nanosecond, in purses */
#define SECOND (1000000000ULL * TICKS)

#define SAMPLE_PURSE MAX_TALLIES
#define VIP_PURSES (MAX_TALLIES + 1)

/* spend says whether one more packet may pass. A CPU that loses against others
 * twice lets it pass unpaid. */
static __always_inline int spend(__u32 index, __u64 cost, __u32 batch, __u64 now)
{
	__u64 *ahead = bpf_map_lookup_elem(&credits, &index), due, from;
	struct purse *purse = bpf_map_lookup_elem(&purses, &index);
	int try;

	if (!ahead || !purse || !batch)
		return 1;
	if (*ahead) {
		(*ahead)--;
		return 1;
	}
	for (try = 0; try < 2; try++) {
		due = *(volatile __u64 *)&purse->due;
		from = due > now ? due : now;
		if (from - now + cost * batch > SECOND)
			return 0;
		if (__sync_val_compare_and_swap(&purse->due, due, from + cost * batch) == due) {
			*ahead = batch - 1;
			return 1;
		}
	}
	return 1;
}

#define DEBT_BITS 48
#define DEBT_MASK ((1ULL << DEBT_BITS) - 1)
#define DEBT_TICK 6                         /* 2^6 ns */
#define DEBT_WINDOW (1000000000ULL >> DEBT_TICK)
#define SOURCE_SALT 0x534f55524345ULL       /* no flow's, see flow_hash */

/* debt_of gives how long it takes until a source's packets are paid. What lies
 * further ahead than a debt can is of long ago. */
static __always_inline __u64 debt_of(__u64 way, __u64 now)
{
	__u64 debt = ((way & DEBT_MASK) - now) & DEBT_MASK;

	return debt > DEBT_WINDOW ? 0 : debt;
}

/* source_pays is spend for a source: an IPv4 address, or the /64 of an IPv6
 * one. A source that the table does not know takes the place of the one with
 * the least debt, so that who floods is not forgotten for those who do not. */
static __always_inline int source_pays(const struct packet *p, __u64 cost, __u64 ns)
{
	__u64 hash = siphash(p->src.half[0], is4(&p->src) ? p->src.half[1] : 0, SOURCE_SALT);
	__u64 now = (ns >> DEBT_TICK) & DEBT_MASK, tag = hash >> DEBT_BITS | 1;
	__u64 v, debt, least = ~0ULL, *way;
	__u32 at = hash & (DEBT_SETS - 1), best = 0, j;
	struct debts *set = bpf_map_lookup_elem(&sources, &at);

	if (!set)
		return 1;
	for (j = 0; j < DEBT_WAYS; j++) {
		v = set->way[j];
		if (v >> DEBT_BITS == tag) {
			best = j;
			break;
		}
		debt = debt_of(v, now);
		if (debt < least) {
			least = debt;
			best = j;
		}
	}
	asm volatile("" : "+r"(best)); /* the bound on the register that is used */
	way = &set->way[best & (DEBT_WAYS - 1)];
	v = *(volatile __u64 *)way;
	debt = v >> DEBT_BITS == tag ? debt_of(v, now) : 0;
	if (debt + cost > DEBT_WINDOW)
		return 0;
	__sync_val_compare_and_swap(way, v, tag << DEBT_BITS | ((now + debt + cost) & DEBT_MASK));
	return 1;
}
