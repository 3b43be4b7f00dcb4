/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Copies of queries and answers for those who look at them: the first ones of
 * each second, and a share of all for the query log. */
#pragma once

/* sample_query says whether the query is wanted, and keeps it. */
__noinline int sample_query(struct xdp_md *ctx, const struct query *q, __u32 now, __u32 share)
{
	__u32 zero = 0, len, wanted = 0;
	struct kept *k = bpf_map_lookup_elem(&keeping, &zero);

	if (!q || !k)
		return 0;
	if (k->second != now) {
		k->second = now;
		k->notes = NOTES;
	}
	if (k->notes) {
		k->notes--;
		wanted = WANTED_NOTE;
	}
	k->drawn += 0x9e3779b97f4a7c15ULL; /* multiples of the golden ratio fill the range evenly */
	if (share && (k->drawn >> 32) <= share - 1)
		wanted |= WANTED_LOG;
	if (!wanted)
		return 0;
	len = q->end - q->dns;
	asm volatile("" : "+r"(len));
	if (len > QUERY_ROOM)
		len = QUERY_ROOM;
	if (len < DNS_HEADER || bpf_xdp_load_bytes(ctx, q->dns, k->query, len))
		return 0;
	k->len = len;
	return wanted;
}

/* sample_answer hands over the query with its answer. */
__noinline int sample_answer(struct xdp_md *ctx, const struct query *q, __u32 wanted, __u32 r)
{
	__u32 zero = 0, len, i;
	struct kept *k = bpf_map_lookup_elem(&keeping, &zero);
	struct sample *s;
	__u64 behind;

	if (!q || !k)
		return 0;
	len = q->answer;
	s = bpf_ringbuf_reserve(&samples, sizeof(*s), 0);
	if (!s)
		return 0; /* whoever reads them is behind */
	s->client = q->client;
	s->port = q->port;
	s->wanted = wanted;
	s->reason = r;
	s->query_len = k->len;
	s->answer_len = 0;
	s->rcode = q->rcode & 15;
	for (i = 0; i < QUERY_ROOM / 8; i++)
		((__u64 *)s->query)[i] = ((__u64 *)k->query)[i];
	asm volatile("" : "+r"(len));
	if (r != DROP_LIMITED && r != DROP_FLOOD && len > 0 && len <= PAYLOAD && !bpf_xdp_load_bytes(ctx, q->dns, s->answer, len))
		s->answer_len = len;
	/* who reads them comes by, and is only woken where they are many */
	behind = bpf_ringbuf_query(&samples, BPF_RB_AVAIL_DATA);
	bpf_ringbuf_submit(s, behind > SAMPLE_RING / 4 ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP);
	return 0;
}
