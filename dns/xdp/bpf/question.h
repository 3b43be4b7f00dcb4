/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The header and the question of a query. */
#pragma once

#define ONES 0x0101010101010101ULL
#define HIGHS 0x8080808080808080ULL

/* lower folds the letters in eight octets. Octets that are lengths of labels
 * are no letters. */
static __always_inline __u64 lower(__u64 w)
{
	__u64 low = w & ~HIGHS;
	__u64 from_a = low + (0x80 - 'A') * ONES;
	__u64 past_z = low + (0x7f - 'Z') * ONES;

	return w | (((from_a ^ past_z) & ~w & HIGHS) >> 2);
}

/* mix takes the next word of a name into its hash. */
static __always_inline __u64 mix(__u64 h, __u64 w)
{
	h = (h ^ w) * 0x9fb21c651e98df25ULL;
	return h ^ (h >> 32);
}

/* sum_of adds the 32-bit halves of a word, to be folded in the end. */
static __always_inline __u64 sum_of(__u64 w)
{
	return (w & 0xffffffff) + (w >> 32);
}

static __always_inline __u16 fold(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (sum & 0xffff) + (sum >> 16);
}

/* swapped is a folded sum of octets that begin at an odd place. */
static __always_inline __u16 swapped(__u16 sum, __u32 odd)
{
	return odd & 1 ? sum << 8 | sum >> 8 : sum;
}

/* read_name takes the name up to its first zero octet, which is its end where
 * it is the name of a node: one with a zero in a label is found nowhere, and
 * cuts() sees that. 0: there is none, or it is too long. */
static __always_inline int read_name(struct xdp_md *ctx, struct query *q)
{
	void *end = (void *)(long)ctx->data_end, *p;
	__u64 h = hash_key, sum = 0, w, zero, low;
	int i;

	p = at(ctx, q->dns + DNS_HEADER, 0);
	if (!p)
		return 0;
	for (i = 0; i < NAME_WORDS; i++, p += 8) {
		if (p + 8 <= end)
			w = *(__u64 *)p;
		else if (p + 4 <= end)
			w = *(__u32 *)p | 0xffffffff00000000ULL; /* type and class must follow */
		else
			return 0;
		zero = (w - ONES) & ~w & HIGHS; /* exact in its lowest bit */
		if (zero) {
			low = zero & -zero;
			w &= low - 1;
		}
		sum += sum_of(w);
		w = lower(w);
		q->name[i] = w;
		h = mix(h, w);
		if (zero) {
			q->name[i + 1] = 0;
			q->hash = h;
			q->sum = sum;
			/* the number of the octet that low is the highest bit of */
			q->length = 8 * i + (((low >> 7) * 0x0001020304050607ULL) >> 56) + 1;
			return 1;
		}
	}
	return 0;
}

/* plain says whether the message is a query with one question, and at most one
 * record behind it. */
static __always_inline int plain(struct xdp_md *ctx, struct query *q)
{
	struct dns_header *h = at(ctx, q->dns, sizeof(*h));

	if (!h || (*(__u8 *)&h->flags & DNS_NOT_PLAIN))
		return 0;
	q->edns = h->counts[3] == bpf_htons(1);
	return h->counts[0] == bpf_htons(1) && !h->counts[1] && !h->counts[2] && (q->edns || !h->counts[3]);
}

/* read_question reads name, type and class; 0: it does not know the name. */
static __always_inline int read_question(struct xdp_md *ctx, struct query *q)
{
	__be16 *fixed;

	if (!read_name(ctx, q))
		return 0;
	fixed = at(ctx, q->dns + DNS_HEADER + q->length, 4);
	if (!fixed)
		return 0;
	q->type = bpf_ntohs(fixed[0]);
	q->sum += swapped(fold((__u64)fixed[0] + fixed[1]), q->length);
	if (fixed[1] != bpf_htons(CLASS_IN) || q->type == TYPE_NXNAME || (q->type >= TYPE_META && q->type <= TYPE_ANY))
		q->odd = PASS_TYPE;
	return 1;
}

/* skip_question leaves out a question that was not read; 0: what stands behind
 * it may say something about the client. */
static __always_inline int skip_question(struct query *q)
{
	q->length = 0;
	q->cookie = 0;
	q->type = 0;
	return !q->edns;
}
