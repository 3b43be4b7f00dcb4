/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Out of the tunnel, on the gateway. */
#pragma once

/* gue gives where the packet inside UDP begins and its protocol, from the
 * header's first octet on: variant 1 has none, variant 0 is told apart by its
 * version bits (draft-ietf-intarea-gue section 3.1); 0: neither, or a control
 * message. */
static __always_inline __u32 gue(struct xdp_md *ctx, const struct packet *p, __u32 offset, __u8 *proto)
{
	struct gue_header *g = inside(ctx, p, offset, sizeof(*g));

	if (!g)
		return 0;
	switch (g->version_hlen >> 4) {
	case 4:
		*proto = PROTO_IPIP;
		return offset;
	case 6:
		*proto = PROTO_IPV6;
		return offset;
	}
	if (g->version_hlen >> 5)
		return 0;
	*proto = g->proto;
	return offset + sizeof(*g) + (g->version_hlen & 31) * 4;
}

/* tunnelled gives where the packet begins that came to this node in a tunnel,
 * and its protocol; 0: none. A later fragment shows nothing, and is left to the
 * kernel, which can do nothing with it if the first is dropped here. */
static __always_inline __u32 tunnelled(struct xdp_md *ctx, const struct packet *p, const struct node *n, __u8 *proto)
{
	struct udp_header *udp;
	__u32 inner = p->l4;

	if (p->proto != PROTO_IPIP && p->proto != PROTO_IPV6 && p->proto != PROTO_UDP)
		return 0;
	if (p->fragment == LATER || !is_own(p, n))
		return 0;
	*proto = p->proto;
	if (p->proto == PROTO_UDP) {
		udp = inside(ctx, p, p->l4, sizeof(*udp));
		if (!udp || udp->dst != bpf_htons(GUE_PORT))
			return 0;
		inner = gue(ctx, p, p->l4 + sizeof(*udp), proto);
	}
	return *proto == PROTO_IPIP || *proto == PROTO_IPV6 ? inner : 0;
}

/* parse_inner parses the packet inside; false: it is not for one of our VIPs,
 * the only kind that a balancer sends, or its header makes no sense. */
static __always_inline int parse_inner(struct xdp_md *ctx, const struct packet *p, struct packet *in,
				       const struct node *n, __u32 l3, __u8 proto)
{
	in->l3 = l3;
	in->ethertype = proto == PROTO_IPIP ? ETH_IPV4 : ETH_IPV6;
	return parse_ip(ctx, in) && (__u32)in->l3 + in->len <= (__u32)p->l3 + p->len && is_vip(&in->dst, n);
}

/* begins_for_vip says whether what a tunnel's first fragment brings begins like a
 * packet for a VIP. */
static __always_inline int begins_for_vip(struct xdp_md *ctx, const struct packet *p, struct packet *in,
					  const struct node *n, __u32 l3, __u8 proto)
{
	struct ipv4_header *ip4;
	struct ipv6_header *ip6;

	if (proto == PROTO_IPIP) {
		ip4 = inside(ctx, p, l3, sizeof(*ip4));
		if (!ip4)
			return 0;
		map4(&in->dst, ip4->dst);
	} else {
		ip6 = inside(ctx, p, l3, sizeof(*ip6));
		if (!ip6)
			return 0;
		in->dst = ip6->dst;
		if (is4(&in->dst))
			return 0;
	}
	return is_vip(&in->dst, n);
}

/* chain_of gives what the outer header says of the gateways that have passed the
 * packet on. */
static __always_inline __u8 chain_of(struct xdp_md *ctx, const struct packet *p)
{
	struct ipv6_header *ip;

	if (p->ethertype == ETH_IPV4)
		return p->id & CHAIN_MASK;
	ip = at(ctx, p->l3, sizeof(*ip));
	return ip ? bpf_ntohl(ip->flow) & CHAIN_MASK : 0;
}

#define ECN 3           /* RFC 3168; in the TOS or traffic class */
#define ECN_ECT1 1
#define ECN_ECT0 2
#define ECN_CE 3

/* keep_ecn gives the packet inside the ECN field that it has once it is out of a
 * tunnel with that TOS (RFC 6040 section 4.2); false: it is to be dropped, for it
 * met congestion, and its sender would not learn of it. */
APART int keep_ecn(struct xdp_md *ctx, struct packet *in, __u8 outer)
{
	struct ipv4_header *ip4;
	struct ipv6_header *ip6;
	__u8 tos, ecn;

	if (!in)
		return 0;
	ecn = in->tos & ECN;
	outer &= ECN;
	if (outer == ECN_CE && !ecn)
		return 0;
	if (outer != ECN_CE && !(outer == ECN_ECT1 && ecn == ECN_ECT0))
		return 1;
	tos = (in->tos & ~ECN) | outer;
	in->tos = tos;
	ip4 = at(ctx, in->l3, sizeof(*ip4));
	if (in->ethertype == ETH_IPV4 && ip4) {
		ip4->check = mended(ip4->check, bpf_htons((__u16)ip4->version_ihl << 8 | ip4->tos),
				    bpf_htons((__u16)ip4->version_ihl << 8 | tos));
		ip4->tos = tos;
		return 1;
	}
	ip6 = at(ctx, in->l3, sizeof(*ip6));
	if (ip6)
		ip6->flow = (ip6->flow & ~bpf_htonl(ECN << 20)) | bpf_htonl((__u32)outer << 20);
	return 1;
}

/* strip takes the outer headers off. */
static __always_inline int strip(struct xdp_md *ctx, const struct packet *p, const struct packet *in)
{
	struct link l = {};

	return take_link(ctx, p, &l) && !bpf_xdp_adjust_head(ctx, (int)(in->l3 - p->l3)) && put_link(ctx, &l, in->ethertype);
}

/* decapsulate takes the outer headers off a balancer's packet, so that the
 * kernel sees the client's. It is never balanced again, but passed on to the
 * gateway whose it is. A tunnel that brings nothing for a VIP is somebody
 * else's, say another overlay's on this machine, and goes to the kernel
 * untouched. */
static __always_inline enum reason decapsulate(struct xdp_md *ctx, struct packet *p, const struct node *n,
					       __u32 inner, __u8 proto)
{
	int trusted = !!bpf_map_lookup_elem(&balancers, &p->src);
	struct packet in = {};
	struct endpoint *next = 0;
	enum reason r;
	__u8 chain;

	if (!(p->fragment ? begins_for_vip(ctx, p, &in, n, inner, proto) : parse_inner(ctx, p, &in, n, inner, proto)))
		return PASS_OTHER;
	if (!trusted)
		return DROP_UNTRUSTED;
	if (p->fragment)
		return DROP_BAD_INNER;
	if ((p->tos & ECN) && !keep_ecn(ctx, &in, p->tos))
		return DROP_CONGESTED;
	chain = chain_of(ctx, p);
	in.hops = chain & HOPS_MASK;
	in.returned = chain & RETURNED;
	if (parse_l4(ctx, &in)) {
		in.sender = p->src;
		next = endpoint_of(next_owner(ctx, &in, n));
	}
	if (n->stamped && !next)
		stamp(ctx, &in, n->stamped);
	if (!strip(ctx, p, &in))
		return DROP_NO_ROOM;
	if (!next)
		return PASS_DECAPSULATED;
	in.l4 -= in.l3 - p->l3;
	in.l3 = p->l3;
	r = pass_on(ctx, &in, n, next);
	p->device = in.device;
	return r;
}
