/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The program of a nameserver's device: it answers what dns/answer has made
 * ready, and passes on the rest. */
#include "kernel.h"
#include "consts.h"
#include "types.h"
#include "maps.h"
#include "headers.h"
#include "packet.h"
#include "question.h"
#include "edns.h"
#include "cookie.h"
#include "find.h"
#include "clients.h"
#include "steer.h"
#include "limit.h"
#include "write.h"

char _license[] SEC("license") = "Dual BSD/GPL";

static __always_inline enum reason handle(struct xdp_md *ctx, struct query *q)
{
	struct settings *set;
	struct moment *m;
	struct answer *a;
	enum reason r;
	__u32 zero = 0;

	r = find_message(ctx, q);
	if (r != REASONS)
		return r;
	set = bpf_map_lookup_elem(&self, &zero);
	m = bpf_map_lookup_elem(&moments, &zero);
	if (!set || !m || !plain(ctx, q))
		return PASS_MESSAGE;
	r = read_question(ctx, q);
	if (r != REASONS)
		return r;
	if (!read_edns(ctx, q, set))
		return PASS_OPTIONS;
	a = record(find_answer(q));
	q->scope = 0;
	if (a && a->what == WHAT_STEERED)
		a = record(steer(q, (void *)a, m->live));
	if (!a || a->what != WHAT_ANSWER)
		return PASS_ANSWER;
	q->valid = 0;
	if (q->cookie && !bake(q, set, m->now))
		return PASS_COOKIE;
	q->rcode = a->flags;
	return respond(ctx, q, a);
}

SEC("xdp")
int dns(struct xdp_md *ctx)
{
	__u32 zero = 0;
	struct query *q = bpf_map_lookup_elem(&queries, &zero);
	enum reason r;

	if (!q)
		return XDP_PASS;
	r = handle(ctx, q);
	count(q, r);
	return r < TX_ANSWER ? XDP_PASS : r < DROP_LIMITED ? XDP_TX : XDP_DROP;
}
