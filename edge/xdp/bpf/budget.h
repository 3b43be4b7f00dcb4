/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What one CPU does so many times a second at most. */
#pragma once

#define BUDGET_CHANCES TOO_BIG_BUDGETS /* the others are of ICMP errors */

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
