/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* From a client's address to its class: geo's Table, as it lies in its
 * slices, see geo/index.go. */
#pragma once

/* Where an address lies: geo.Spot, and what the block says. */
struct spot {
	__u32 block;         /* number, of the block that says the class */
	__u32 carrier;       /* of an IPv6 address that carries an IPv4 one: its block of IPv6 */
	__u32 before;        /* and how many bits stand before the IPv4 address; else 0 */
	__u32 value;         /* class << 8 | length */
};

/* word gives an entry of a map of 32-bit words, which come by the row. */
static __always_inline __u32 word(void *map, __u32 i)
{
	__u32 row = i / ROW_WORDS;
	struct words *w = bpf_map_lookup_elem(map, &row);

	return w ? w->word[i % ROW_WORDS] : 0;
}

/* octet gives one of a map of octets, from a row on. */
static __always_inline __u8 octet(void *map, __u32 rows, __u32 i)
{
	__u32 row = rows + i / ROW_OCTETS;
	struct octets *w = bpf_map_lookup_elem(map, &row);

	return w ? w->octet[i % ROW_OCTETS] : 0;
}

static __always_inline __u32 ones(__u64 v)
{
	v -= (v >> 1) & 0x5555555555555555ULL;
	v = (v & 0x3333333333333333ULL) + ((v >> 2) & 0x3333333333333333ULL);
	v = (v + (v >> 4)) & 0x0f0f0f0f0f0f0f0fULL;
	return (v * 0x0101010101010101ULL) >> 56;
}

#define DIVIDED 0x80000000

/* descend gives the number of the block; hi and lo are the address with its
 * first bit foremost, without those that the root took. */
static __always_inline __u32 descend(__u32 e, __u64 hi, __u64 lo, int levels)
{
	struct geo_node *n;
	__u64 bit;
	int i;

	for (i = 0; i < levels; i++) {
		if (!(e & DIVIDED))
			break;
		e &= ~DIVIDED;
		n = bpf_map_lookup_elem(&geo_nodes, &e);
		if (!n)
			return 0;
		bit = 1ULL << (hi >> 58);
		if (!(n->kids & bit)) {
			e = n->leaf + ones(n->starts & ((bit << 1) - 1)) - 1;
			return n->kids ? word(&geo_leaves, e) : e;
		}
		e = DIVIDED | (n->kid + ones(n->kids & (bit - 1)));
		hi = hi << 6 | lo >> 58;
		lo <<= 6;
	}
	return e;
}

static __always_inline __u32 find4(__u32 a)
{
	return descend(word(&geo_root4, a >> (32 - root_bits4)), (__u64)a << (32 + root_bits4), 0, 6);
}

static __always_inline __u32 find6(__u64 hi, __u64 lo)
{
	__u32 e = word(&geo_root6, hi >> (64 - root_bits6));

	return descend(e, hi << root_bits6 | lo >> (64 - root_bits6), lo << root_bits6, 22);
}

/* find_spot gives where a client's address lies. */
static __always_inline void find_spot(const struct client *c, struct spot *s)
{
	__u32 a;

	s->before = s->carrier = 0;
	if (!c->v6) {
		s->block = find4(c->hi >> 32);
		s->value = word(&geo_blocks, s->block);
		return;
	}
	s->block = find6(c->hi, c->lo);
	s->value = word(&geo_blocks, s->block);
	switch (s->value >> 8) {
	case IN_SIX_TO_FOUR:
		a = c->hi >> 16;
		s->before = 16;
		break;
	case IN_TEREDO:
		a = ~c->lo;
		s->before = 96;
		break;
	case IN_LAST_32:
		a = c->lo;
		s->before = 96;
		break;
	default:
		return;
	}
	s->carrier = s->block;
	s->block = find4(a);
	s->value = word(&geo_blocks, s->block);
}

/* carried gives the IPv4 address that an IPv6 address carries (geo.Carried). */
static __always_inline int carried(const struct client *c, __u32 *a)
{
	if (c->hi >> 48 == 0x2002)
		*a = c->hi >> 16;
	else if (c->hi >> 32 == 0x20010000)
		*a = ~c->lo;
	else if ((c->hi == 0 && c->lo >> 32 == 0xffff) || (c->hi == 0x0064ff9b00000000ULL && c->lo >> 32 == 0))
		*a = c->lo;
	else
		return 0;
	return 1;
}

/* spread is mix of steer/slot.go. */
static __always_inline __u64 spread(__u64 x)
{
	x += 0x9e3779b97f4a7c15ULL;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ULL;
	x = (x ^ x >> 27) * 0x94d049bb133111ebULL;
	return x ^ x >> 31;
}

/* slot_of gives a client's slot, and of how many bits of the address it
 * follows (steer.SlotOf). */
static __always_inline __u32 slot_of(const struct client *c, __u32 *bits)
{
	__u64 upper = c->hi >> 16;
	__u32 a = c->hi >> 32;

	*bits = 24;
	if (!c->v6 || carried(c, &a)) {
		if (c->v6)
			*bits += c->hi >> 48 == 0x2002 ? 16 : 96;
		return spread(a >> 8) % SLOTS;
	}
	*bits = upper == 0 || upper == 0x0064ff9b0000ULL ? 96 : 48;
	return spread(upper | 1ULL << 63) % SLOTS;
}
