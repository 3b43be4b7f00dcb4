/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Into the tunnel: IPv4 or IPv6 in IPv4 or IPv6 (RFC 2003, RFC 2473, RFC 4213),
 * with UDP between them where an endpoint wants that (GUE variant 1,
 * draft-ietf-intarea-gue: the IP packet follows UDP at once). */
#pragma once

/* The link header of a frame, kept while the frame's start moves. */
struct link {
	struct eth_header eth;
	struct vlan_header tag[MAX_TAGS];
	__u32 tags;
};

static __always_inline int take_link(struct xdp_md *ctx, const struct packet *p, struct link *l)
{
	struct eth_header *eth = at(ctx, 0, sizeof(*eth));
	struct vlan_header *tag;

	if (!eth)
		return 0;
	l->eth = *eth;
	l->tags = (p->l3 - sizeof(*eth)) / sizeof(*tag);
	if (l->tags == 0)
		return 1;
	tag = at(ctx, sizeof(*eth), sizeof(*tag));
	if (!tag)
		return 0;
	l->tag[0] = *tag;
	if (l->tags == 1)
		return 1;
	tag = at(ctx, sizeof(*eth) + sizeof(*tag), sizeof(*tag));
	if (!tag)
		return 0;
	l->tag[1] = *tag;
	return 1;
}

static __always_inline int put_link(struct xdp_md *ctx, struct link *l, __u16 ethertype)
{
	struct eth_header *eth = at(ctx, 0, sizeof(*eth));
	struct vlan_header *tag;

	if (!eth)
		return 0;
	if (l->tags == 0)
		l->eth.type = bpf_htons(ethertype);
	*eth = l->eth;
	if (l->tags == 0)
		return 1;
	tag = at(ctx, sizeof(*eth), sizeof(*tag));
	if (!tag)
		return 0;
	if (l->tags == 1)
		l->tag[0].type = bpf_htons(ethertype);
	*tag = l->tag[0];
	if (l->tags == 1)
		return 1;
	tag = at(ctx, sizeof(*eth) + sizeof(*tag), sizeof(*tag));
	if (!tag)
		return 0;
	l->tag[1].type = bpf_htons(ethertype);
	*tag = l->tag[1];
	return 1;
}

/* aim turns the frame to the endpoint's next hop. Where that is not known it
 * goes back to the router that it came from, which knows the way. */
static __always_inline void aim(struct eth_header *eth, const struct endpoint *e)
{
	struct mac to = e->next_hop, from = e->source;
	__u8 old[6];

	if (to.set) {
		__builtin_memcpy(eth->dst, to.octet, 6);
		__builtin_memcpy(eth->src, from.octet, 6);
		return;
	}
	__builtin_memcpy(old, eth->dst, 6);
	__builtin_memcpy(eth->dst, eth->src, 6);
	__builtin_memcpy(eth->src, old, 6);
}

/* untag takes the VLAN tags off a frame, which are of the link that it came by;
 * false: it is as it was. */
APART int untag(struct xdp_md *ctx, struct packet *p)
{
	const __u32 bare = sizeof(struct eth_header);
	struct link l = {};
	__u32 tags;

	if (!p || !take_link(ctx, p, &l))
		return 0;
	tags = p->l3 - bare;
	if (bpf_xdp_adjust_head(ctx, (int)tags))
		return 0;
	p->l3 = bare;
	p->l4 -= tags;
	l.tags = 0;
	return put_link(ctx, &l, p->ethertype);
}

static __always_inline __u8 inner_proto(const struct packet *p)
{
	return p->ethertype == ETH_IPV4 ? PROTO_IPIP : PROTO_IPV6;
}

/* DF goes outside as it is inside, so that a path too narrow for the tunnel
 * shows (RFC 2003 section 3.1). The identification, of no use there but for
 * packets that may be cut, tells in its low bits of the gateways that have passed
 * the packet on. */
static __always_inline int put_outer4(struct xdp_md *ctx, const struct packet *p,
				      const struct node *n, const struct endpoint *e, __u32 offset)
{
	struct ipv4_header *ip = at(ctx, offset, sizeof(*ip));

	if (!ip)
		return 0;
	ip->version_ihl = 0x45;
	ip->tos = p->tos;
	ip->len = bpf_htons(p->len + e->outer);
	ip->id = bpf_htons((p->id & ~CHAIN_MASK) | p->returned | p->hops);
	ip->frag = p->dont_fragment ? bpf_htons(IPV4_DF) : 0;
	ip->ttl = TUNNEL_TTL;
	ip->proto = e->gue ? PROTO_UDP : inner_proto(p);
	ip->check = 0;
	ip->src = n->own4.word[3];
	ip->dst = e->addr.word[3];
	ip->check = ipv4_check(ip);
	return 1;
}

/* The flow label carries 20 bits of the flow's hash, so that routers and the
 * gateway's device spread tunnelled flows (RFC 6438); the lowest tell of the
 * gateways that have passed the packet on. */
static __always_inline int put_outer6(struct xdp_md *ctx, const struct packet *p,
				      const struct node *n, const struct endpoint *e)
{
	struct ipv6_header *ip = at(ctx, p->l3, sizeof(*ip));

	if (!ip)
		return 0;
	ip->flow = bpf_htonl(6u << 28 | (__u32)p->tos << 20 | ((p->hash & 0xfffff & ~CHAIN_MASK) | p->returned | p->hops));
	ip->len = bpf_htons(p->len + e->outer - sizeof(*ip));
	ip->next = e->gue ? PROTO_UDP : inner_proto(p);
	ip->hops = TUNNEL_TTL;
	ip->src = n->own6;
	ip->dst = e->addr;
	return 1;
}

/* put_udp writes UDP between the headers; its source port spreads the flows. No
 * checksum: the packet inside has its own (RFC 6935). */
static __always_inline int put_udp(struct xdp_md *ctx, const struct packet *p, const struct endpoint *e, __u32 offset)
{
	struct udp_header *udp = at(ctx, offset, sizeof(*udp));

	if (!udp)
		return 0;
	udp->src = bpf_htons(0xc000 | (p->hash & 0x3fff));
	udp->dst = e->gue;
	udp->len = bpf_htons(p->len + sizeof(*udp));
	udp->check = 0;
	return 1;
}

/* encapsulate puts the outer headers before the IP packet and aims the frame. */
APART int encapsulate(struct xdp_md *ctx, const struct packet *p, const struct node *n, const struct endpoint *e)
{
	struct link l = {};
	int ok, outer4;
	__u32 outer;

	if (!p || !n || !e)
		return PASS_MALFORMED;
	outer4 = is4(&e->addr);
	outer = outer4 ? sizeof(struct ipv4_header) : sizeof(struct ipv6_header);
	if (!take_link(ctx, p, &l))
		return PASS_MALFORMED;
	aim(&l.eth, e);
	if (bpf_xdp_adjust_head(ctx, -(int)(e->gue ? outer + sizeof(struct udp_header) : outer)))
		return DROP_NO_ROOM;
	ok = put_link(ctx, &l, outer4 ? ETH_IPV4 : ETH_IPV6) &&
	     (outer4 ? put_outer4(ctx, p, n, e, p->l3) : put_outer6(ctx, p, n, e)) &&
	     (!e->gue || put_udp(ctx, p, e, p->l3 + outer));
	return ok ? TX_TUNNEL : DROP_NO_ROOM;
}

/* encapsulate4 is the same for most packets: without tags, into IPv4 without UDP. */
static __always_inline enum reason encapsulate4(struct xdp_md *ctx, const struct packet *p, const struct node *n,
						const struct endpoint *e)
{
	struct eth_header *eth = at(ctx, 0, sizeof(*eth)), link;

	if (e->gue || p->l3 != sizeof(*eth))
		return encapsulate(ctx, p, n, e);
	if (!eth)
		return PASS_MALFORMED;
	link = *eth;
	aim(&link, e);
	link.type = bpf_htons(ETH_IPV4);
	if (bpf_xdp_adjust_head(ctx, -(int)sizeof(struct ipv4_header)))
		return DROP_NO_ROOM;
	eth = at(ctx, 0, sizeof(*eth));
	if (!eth)
		return DROP_NO_ROOM;
	*eth = link;
	return put_outer4(ctx, p, n, e, sizeof(*eth)) ? TX_TUNNEL : DROP_NO_ROOM;
}
