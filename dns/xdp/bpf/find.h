/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* From a name to the answer's place. */
#pragma once

/* matches compares the name of a node with the query's from an octet on. */
static __always_inline int matches(const struct node *n, const struct query *q, __u32 from)
{
	__u32 words = (n->length + 7) / 8;
	const __u8 *name = (const __u8 *)q->name;
	int i;

	if (n->what != WHAT_NODE || n->length + from != q->length)
		return 0;
	for (i = 0; i < NAME_WORDS; i++) {
		if (i >= words)
			return 1;
		if (n->name[i] != *(const __u64 *)(name + from + 8 * i))
			return 0;
	}
	return 1;
}

/* find gives the node that has the query's name from an octet on: REF_NONE
 * where none has, REF_PASS where only the hash says that one has. */
static __noinline ref find(const struct query *q, __u64 hash, __u32 from)
{
	__u32 b = hash & bucket_mask, tag = (hash >> 32) | 1;
	struct bucket *bucket;
	struct node *n;
	int i, probe;
	__u64 e = 0;

	if (from > 8 * NAME_WORDS)
		return REF_PASS;
	for (probe = 0; probe < PROBES; probe++) {
		bucket = bpf_map_lookup_elem(&buckets, &b);
		if (!bucket)
			return REF_PASS;
		for (i = 0; i < WAYS; i++) {
			e = bucket->entry[i];
			if (!e || e >> 32 == tag)
				break;
		}
		if (!e)
			return REF_NONE;
		if (i < WAYS)
			break;
		b = (b + 1) & bucket_mask;
	}
	if (probe == PROBES)
		return REF_NONE;
	n = record(e);
	return n && matches(n, q, from) ? (ref)e : REF_PASS;
}

/* hash_from gives the hash of the query's name from an octet on. */
static __always_inline __u64 hash_from(const struct query *q, __u32 from)
{
	const __u8 *name = (const __u8 *)q->name;
	__u64 h = hash_key;
	int i;

	for (i = 0; i < NAME_WORDS; i++) {
		if (from + 8 * i >= q->length)
			break;
		h = mix(h, *(const __u64 *)(name + from + 8 * i));
	}
	return h;
}

/* encloser gives the node of the closest encloser of a name that has none:
 * REF_PASS where there is none, or the name is none or has too many labels. */
static __always_inline ref encloser(struct query *q)
{
	const __u8 *name = (const __u8 *)q->name;
	__u32 from;
	ref r;
	int i;

	q->cursor = 0;
	for (i = 0; i < MAX_CUTS; i++) {
		from = q->cursor;
		if (from >= 8 * NAME_WORDS || name[from] == 0 || name[from] > 63)
			return REF_PASS;
		q->closer = from;
		from += 1 + name[from];
		if (from >= q->length || from >= 8 * NAME_WORDS)
			return REF_PASS;
		q->cursor = from;
		r = find(q, hash_from(q, from), from);
		if (r != REF_NONE)
			return r;
	}
	return REF_PASS;
}

/* of_type gives the answer for the query's type. */
static __always_inline ref of_type(const struct kinds *k, const struct query *q)
{
	__u32 dnssec = q->dnssec & 1;
	int i;

	for (i = 0; i < MAX_KINDS; i++) {
		if (i >= k->count)
			break;
		if (k->kind[i].type == q->type)
			return k->kind[i].answer[dnssec];
	}
	if (q->type == TYPE_KEY || q->type == TYPE_RRSIG || q->type == TYPE_NSEC)
		return REF_PASS;
	return k->other[dnssec];
}

/* find_answer gives the place of the answer, or REF_PASS. */
__noinline ref find_answer(struct query *q)
{
	struct kinds *k;
	struct node *n;
	ref r;

	if (!q)
		return REF_PASS;
	r = find(q, q->hash, 0);
	if (r != REF_NONE) {
		n = record(r);
		if (!n)
			return REF_PASS;
		q->zone = n->zone;
		q->part = n->part;
		return of_type((void *)(n->name + (n->length + 7) / 8), q);
	}
	n = record(encloser(q));
	if (!n)
		return REF_PASS;
	q->zone = n->zone;
	q->part = n->part;
	r = n->below[q->dnssec & 1];
	k = record(r);
	if (k && k->what == WHAT_GAPS) {
		r = find_gap(q, r, label_word(q, 0), label_word(q, 8));
		k = record(r);
	}
	if (!k)
		return REF_PASS;
	return k->what == WHAT_KINDS ? of_type(k, q) : r;
}
