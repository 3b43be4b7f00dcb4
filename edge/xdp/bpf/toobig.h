/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* A packet that does not fit the tunnel: its sender is told by ICMP how much
 * does (RFC 1191, RFC 4443 section 3.2), in the VIP's name. */
#pragma once

#define QUOTE4 68   /* the longest IPv4 header and 8 octets (RFC 792) */
#define QUOTE6 1232 /* IPv6: as much as fits into 1,280 octets (RFC 4443 section 2.4) */
#define SUMMED 248  /* octets that are summed up at once; five times that is QUOTE6 and the ICMP header */

static __always_inline int put_too_big4(struct xdp_md *ctx, const struct packet *p, __u16 mtu)
{
	struct ipv4_header *ip = at(ctx, p->l3, sizeof(*ip));
	struct icmp_header *icmp = at(ctx, p->l3 + sizeof(*ip), sizeof(*icmp));

	if (!ip || !icmp)
		return 0;
	__builtin_memset(ip, 0, sizeof(*ip));
	ip->version_ihl = 0x45;
	ip->len = bpf_htons(sizeof(*ip) + sizeof(*icmp) + QUOTE4);
	ip->ttl = TUNNEL_TTL;
	ip->proto = PROTO_ICMP;
	ip->src = p->dst.word[3];
	ip->dst = p->src.word[3];
	ip->check = ipv4_check(ip);
	__builtin_memset(icmp, 0, sizeof(*icmp));
	icmp->type = 3;
	icmp->code = 4;
	icmp->mtu = bpf_htons(mtu);
	icmp->check = fold(sum16(ctx, p->l3 + sizeof(*ip), sizeof(*icmp) + QUOTE4));
	return 1;
}

/* sum_quote6 adds the ICMP header and the quote behind it. */
static __always_inline __u64 sum_quote6(struct xdp_md *ctx, __u32 offset)
{
	__u8 *b = at(ctx, offset, 5 * SUMMED);
	__s64 sum = 0;
	int i;

	_Static_assert(5 * SUMMED == sizeof(struct icmp_header) + QUOTE6, "all of the message is summed up");
	if (!b)
		return 0;
#pragma unroll
	for (i = 0; i < 5; i++)
		sum = bpf_csum_diff(0, 0, (__be32 *)(b + i * SUMMED), SUMMED, (__u32)sum);
	return (__u32)sum;
}

static __always_inline int put_too_big6(struct xdp_md *ctx, const struct packet *p, __u16 mtu)
{
	struct ipv6_header *ip = at(ctx, p->l3, sizeof(*ip));
	struct icmp_header *icmp = at(ctx, p->l3 + sizeof(*ip), sizeof(*icmp));
	__u64 pseudo; /* header, RFC 8200 section 8.1 */

	if (!ip || !icmp)
		return 0;
	ip->flow = bpf_htonl(6u << 28);
	ip->len = bpf_htons(sizeof(*icmp) + QUOTE6);
	ip->next = PROTO_ICMPV6;
	ip->hops = TUNNEL_TTL;
	ip->src = p->dst;
	ip->dst = p->src;
	icmp->type = 2;
	icmp->code = 0;
	icmp->check = 0;
	icmp->rest = bpf_htonl(mtu);
	pseudo = sum16(ctx, p->l3 + 8, 32) + ip->len + bpf_htons(PROTO_ICMPV6);
	icmp->check = fold(pseudo + sum_quote6(ctx, p->l3 + sizeof(*ip)));
	return 1;
}

/* tell_too_big turns the packet into the error about itself: cut to what is
 * quoted, the new headers before it, back to where it came from. So it is too for
 * IPv4 without DF, which nobody cuts here: senders go by it all the same. Of
 * IPv4's later fragments nobody is told (RFC 1122 section 3.2.2). */
APART int tell_too_big(struct xdp_md *ctx, const struct packet *p, __u16 mtu)
{
	const struct endpoint back = {};
	__u32 quote, headers;
	struct link l = {};
	int v4, ok;

	if (!p)
		return DROP_TOO_BIG;
	v4 = p->ethertype == ETH_IPV4;
	quote = v4 ? QUOTE4 : QUOTE6;
	headers = sizeof(struct icmp_header) + (v4 ? sizeof(struct ipv4_header) : sizeof(struct ipv6_header));
	if ((p->fragment == LATER && v4) || p->icmp_error || p->len < quote || !affords(budget_of(p), TOO_BIG_PER_SECOND) || !take_link(ctx, p, &l))
		return DROP_TOO_BIG;
	if (bpf_xdp_adjust_tail(ctx, -(int)(room(ctx, p->l3) - quote)) ||
	    bpf_xdp_adjust_head(ctx, -(int)headers))
		return DROP_TOO_BIG;
	aim(&l.eth, &back);
	ok = put_link(ctx, &l, p->ethertype) && (v4 ? put_too_big4(ctx, p, mtu) : put_too_big6(ctx, p, mtu));
	return ok ? TX_TOO_BIG : DROP_TOO_BIG;
}
