/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* From a steered name to the answer for the client. */
#pragma once

static __always_inline __u16 half_word(void *map, __u32 i)
{
	__u32 row = i / ROW_HALVES;
	struct halves *w = bpf_map_lookup_elem(map, &row);

	return w ? w->half[i % ROW_HALVES] : ENTRY_PASS;
}

/* scope_at gives the scope of what is decided for a spot. */
static __always_inline __u32 scope_at(const struct state *st, const struct spot *s)
{
	__u32 scope;

	if (st->scopes == SCOPES_NONE)
		return 0;
	if (st->scopes == SCOPES_OF_BLOCKS)
		return (s->value & 0xff) + s->before;
	scope = octet(&scopes, st->scopes, s->block);
	if (!s->before || scope)
		return scope + s->before;
	return octet(&scopes, st->scopes, s->carrier);
}

/* turn_of gives the number that says which record comes first. */
static __always_inline __u32 turn_of(__u32 rotate, __u32 slot)
{
	__u32 zero = 0;
	struct slips *s;

	if (rotate == ROTATE_CLIENT)
		return slot;
	s = bpf_map_lookup_elem(&slipping, &zero);
	return s ? s->turn++ : 0;
}

/* steer gives the place of the answer to a client, or REF_PASS, and its scope
 * where the query has a Client Subnet that says who the client is. */
__noinline ref steer(struct query *q, ref place, __u32 live)
{
	const struct steered *how = record(place);
	__u32 index, base, count, rotate, slot = 0, slot_bits = 0, bits = 0;
	struct client c = {};
	struct answer *a;
	struct state *st;
	struct spot s;
	__u16 e;

	if (!q || !how)
		return REF_PASS;
	index = how->state + (live & 1) * MAX_STATES;
	base = how->base;
	count = how->count;
	rotate = how->rotate;
	st = bpf_map_lookup_elem(&states, &index);
	if (!st)
		return REF_PASS;
	if (q->source && q->ecs) {
		c.v6 = q->family == 2;
		c.hi = q->subnet[0];
		c.lo = q->subnet[1];
	} else {
		c.v6 = q->v6;
		c.hi = q->v6 ? bpf_be64_to_cpu(q->client.half[0]) : (__u64)bpf_ntohl(q->client.word[3]) << 32;
		c.lo = bpf_be64_to_cpu(q->client.half[1]);
	}
	find_spot(&c, &s);
	e = half_word(&entries, st->entries + (s.value >> 8));
	if ((e & ENTRY_SLICED) || rotate == ROTATE_CLIENT)
		slot = slot_of(&c, &slot_bits);
	if ((e & ENTRY_SLICED) && e != ENTRY_PASS) {
		bits = slot_bits;
		e = half_word(&slots, (e & ~ENTRY_SLICED) * SLOTS + slot);
	}
	if (e >= count)
		return REF_PASS;
	if (!rotate) {
		place = word(&variants, base + e);
	} else {
		base += e * TURNS;
		place = word(&variants, base);
		a = record(place);
		if (a && a->what == WHAT_ANSWER && a->turns > 1) {
			place = word(&variants, base + turn_of(rotate, slot) % a->turns);
			if (rotate == ROTATE_CLIENT)
				bits = slot_bits;
		}
	}
	if (q->source && q->ecs) {
		if (st->scopes == SCOPES_PASS)
			return REF_PASS;
		q->scope = scope_at(st, &s);
		if (q->scope < bits)
			q->scope = bits;
	}
	return place;
}
