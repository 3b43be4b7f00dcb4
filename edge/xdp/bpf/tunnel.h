/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Into the tunnel and out of it: IPv4 or IPv6 in IPv4 or IPv6 (RFC 2003,
 * RFC 2473, RFC 4213). */
#pragma once

/* The link header of a frame, kept while the frame's start moves. */
struct link {
	struct eth_header eth;
	struct vlan_header vlan;
	__u8 tagged;
};

static __always_inline int take_link(struct xdp_md *ctx, const struct packet *p, struct link *l)
{
	struct eth_header *eth = at(ctx, 0, sizeof(*eth));
	struct vlan_header *vlan;

	if (!eth)
		return 0;
	l->eth = *eth;
	l->tagged = p->l3 != sizeof(*eth);
	if (l->tagged) {
		vlan = at(ctx, sizeof(*eth), sizeof(*vlan));
		if (!vlan)
			return 0;
		l->vlan = *vlan;
	}
	return 1;
}

static __always_inline int put_link(struct xdp_md *ctx, struct link *l, __u16 ethertype)
{
	struct eth_header *eth = at(ctx, 0, sizeof(*eth));
	struct vlan_header *vlan;

	if (!eth)
		return 0;
	if (!l->tagged)
		l->eth.type = bpf_htons(ethertype);
	*eth = l->eth;
	if (l->tagged) {
		vlan = at(ctx, sizeof(*eth), sizeof(*vlan));
		if (!vlan)
			return 0;
		l->vlan.type = bpf_htons(ethertype);
		*vlan = l->vlan;
	}
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

static __always_inline __sum16 ipv4_check(struct ipv4_header *ip)
{
	__u16 *w = (__u16 *)ip;
	__u32 sum = 0;
	int i;

#pragma unroll
	for (i = 0; i < (int)(sizeof(*ip) / 2); i++)
		sum += w[i];
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

/* DF goes outside as it is inside, so that a path too narrow for the tunnel
 * shows (RFC 2003 section 3.1). */
static __always_inline int put_outer4(struct xdp_md *ctx, const struct packet *p,
				      const struct node *n, const struct endpoint *e)
{
	struct ipv4_header *ip = at(ctx, p->l3, sizeof(*ip));

	if (!ip)
		return 0;
	ip->version_ihl = 0x45;
	ip->tos = p->tos;
	ip->len = bpf_htons(p->len + sizeof(*ip));
	ip->id = p->id;
	ip->frag = p->dont_fragment ? bpf_htons(IPV4_DF) : 0;
	ip->ttl = TUNNEL_TTL;
	ip->proto = p->ethertype == ETH_IPV4 ? PROTO_IPIP : PROTO_IPV6;
	ip->check = 0;
	ip->src = n->own4.word[3];
	ip->dst = e->addr.word[3];
	ip->check = ipv4_check(ip);
	return 1;
}

/* The flow label carries 20 bits of the flow's hash, so that routers and the
 * gateway's device spread tunnelled flows (RFC 6438). */
static __always_inline int put_outer6(struct xdp_md *ctx, const struct packet *p,
				      const struct node *n, const struct endpoint *e, __u64 hash)
{
	struct ipv6_header *ip = at(ctx, p->l3, sizeof(*ip));

	if (!ip)
		return 0;
	ip->flow = bpf_htonl(6u << 28 | (__u32)p->tos << 20 | (hash & 0xfffff));
	ip->len = bpf_htons(p->len);
	ip->next = p->ethertype == ETH_IPV4 ? PROTO_IPIP : PROTO_IPV6;
	ip->hops = TUNNEL_TTL;
	ip->src = n->own6;
	ip->dst = e->addr;
	return 1;
}

/* encapsulate puts the outer header before the IP packet and aims the frame. */
static __always_inline enum reason encapsulate(struct xdp_md *ctx, const struct packet *p, const struct node *n,
					       const struct endpoint *e, __u64 hash, int outer4)
{
	struct link l = {};
	int ok;

	if (!take_link(ctx, p, &l))
		return PASS_MALFORMED;
	aim(&l.eth, e);
	if (bpf_xdp_adjust_head(ctx, outer4 ? -(int)sizeof(struct ipv4_header) : -(int)sizeof(struct ipv6_header)))
		return DROP_NO_ROOM;
	ok = put_link(ctx, &l, outer4 ? ETH_IPV4 : ETH_IPV6) &&
	     (outer4 ? put_outer4(ctx, p, n, e) : put_outer6(ctx, p, n, e, hash));
	return ok ? TX_TUNNEL : DROP_NO_ROOM;
}

/* tunnelled says whether the packet is a tunnel's to this node. */
static __always_inline int tunnelled(const struct packet *p, const struct node *n)
{
	if (p->proto != PROTO_IPIP && p->proto != PROTO_IPV6)
		return 0;
	return same(&p->dst, p->ethertype == ETH_IPV4 ? &n->own4 : &n->own6);
}

/* inner_vip says whether the packet inside is for one of our VIPs: the only
 * kind that a balancer sends. Any other tunnel is not ours. */
static __always_inline int inner_vip(struct xdp_md *ctx, __u32 l3, int inner4)
{
	struct vip_key key = {};
	struct ipv4_header *ip4;
	struct ipv6_header *ip6;

	if (inner4) {
		ip4 = at(ctx, l3, sizeof(*ip4));
		if (!ip4 || ip4->version_ihl >> 4 != 4)
			return 0;
		map4(&key.addr, ip4->dst);
	} else {
		ip6 = at(ctx, l3, sizeof(*ip6));
		if (!ip6 || (bpf_ntohl(ip6->flow) >> 28) != 6)
			return 0;
		key.addr = ip6->dst;
	}
	return bpf_map_lookup_elem(&vips, &key) != 0;
}

/* decapsulate takes the outer header off a balancer's packet, so that the
 * kernel sees the client's. It is never balanced again. A tunnel that brings
 * nothing for a VIP is somebody else's, say another overlay's on this machine,
 * and goes to the kernel untouched. */
static __always_inline enum reason decapsulate(struct xdp_md *ctx, const struct packet *p)
{
	int inner4 = p->proto == PROTO_IPIP;
	__u32 outer = p->l4 - p->l3;
	struct link l = {};

	if (!inner_vip(ctx, p->l4, inner4))
		return PASS_OTHER;
	if (!bpf_map_lookup_elem(&balancers, &p->src))
		return DROP_UNTRUSTED;
	if (p->fragment)
		return DROP_BAD_INNER;
	if (!take_link(ctx, p, &l))
		return PASS_MALFORMED;
	if (bpf_xdp_adjust_head(ctx, outer))
		return DROP_NO_ROOM;
	if (!put_link(ctx, &l, inner4 ? ETH_IPV4 : ETH_IPV6))
		return DROP_NO_ROOM;
	return PASS_DECAPSULATED;
}
