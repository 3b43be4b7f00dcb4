/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The program of a nameserver's device: it answers what dns/answer has made
 * ready, and passes on the rest. */
#include "kernel.h"
#include "consts.h"
#include "types.h"
#include "maps.h"
#include "networks.h"
#include "headers.h"
#include "packet.h"
#include "question.h"
#include "edns.h"
#include "cookie.h"
#include "gaps.h"
#include "find.h"
#include "clients.h"
#include "steer.h"
#include "limit.h"
#include "write.h"
#include "sha1.h"
#include "proof.h"
#include "sample.h"
#include "spare.h"

char _license[] SEC("license") = "Dual BSD/GPL";

/* from_proxy says whether the client is a proxy that tells of others. */
__noinline int from_proxy(const struct query *q, __u64 proxies)
{
	return q && among(q, proxies);
}

/* reply answers a query that has been read, or says why it does not. */
static __always_inline enum reason reply(struct xdp_md *ctx, struct query *q, const struct settings *set,
					 const struct moment *m)
{
	__u32 wanted, put = 0;
	enum reason r;
	ref place;

	place = find_answer(q);
	if (octet(&stale, 0, q->part))
		return PASS_STALE;
	if (what_of(place) == WHAT_STEERED)
		place = steer(q, place, m->live);
	if (what_of(place) != WHAT_ANSWER) {
		if (what_of(place) != WHAT_PROOF || !find_proof(q, place))
			return PASS_ANSWER;
		put = 1;
	}
	if (q->cookie && (!bake(q, m->now) || (set->require && !q->valid)))
		return PASS_COOKIE;
	wanted = sample_query(ctx, q, m->now, set->share);
	r = put ? prove(ctx, q) : respond(ctx, q, place);
	if (wanted && r >= TX_ANSWER)
		sample_answer(ctx, q, wanted, r);
	return r;
}

/* handle answers what comes, or says why it does not. */
static __always_inline enum reason handle(struct xdp_md *ctx, struct query *q)
{
	struct settings *set;
	struct moment *m;
	__u32 zero = 0;
	enum reason r;

	r = find_message(ctx, q);
	if (r != REASONS)
		return r;
	set = bpf_map_lookup_elem(&self, &zero);
	m = bpf_map_lookup_elem(&moments, &zero);
	if (!set || !m || !plain(ctx, q))
		return PASS_MESSAGE;
	if (set->proxies && from_proxy(q, set->proxies))
		return PASS_PROXY;
	q->odd = 0;
	q->valid = 0;
	q->baked = 0;
	q->zone = 0;
	q->part = 0;
	if (!read_question(ctx, q))
		return skip_question(q) ? spare(ctx, q, PASS_NAME) : PASS_NAME;
	if (!read_edns(ctx, q, set))
		return PASS_OPTIONS;
	q->scope = 0;
	r = q->odd ? q->odd : reply(ctx, q, set, m);
	return r < TX_ANSWER && r != PASS_DRIVER ? spare(ctx, q, r) : r;
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
