/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What one CPU does so many times a second at most. */
#pragma once

#define CHANCE_BUDGETS SOURCE_BUDGETS          /* before them stand those of ICMP errors, */
#define ALL_CHANCES (2 * SOURCE_BUDGETS)       /* behind them the one of all packets passed on */
#define BUDGET_SALT 0x425544474554ULL          /* no flow's, see flow_hash */

/* budget_of gives the number of those budgets that the packet's source has: an
 * IPv4 address, or an IPv6 /64. */
static __always_inline __u32 budget_of(const struct packet *p)
{
	return siphash(p->src.half[0], is4(&p->src) ? p->src.half[1] : 0, BUDGET_SALT) & (SOURCE_BUDGETS - 1);
}

/* affords takes one from this CPU's budget of the second. */
static __always_inline int affords(__u32 index, __u64 most)
{
	__u64 second = now_seconds();
	struct budget *b = bpf_map_lookup_elem(&budgets, &index);

	if (!b)
		return 0;
	if (b->second != second) {
		b->second = second;
		b->spent = 0;
	}
	return b->spent++ < most;
}
