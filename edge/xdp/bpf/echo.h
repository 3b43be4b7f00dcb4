/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Ping to a VIP, answered by the balancer (RFC 792, RFC 4443 section 4.2): it
 * says that the way to the region is open, not that a gateway lives. */
#pragma once

#define ECHO_REQUEST4 8
#define ECHO_REQUEST6 128
#define ECHO_REPLY6 129

static __always_inline int is_echo(struct xdp_md *ctx, const struct packet *p)
{
	struct icmp_header *icmp;

	if (p->fragment || p->icmp_error)
		return 0;
	if (p->proto != (p->ethertype == ETH_IPV4 ? PROTO_ICMP : PROTO_ICMPV6))
		return 0;
	icmp = inside(ctx, p, p->l4, sizeof(*icmp));
	return icmp && icmp->code == 0 && icmp->type == (p->ethertype == ETH_IPV4 ? ECHO_REQUEST4 : ECHO_REQUEST6);
}

/* retype puts another type into the header of a message with code 0. */
static __always_inline void retype(struct icmp_header *icmp, __u8 type)
{
	icmp->check = mended(icmp->check, bpf_htons((__u16)icmp->type << 8), bpf_htons((__u16)type << 8));
	icmp->type = type;
}

/* answer_echo turns the request into its reply, in place, with the lifetime of a
 * packet that begins here, and sends it back to the router that it came from. */
APART int answer_echo(struct xdp_md *ctx, const struct packet *p)
{
	const struct endpoint back = {};
	struct icmp_header *icmp;
	struct eth_header *eth;
	struct ipv4_header *ip4;
	struct ipv6_header *ip6;

	if (!p)
		return PASS_MALFORMED;
	eth = at(ctx, 0, sizeof(*eth));
	icmp = at(ctx, p->l4, sizeof(*icmp));
	ip4 = at(ctx, p->l3, sizeof(*ip4));
	if (!eth || !icmp || !ip4)
		return PASS_MALFORMED;
	if (p->ethertype == ETH_IPV4) {
		ip4->src = p->dst.word[3];
		ip4->dst = p->src.word[3];
		ip4->check = mended(ip4->check, bpf_htons((__u16)ip4->ttl << 8 | ip4->proto), bpf_htons(TUNNEL_TTL << 8 | ip4->proto));
		ip4->ttl = TUNNEL_TTL;
		retype(icmp, 0);
	} else {
		ip6 = at(ctx, p->l3, sizeof(*ip6));
		if (!ip6)
			return PASS_MALFORMED;
		ip6->src = p->dst;
		ip6->dst = p->src;
		ip6->hops = TUNNEL_TTL;
		retype(icmp, ECHO_REPLY6);
	}
	aim(eth, &back);
	return TX_ECHO;
}
