/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Sets of networks: where each begins and ends, in order. */
#pragma once

/* among says whether the client is in a set, which is first bound << 32 |
 * bounds: then it stands behind an odd number of them. */
static __always_inline int among(const struct query *q, __u64 span)
{
	__u32 low = 0, high = span, first = span >> 32, at;
	__u64 hi, lo;
	struct bound *b;
	int i;

	hi = bpf_be64_to_cpu(q->client.half[0]);
	lo = bpf_be64_to_cpu(q->client.half[1]);
	for (i = 0; i < BOUND_STEPS; i++) {
		if (low >= high)
			break;
		at = first + (low + high) / 2;
		b = bpf_map_lookup_elem(&bounds, &at);
		if (!b)
			return 0;
		if (b->hi < hi || (b->hi == hi && b->lo <= lo))
			low = (low + high) / 2 + 1;
		else
			high = (low + high) / 2;
	}
	return low & 1;
}
