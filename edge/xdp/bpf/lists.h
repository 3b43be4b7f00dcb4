/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What the lists of networks, countries and AS numbers say of an address: geo's
 * index (geo/index.go) over all of them, worked out before any packet. */
#pragma once

static __always_inline __u32 ones(__u64 v)
{
	v -= (v >> 1) & 0x5555555555555555ULL;
	v = (v & 0x3333333333333333ULL) + ((v >> 2) & 0x3333333333333333ULL);
	v = (v + (v >> 4)) & 0x0f0f0f0f0f0f0f0fULL;
	return (v * 0x0101010101010101ULL) >> 56;
}

static __always_inline struct list_row *list_row(void *list, __u32 i)
{
	return bpf_map_lookup_elem(list, &i);
}

_Static_assert(REASONS <= LIST_PLACES, "octets of classes tell reasons from places");

/* places_of gives the bits of the places of a class. */
static __noinline __u64 places_of(__u32 class)
{
	__u32 zero = 0, i = class - LIST_PLACES;
	struct list_row *head, *row;
	void *list;

	list = bpf_map_lookup_elem(&lists, &zero);
	if (!list)
		return 0;
	head = list_row(list, 0);
	if (!head)
		return 0;
	row = list_row(list, head->head.places + i / 8);
	return row ? row->places[i % 8] : 0;
}

/* listed gives the class of a source: 0, LIST_ALLOWED, a reason to drop its
 * packets, or one from LIST_PLACES on. */
__noinline int listed(const struct address *a, int v6)
{
	__u32 zero = 0, bits, e, i, level;
	struct list_row *head, *row;
	struct list_node *node;
	__u64 hi, lo, bit;
	void *list;

	list = bpf_map_lookup_elem(&lists, &zero);
	if (!a || !list)
		return 0;
	head = list_row(list, 0);
	if (!head)
		return 0;
	hi = bpf_be64_to_cpu(a->half[0]);
	lo = bpf_be64_to_cpu(a->half[1]);
	if (!v6) {
		hi = lo << 32;
		lo = 0;
	}
	bits = (v6 ? head->head.bits6 : head->head.bits4) & 31;
	i = (v6 ? head->head.root6 : head->head.root4) + (hi >> (64 - bits));
	row = list_row(list, i / 16);
	if (!row)
		return 0;
	e = row->word[i % 16];
	hi = hi << bits | lo >> (64 - bits);
	lo <<= bits;
	for (level = 0; level < LIST_LEVELS; level++) {
		if (!(e & LIST_DIVIDED))
			break;
		e &= ~LIST_DIVIDED;
		row = list_row(list, head->head.nodes + e / 2);
		if (!row)
			return 0;
		node = &row->node[e % 2];
		bit = 1ULL << (hi >> 58);
		if (!(node->kids & bit)) {
			i = node->leaf + ones(node->starts & ((bit << 1) - 1)) - 1;
			row = list_row(list, head->head.classes + i / 64);
			return row ? row->octet[i % 64] : 0;
		}
		e = LIST_DIVIDED | (node->kid + ones(node->kids & (bit - 1)));
		hi = hi << 6 | lo >> 58;
		lo <<= 6;
	}
	return e & 0xff;
}
