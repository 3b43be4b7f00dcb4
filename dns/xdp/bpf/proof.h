/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Answers with NSEC3: one of their pieces depends on the hash of the name. */
#pragma once

/* find_proof finds the pieces of an answer; 0: the socket is to give it. */
__noinline int find_proof(struct query *q, ref place)
{
	const struct proof *p = record(place);
	const __u8 *name = (const __u8 *)q;
	ref tree, first, last, middle;

	if (!q || !p || p->what != WHAT_PROOF)
		return 0;
	name = (const __u8 *)q->name;
	if (q->closer >= 8 * NAME_WORDS || name[q->closer] == HASH_LABEL)
		return 0; /* an answer might be compressed against it */
	tree = p->tree;
	first = p->first;
	last = p->last;
	q->piece[0] = p->head;
	if (!hash_closer(q))
		return 0;
	middle = find_gap(q, tree, (__u64)q->digest[0] << 32 | q->digest[1], (__u64)q->digest[2] << 32 | q->digest[3]);
	if (middle == REF_PASS)
		return 0;
	q->piece[1] = first;
	q->piece[2] = middle == first || middle == last ? REF_PASS : middle;
	q->piece[3] = last;
	return 1;
}

/* put_piece writes one behind those that were before it; 0: it could not. */
__noinline int put_piece(struct xdp_md *ctx, struct query *q, ref place)
{
	const struct answer *a = record(place);
	__u32 body, offset, n, relocs;
	const __u64 *behind;

	if (!q || !a)
		return 0;
	body = q->dns + DNS_HEADER + q->length + 4;
	offset = q->low;
	n = a->size;
	relocs = a->relocs;
	asm volatile("" : "+r"(n), "+r"(relocs), "+r"(offset));
	if (n < 8 || n > PAYLOAD || relocs > MAX_RELOCS || offset > PAYLOAD)
		return 0;
	if (bpf_xdp_store_bytes(ctx, body + offset, (void *)a->octets, n))
		return 0;
	q->sum += swapped(a->sum, q->length + offset);
	behind = a->octets + (n + 7) / 8;
	if (!relocate(ctx, q, (const __u16 *)behind, relocs, body, offset))
		return 0;
	q->low = offset + n;
	return 1;
}

/* prove makes the query the answer that is made of the pieces found (enum
 * reason). */
__noinline int prove(struct xdp_md *ctx, struct query *q)
{
	const struct answer *piece[PIECES];
	struct answer whole = {};
	__u32 body, size = 0, opt = 0, i, n, relocs;
	const __u64 *behind;
	int r;

	if (!q)
		return PASS_ANSWER;
#pragma unroll
	for (i = 0; i < PIECES; i++) {
		piece[i] = record(q->piece[i]);
		if (!piece[i])
			continue;
		if (piece[i]->what != WHAT_ANSWER)
			return PASS_ANSWER;
		size += piece[i]->size;
		whole.counts[1] += piece[i]->counts[1]; /* none overflows an octet, so their order does not matter */
	}
	if (!piece[0])
		return PASS_ANSWER;
	whole.flags = q->rcode = piece[0]->flags;
	whole.counts[0] = piece[0]->counts[0];
	if (q->edns) {
		n = piece[0]->size;
		relocs = piece[0]->relocs;
		asm volatile("" : "+r"(n), "+r"(relocs));
		if (n > PAYLOAD || relocs > MAX_RELOCS)
			return PASS_ROOM;
		behind = piece[0]->octets + (n + 7) / 8;
		opt = make_opt(q, piece[0], behind + (relocs + 3) / 4);
	}
	body = q->dns + DNS_HEADER + q->length + 4;
	r = admit(q, size, opt);
	if (r != REASONS)
		return r;
	if (q->cut)
		size = 0;
	r = make_room(ctx, (int)(body + size + opt) - (int)room(ctx), body);
	if (r != REASONS)
		return r;
	if (!turn(ctx, q, &whole, sizeof(struct udp_header) + q->answer))
		return DROP_WRITE;
	q->low = 0;
	for (i = 0; i < PIECES; i++) {
		if (size && q->piece[i] != REF_PASS && !put_piece(ctx, q, q->piece[i]))
			return DROP_WRITE;
	}
	if (opt && !put_opt(ctx, q, body, opt, size))
		return DROP_WRITE;
	if (!seal(ctx, q))
		return DROP_WRITE;
	return q->cut ? TX_TRUNCATED : TX_ANSWER;
}
