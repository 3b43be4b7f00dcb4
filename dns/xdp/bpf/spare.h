/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What the sockets are spared: queries that would be passed on, of clients over
 * the rate limit. */
#pragma once

/* whole says whether the name that was read is one: its labels lead to its end. */
static __always_inline int whole(struct query *q)
{
	const __u8 *name = (const __u8 *)q->name;
	__u32 at, i;

	q->cursor = 0;
	for (i = 0; i < 4 * NAME_WORDS; i++) {
		at = q->cursor;
		if (at >= 8 * NAME_WORDS || name[at] > 63)
			return 0;
		q->cursor = at + 1 + name[at];
		if (name[at] == 0)
			return q->cursor == q->length;
	}
	return 0;
}

/* cut_short makes a query whose answer is not here a truncated one. */
__noinline int cut_short(struct xdp_md *ctx, struct query *q)
{
	struct answer none = {};
	__u32 opt = 0, body;
	enum reason r;

	if (!q)
		return DROP_WRITE;
	body = q->dns + DNS_HEADER + q->length + 4;
	q->scope = 0;
	if (q->edns)
		opt = make_opt(q, &none, 0);
	q->answer = DNS_HEADER + q->length + 4 + opt;
	q->cut = 1;
	r = make_room(ctx, (int)(body + opt) - (int)room(ctx), body);
	if (r != REASONS)
		return r;
	if (!turn(ctx, q, &none, sizeof(struct udp_header) + q->answer))
		return DROP_WRITE;
	if (opt && !put_opt(ctx, q, body, opt, 0))
		return DROP_WRITE;
	return seal(ctx, q) ? TX_TRUNCATED : DROP_WRITE;
}

/* spare looks whether the answer to a query would be over the rate limit. Then
 * it becomes here what the limit has of such answers: nothing, or now and then a
 * truncated one. Else it is passed on for the reason given; its answer is
 * counted by the sockets' limit. */
__noinline int spare(struct xdp_md *ctx, struct query *q, __u32 reason)
{
	__u32 zero = 0, wanted;
	struct settings *set = bpf_map_lookup_elem(&self, &zero);
	struct moment *m = bpf_map_lookup_elem(&moments, &zero);
	int fate, r = DROP_FLOOD;

	if (!q || !set || !m || !limits_on())
		return reason;
	if (q->type == TYPE_IXFR || q->type == TYPE_AXFR)
		return reason; /* no limit knows them */
	if (q->cookie && !q->baked && !bake(q, m->now))
		return reason; /* whether it is valid is for the sockets to say */
	if (q->valid || (q->length && !whole(q)))
		return reason;
	fate = limit(q, 0);
	if (fate == FATE_SEND || (fate == FATE_TRUNCATE && !q->length))
		return reason;
	q->rcode = 0;
	wanted = sample_query(ctx, q, m->now, set->share);
	if (fate == FATE_TRUNCATE)
		r = cut_short(ctx, q);
	if (wanted && r >= TX_ANSWER)
		sample_answer(ctx, q, wanted, r);
	return r;
}
