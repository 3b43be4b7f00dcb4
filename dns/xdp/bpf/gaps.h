/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* From a name that does not exist to the NSEC that covers it. */
#pragma once

/* label_word gives eight octets of the label at closer, from one on, the first
 * foremost and zeros behind its end. */
static __always_inline __u64 label_word(const struct query *q, __u32 from)
{
	const __u8 *name = (const __u8 *)q->name;
	__u32 at = q->closer, length;
	__u64 w;

	if (at >= 8 * NAME_WORDS)
		return 0;
	length = name[at];
	at += 1 + from;
	if (from >= length || at > 8 * (NAME_WORDS + 1))
		return 0;
	w = bpf_be64_to_cpu(*(const __u64 *)(name + at));
	return length - from >= 8 ? w : w & ~(~0ULL >> (8 * (length - from)));
}

/* order_rest compares labels whose first 16 octets are alike: the one of a gap
 * with the query's. */
__noinline int order_rest(const struct query *q, ref rest)
{
	const struct label *l = record(rest);
	__u32 length;
	__u64 w;
	int i;

	if (!q || q->closer >= 8 * NAME_WORDS)
		return 0;
	length = ((const __u8 *)q->name)[q->closer];
	if (!l || l->what != WHAT_LABEL)
		return length > 16 ? -1 : 0;
	for (i = 0; i < 6; i++) {
		w = label_word(q, 16 + 8 * i);
		if (l->word[i] != w)
			return l->word[i] < w ? -1 : 1;
	}
	return l->length < length ? -1 : l->length > length;
}

/* find_gap gives what the gap says that a name lies in, by the first words of
 * its label, or what is looked for in its place; or REF_PASS. */
__noinline ref find_gap(struct query *q, ref r, __u64 first, __u64 second)
{
	__u32 mid, i, level;
	const struct gaps *all;
	int order;

	if (!q)
		return REF_PASS;
	for (level = 0; level < GAP_LEVELS; level++) {
		all = record(r);
		if (!all || all->what != WHAT_GAPS)
			return r;
		q->low = 0; /* by memory, where the verifier forgets what they were */
		q->high = all->count;
		for (i = 0; i < GAP_STEPS; i++) {
			mid = (q->low + q->high) / 2 & (GAPS - 1);
			if (mid <= q->low)
				break;
			if (all->gap[mid].word[0] != first)
				order = all->gap[mid].word[0] < first ? -1 : 1;
			else if (all->gap[mid].word[1] != second)
				order = all->gap[mid].word[1] < second ? -1 : 1;
			else
				order = order_rest(q, all->gap[mid].rest);
			if (!order)
				return REF_PASS; /* there is such a label */
			if (order < 0)
				q->low = mid;
			else
				q->high = mid;
		}
		r = all->gap[q->low & (GAPS - 1)].to;
	}
	return r;
}
