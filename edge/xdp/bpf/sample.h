/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Copies of packets for those who look at them: one in so many by chance,
 * whatever becomes of it, up to so many a second. */
#pragma once

/* draw takes the packet, as it came, into the draft if it is one of those. The
 * gap to the next is drawn evenly from 1 to twice the rate less 1, as sFlow
 * (section 3.1 of RFC 3176) wants: no pattern in the traffic can dodge it. */
APART int draw(struct xdp_md *ctx, __u32 rate)
{
	__u32 zero = 0, len;
	struct sampler *s = bpf_map_lookup_elem(&samplers, &zero);
	struct defence *d = bpf_map_lookup_elem(&defences, &zero);

	if (!s || !d)
		return 0;
	s->seen++;
	if (s->skip > 1) {
		s->skip--;
		return 0;
	}
	s->skip = 1 + bpf_get_prandom_u32() % (2 * rate - 1);
	s->draft.time = bpf_ktime_get_ns();
	if (!spend(SAMPLE_PURSE, d->sample_cost, 1, s->draft.time * TICKS)) {
		s->lost++;
		return 0;
	}
	len = room(ctx, 0);
	s->draft.len = len;
	s->draft.rate = rate;
	s->draft.device = ctx->ingress_ifindex;
	asm volatile("" : "+r"(len));
	if (len > SAMPLE_HEAD)
		len = SAMPLE_HEAD;
	if (len == 0 || bpf_xdp_load_bytes(ctx, 0, s->draft.head, len))
		return 0;
	s->draft.kept = len;
	s->taken = 1;
	return 0;
}

/* hand_over completes the draft, if there is one, by what became of the packet,
 * and gives it to who reads. */
APART int hand_over(const struct packet *p, enum reason r)
{
	__u32 zero = 0;
	struct sampler *s = bpf_map_lookup_elem(&samplers, &zero);

	if (!p || !s || !s->taken)
		return 0;
	s->taken = 0;
	s->draft.src = p->src;
	s->draft.dst = p->dst;
	s->draft.sport = p->sport;
	s->draft.dport = p->dport;
	s->draft.proto = p->proto;
	s->draft.reason = r;
	if (bpf_ringbuf_output(&samples, &s->draft, sizeof(s->draft), 0))
		s->lost++;
	return 0;
}
