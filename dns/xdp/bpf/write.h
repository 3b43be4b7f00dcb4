/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The answer, in place of the query. */
#pragma once

/* put_identifier writes an NSID option (RFC 5001) at a place in the OPT, and
 * gives the place behind it. */
static __always_inline __u32 put_identifier(__u8 *b, __u32 n)
{
	__u32 zero = 0, i;
	struct settings *set = bpf_map_lookup_elem(&self, &zero);

	if (!set)
		return n;
	*(__u32 *)(b + n) = bpf_htonl(OPTION_NSID << 16 | set->nsid);
	for (i = 0; i < MAX_NSID / 8; i++)
		*(__u64 *)(b + n + 4 + 8 * i) = set->identifier[i];
	return n + 4 + (set->nsid & 63);
}

/* make_opt writes the OPT in the order of dns/answer's edns.go: Client Subnet,
 * cookie, NSID, and what the answer brings. It gives its length. */
static __always_inline __u32 make_opt(struct query *q, const struct answer *a, const __u64 *tail)
{
	__u8 *b = (__u8 *)q->opt;
	__u32 n = sizeof(struct opt_header);
	int i;

	q->opt[0] = bpf_cpu_to_be64((__u64)TYPE_OPT << 40 | (__u64)PAYLOAD << 24 | (q->dnssec ? 0x80 : 0));
	q->opt[1] = 0;
	if (q->ecs) {
		*(__u64 *)(b + n) = bpf_cpu_to_be64((__u64)OPTION_ECS << 48 | (__u64)(4 + q->octets) << 32 |
						    (__u64)q->family << 16 | q->source << 8 | q->scope);
		*(__u64 *)(b + n + 8) = bpf_cpu_to_be64(q->subnet[0]);
		*(__u64 *)(b + n + 16) = bpf_cpu_to_be64(q->subnet[1]);
		n += 8 + (q->octets & 31);
	}
	if (q->cookie) {
		*(__u32 *)(b + n) = bpf_htonl(OPTION_COOKIE << 16 | 24);
		*(__u64 *)(b + n + 4) = q->shown[0];
		*(__u64 *)(b + n + 12) = q->shown[1];
		*(__u64 *)(b + n + 20) = q->shown[2];
		n += 28;
	}
	if (q->nsid)
		n = put_identifier(b, n);
	if (a->tail) {
		for (i = 0; i < MAX_TAIL / 8; i++) {
			if (8 * i >= a->tail)
				break;
			*(__u64 *)(b + n + 8 * i) = tail[i];
		}
		n += a->tail & 127;
	}
	*(__u64 *)(b + n) = 0;
	*(__u16 *)(b + 9) = bpf_htons(n - sizeof(struct opt_header));
	return n;
}

/* copy_words brings n octets, at least 8, to an offset in the frame. */
static __always_inline int copy_words(struct xdp_md *ctx, __u32 to, const __u64 *from, __u32 n, int most)
{
	__u64 *p;
	int i;

	for (i = 0; i < most; i++) {
		if (8 * i + 8 > n)
			break;
		p = at(ctx, to + 8 * i, 8);
		if (!p)
			return 0;
		*p = from[i];
	}
	p = at(ctx, to + n - 8, 8); /* the last ones, some of them twice */
	if (!p)
		return 0;
	*p = *(const __u64 *)((const __u8 *)from + n - 8);
	return 1;
}

/* relocate makes places relative to the end of the name those of this one, in
 * the piece of the answer that begins so many octets behind the question. */
static __always_inline int relocate(struct xdp_md *ctx, struct query *q, const __u16 *places, __u32 n, __u32 to,
				     __u32 piece)
{
	__u16 v, place;
	__be16 *p;
	int i;

	for (i = 0; i < MAX_RELOCS; i++) {
		if (i >= n)
			break;
		place = places[i];
		p = at(ctx, to + piece + (place & (LATER - 1)), 2);
		if (!p)
			return 0;
		v = bpf_ntohs(*p) + q->length + (place & LATER ? piece : 0);
		*p = bpf_htons(v);
		q->sum += (place ^ piece ^ q->length) & 1 ? v : bpf_htons(v);
	}
	return 1;
}

/* turn_ipv4 and turn_ipv6 send the packet back to where it came from, and take
 * what UDP's checksum has of their headers into the sum. */
static __always_inline int turn_ipv4(struct xdp_md *ctx, struct query *q, __u32 len)
{
	struct ipv4_header *ip = at(ctx, q->l3, sizeof(*ip));
	__be32 src;
	__u64 sum;

	if (!ip)
		return 0;
	src = ip->src;
	ip->src = ip->dst;
	ip->dst = src;
	ip->tos = 0;
	ip->len = bpf_htons(sizeof(*ip) + len);
	ip->id = 0;
	ip->frag = bpf_htons(IPV4_DF);
	ip->ttl = HOPS;
	q->sum += sum = (__u64)ip->src + ip->dst;
	sum += bpf_htons(0x4500) + ip->len + ip->frag + bpf_htons(HOPS << 8 | PROTO_UDP);
	ip->check = ~fold(sum);
	return 1;
}

static __always_inline int turn_ipv6(struct xdp_md *ctx, struct query *q, __u32 len)
{
	struct ipv6_header *ip = at(ctx, q->l3, sizeof(*ip));
	struct address src;

	if (!ip)
		return 0;
	src = ip->src;
	ip->src = ip->dst;
	ip->dst = src;
	ip->flow = bpf_htonl(0x60000000);
	ip->len = bpf_htons(len);
	ip->hops = HOPS;
	q->sum += sum_of(ip->src.half[0]) + sum_of(ip->src.half[1]) + sum_of(src.half[0]) + sum_of(src.half[1]);
	return 1;
}

/* turn writes the headers, but for UDP's checksum. */
static __always_inline int turn(struct xdp_md *ctx, struct query *q, const struct answer *a, __u32 len)
{
	struct eth_header *eth = at(ctx, 0, sizeof(*eth));
	struct udp_header *udp;
	struct dns_header *h;
	__u8 mac[6];
	__be16 port;

	if (!eth)
		return 0;
	__builtin_memcpy(mac, eth->src, 6);
	__builtin_memcpy(eth->src, eth->dst, 6);
	__builtin_memcpy(eth->dst, mac, 6);
	if (!(q->v6 ? turn_ipv6(ctx, q, len) : turn_ipv4(ctx, q, len)))
		return 0;
	udp = at(ctx, q->dns - sizeof(*udp), sizeof(*udp) + sizeof(*h));
	if (!udp)
		return 0;
	port = udp->src;
	udp->src = udp->dst;
	udp->dst = port;
	udp->len = bpf_htons(len);
	h = (void *)(udp + 1);
	h->flags = (h->flags & bpf_htons(DNS_RD)) | bpf_htons(DNS_QR | a->flags);
	if (q->cut) {
		h->flags |= bpf_htons(DNS_TC);
		h->counts[3] = 0;
	} else {
		h->counts[1] = a->counts[0];
		h->counts[2] = a->counts[1];
		h->counts[3] = a->counts[2];
	}
	h->counts[3] += q->edns ? bpf_htons(1) : 0;
	q->sum += (__u64)udp->src + udp->dst + 2 * udp->len + bpf_htons(PROTO_UDP) + h->id + h->flags +
		  bpf_htons(1) + h->counts[1] + h->counts[2] + h->counts[3];
	return 1;
}

/* seal writes UDP's checksum. */
static __always_inline int seal(struct xdp_md *ctx, struct query *q)
{
	struct udp_header *udp = at(ctx, q->dns - sizeof(*udp), sizeof(*udp));
	__u16 sum = ~fold(q->sum);

	if (!udp)
		return 0;
	udp->check = sum ? sum : 0xffff;
	return 1;
}

/* make_room makes the frame longer by n octets: behind its end, or, where the
 * driver has left no room there, before its beginning, from where what the
 * answer keeps of the query is moved to. It gives REASONS where all is well. */
static __always_inline enum reason make_room(struct xdp_md *ctx, int n, __u32 kept)
{
	__u64 *from, *to;
	int i;

	if (!bpf_xdp_adjust_tail(ctx, n))
		return REASONS;
	if (n < 8 || n > MAX_HEAD || bpf_xdp_adjust_head(ctx, -n))
		return PASS_DRIVER;
	for (i = 0; i < KEPT_WORDS; i++) { /* from the front on, and none is needed after it was written over */
		if (8 * i + 8 > kept)
			break;
		from = at(ctx, n + 8 * i, 8);
		to = at(ctx, 8 * i, 8);
		if (!from || !to)
			return DROP_WRITE;
		*to = *from;
	}
	from = at(ctx, n + kept - 8, 8);
	to = at(ctx, kept - 8, 8);
	if (!from || !to)
		return DROP_WRITE;
	*to = *from;
	return REASONS;
}

/* put_opt brings the OPT of n octets behind a body of size octets. */
__noinline int put_opt(struct xdp_md *ctx, struct query *q, __u32 body, __u32 n, __u32 size)
{
	__u64 sum = 0;
	__u32 i;

	asm volatile("" : "+r"(n));
	if (!q || n < sizeof(struct opt_header) || n > OPT_ROOM)
		return 0;
	for (i = 0; i < OPT_ROOM / 8; i++) {
		if (8 * i >= n)
			break;
		sum += sum_of(q->opt[i]);
	}
	q->sum += swapped(fold(sum), q->length + size);
	return copy_words(ctx, body + size, q->opt, n, OPT_ROOM / 8);
}

/* admit holds an answer of size octets behind the question, and of an OPT, to
 * what the client takes and to the rate limit, which may cut it. It gives REASONS
 * where it is to be sent. */
static __always_inline enum reason admit(struct query *q, __u32 size, __u32 opt)
{
	__u32 len = DNS_HEADER + q->length + 4 + size;
	int fate;

	if (len + q->reserved > q->limit || len + opt > q->limit)
		return PASS_ROOM;
	q->cut = 0;
	if (!q->valid) {
		fate = limit(q, 1);
		if (fate == FATE_DROP)
			return DROP_LIMITED;
		q->cut = fate == FATE_TRUNCATE;
	}
	q->answer = len + opt - (q->cut ? size : 0);
	return REASONS;
}

#define SHORT_ANSWER 16 /* words that are copied one by one */

/* respond makes the query the answer at a place (enum reason). */
__noinline int respond(struct xdp_md *ctx, struct query *q, ref place)
{
	const struct answer *a = record(place);
	__u32 body, size, relocs, opt = 0;
	const __u64 *behind;
	int r;

	if (!q || !a || a->what != WHAT_ANSWER)
		return PASS_ANSWER;
	q->rcode = a->flags;
	body = q->dns + DNS_HEADER + q->length + 4; /* in the frame */
	size = a->size;
	relocs = a->relocs;
	asm volatile("" : "+r"(size), "+r"(relocs)); /* bounded below, and read no second time */
	if (size < 8 || size > PAYLOAD || relocs > MAX_RELOCS)
		return PASS_ROOM;
	behind = a->octets + (size + 7) / 8;
	if (q->edns)
		opt = make_opt(q, a, behind + (relocs + 3) / 4);
	r = admit(q, size, opt);
	if (r != REASONS)
		return r;
	if (q->cut)
		size = relocs = 0;
	r = make_room(ctx, (int)(body + size + opt) - (int)room(ctx), body);
	if (r != REASONS)
		return r;
	if (!turn(ctx, q, a, sizeof(struct udp_header) + q->answer))
		return DROP_WRITE;
	if (size == 0) {
		; /* truncated */
	} else if (size <= 8 * SHORT_ANSWER) {
		if (!copy_words(ctx, body, a->octets, size, SHORT_ANSWER))
			return DROP_WRITE;
	} else if (bpf_xdp_store_bytes(ctx, body, (void *)a->octets, size)) {
		return DROP_WRITE;
	}
	if (size)
		q->sum += swapped(a->sum, q->length);
	if (relocs && !relocate(ctx, q, (const __u16 *)behind, relocs, body, 0))
		return DROP_WRITE;
	if (opt && !put_opt(ctx, q, body, opt, size))
		return DROP_WRITE;
	if (!seal(ctx, q))
		return DROP_WRITE;
	return q->cut ? TX_TRUNCATED : TX_ANSWER;
}
