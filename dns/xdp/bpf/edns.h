/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The OPT of a query (RFC 6891) and the options that are answered here. What
 * is wrong in them is for the socket to say. */
#pragma once

/* ending gives the eight octets that end at an offset, first bits foremost. */
static __always_inline int ending(struct xdp_md *ctx, __u32 end, __u64 *w)
{
	__u64 *p = at(ctx, end - 8, 8);

	if (!p)
		return 0;
	*w = bpf_be64_to_cpu(*p);
	return 1;
}

/* read_subnet reads a Client Subnet option (RFC 7871 section 6), whose data of
 * n octets begin at an offset. */
static __always_inline int read_subnet(struct xdp_md *ctx, struct query *q, __u32 from, __u32 n)
{
	__u8 *fixed = at(ctx, from, 4);
	__u32 family, source, octets;
	__u64 hi = 0, lo = 0;

	if (!fixed || n < 4 || q->ecs)
		return 0;
	family = fixed[0] << 8 | fixed[1];
	source = fixed[2];
	if (fixed[3] || family > 2 || source > (family == 0 ? 0 : family == 1 ? 32 : 128))
		return 0;
	octets = (source + 7) / 8;
	if (n - 4 != octets)
		return 0;
	if (octets > 8) {
		if (!ending(ctx, from + 12, &hi) || !ending(ctx, from + n, &lo))
			return 0;
		lo <<= (128 - 8 * octets) & 63;
		if (source < 128 && lo << (source & 63) && source > 64)
			return 0;
	} else if (octets > 0) {
		if (!ending(ctx, from + n, &hi))
			return 0;
		hi <<= (64 - 8 * octets) & 63;
		if (source < 64 && hi << (source & 63))
			return 0;
	}
	q->ecs = 1;
	q->family = family;
	q->source = source;
	q->octets = octets;
	q->subnet[0] = hi;
	q->subnet[1] = lo;
	return 1;
}

/* read_cookie reads a COOKIE option (RFC 7873 section 4). */
static __always_inline int read_cookie(struct xdp_md *ctx, struct query *q, __u32 from, __u32 n)
{
	__u64 *w = at(ctx, from, 8);

	if (!w || q->cookie || (n != 8 && (n < 16 || n > 40)))
		return 0;
	q->shown[0] = w[0];
	q->shown[1] = q->shown[2] = 0;
	q->cookie = 1;
	if (n == 24) {
		w = at(ctx, from, 24);
		if (!w)
			return 0;
		q->shown[1] = w[1];
		q->shown[2] = w[2];
		q->cookie = 2;
	}
	return 1;
}

/* read_option reads one; 0: it is wrong. Those that only the socket answers make
 * the query an odd one. */
static __always_inline int read_option(struct xdp_md *ctx, struct query *q, const struct settings *set,
				       __u16 code, __u32 from, __u32 n)
{
	switch (code) {
	case OPTION_ECS:
		return !set->ecs || read_subnet(ctx, q, from, n);
	case OPTION_COOKIE:
		return !set->cookies || read_cookie(ctx, q, from, n);
	case OPTION_NSID:
		q->nsid = set->nsid && set->nsid <= MAX_NSID;
		if (set->nsid > MAX_NSID)
			q->odd = PASS_OPTIONS;
		break;
	case OPTION_KEEPALIVE:
	case OPTION_VERSION:
		q->odd = PASS_OPTIONS;
	}
	return 1;
}

/* read_edns reads what stands behind the question: nothing, or an OPT up to
 * the end of the message. */
static __always_inline int read_edns(struct xdp_md *ctx, struct query *q, const struct settings *set)
{
	__u32 from = q->dns + DNS_HEADER + q->length + 4, n;
	struct opt_header *opt;
	struct option *o;
	int i;

	q->ecs = q->cookie = q->nsid = q->dnssec = q->octets = 0;
	q->limit = PAYLOAD_PLAIN;
	q->reserved = 0;
	if (!q->edns)
		return from == q->end;
	opt = at(ctx, from, sizeof(*opt));
	if (!opt || opt->name || opt->type != bpf_htons(TYPE_OPT) || opt->version)
		return 0;
	if (opt->flags & bpf_htons(EDNS_CO))
		q->odd = PASS_OPTIONS;
	n = bpf_ntohs(opt->size);
	q->limit = n < PAYLOAD_PLAIN ? PAYLOAD_PLAIN : n > PAYLOAD ? PAYLOAD : n;
	q->dnssec = !!(opt->flags & bpf_htons(EDNS_DO));
	q->cursor = from + sizeof(*opt);
	if (q->cursor + bpf_ntohs(opt->len) != q->end)
		return 0;
	for (i = 0; i < MAX_OPTIONS; i++) {
		from = q->cursor; /* by memory, where the verifier forgets what it was: one pass serves all */
		if (from == q->end) {
			q->reserved = sizeof(*opt) + set->reserve + (q->ecs ? 8 + q->octets : 0) + (q->cookie ? 28 : 0) +
				      (q->nsid ? sizeof(*o) + set->nsid : 0);
			return 1;
		}
		o = at(ctx, from, sizeof(*o));
		if (!o)
			return 0;
		n = bpf_ntohs(o->len);
		from += sizeof(*o);
		if (from + n > q->end || !read_option(ctx, q, set, bpf_ntohs(o->code), from, n))
			return 0;
		q->cursor = from + n;
	}
	return 0;
}
