/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* From octets to struct packet. Every access to the frame goes through at(). */
#pragma once

/* at gives size octets of the frame at an offset, or NULL. */
static __always_inline void *at(struct xdp_md *ctx, __u32 offset, __u32 size)
{
	void *end = (void *)(long)ctx->data_end;
	void *p = (void *)(long)ctx->data;
	__u64 o = offset;

	if (!__builtin_constant_p(offset)) {
		asm volatile("" : "+r"(o)); /* the bound and the sum on one register */
		if (o > MAX_OFFSET)
			return 0;
	}
	p += o;
	return p + size > end ? 0 : p;
}

/* inside gives size octets of the IP packet at an offset of the frame, or NULL:
 * what is behind the packet's end is padding. */
static __always_inline void *inside(struct xdp_md *ctx, const struct packet *p, __u32 offset, __u32 size)
{
	return offset + size > (__u32)p->l3 + p->len ? 0 : at(ctx, offset, size);
}

/* room gives how many octets the frame has from an offset on. Of a socket
 * buffer (see accept.bpf.c) at() may reach only the first of them. */
static __always_inline long room(struct xdp_md *ctx, __u32 offset)
{
#ifdef SOCKET_BUFFER
	long n = ctx->len;
#else
	long n = (long)ctx->data_end - (long)ctx->data;
#endif

	asm volatile("" : "+r"(n)); /* kept in 64 bits: the verifier allows no narrower difference */
	return n - offset;
}

/* copy takes octets out of the frame; not 0: they are not there. size is 1 or
 * more. */
static __always_inline long copy(struct xdp_md *ctx, __u32 offset, void *to, __u32 size)
{
#ifdef SOCKET_BUFFER
	return bpf_skb_load_bytes(ctx, offset, to, size);
#else
	return bpf_xdp_load_bytes(ctx, offset, to, size);
#endif
}

/* store puts octets into the frame; not 0: it has no such place. size is 1 or
 * more. */
static __always_inline long store(struct xdp_md *ctx, __u32 offset, void *from, __u32 size)
{
#ifdef SOCKET_BUFFER
	return bpf_skb_store_bytes(ctx, offset, from, size, 0);
#else
	return bpf_xdp_store_bytes(ctx, offset, from, size);
#endif
}

/* resize gives the frame another size; not 0: it cannot have it. */
static __always_inline long resize(struct xdp_md *ctx, __u32 size)
{
#ifdef SOCKET_BUFFER
	return bpf_skb_change_tail(ctx, size, 0);
#else
	return bpf_xdp_adjust_tail(ctx, (int)(size - room(ctx, 0)));
#endif
}

/* parse_link finds the IP packet behind Ethernet and its VLAN tags; false: no
 * IP there. */
static __always_inline int parse_link(struct xdp_md *ctx, struct packet *p)
{
	struct eth_header *eth = at(ctx, 0, sizeof(*eth));
	struct vlan_header *vlan;
	int i;

	if (!eth)
		return 0;
	p->l3 = sizeof(*eth);
	p->ethertype = bpf_ntohs(eth->type);
#pragma unroll
	for (i = 0; i < MAX_TAGS; i++) {
		if (p->ethertype != ETH_VLAN && p->ethertype != ETH_QINQ)
			break;
		vlan = at(ctx, p->l3, sizeof(*vlan));
		if (!vlan)
			return 0;
		p->l3 += sizeof(*vlan);
		p->ethertype = bpf_ntohs(vlan->type);
	}
	return p->ethertype == ETH_IPV4 || p->ethertype == ETH_IPV6;
}

static __always_inline int parse_ipv4(struct xdp_md *ctx, struct packet *p)
{
	struct ipv4_header *ip = at(ctx, p->l3, sizeof(*ip));
	__u32 ihl;
	__be16 frag;

	if (!ip || ip->version_ihl >> 4 != 4)
		return 0;
	ihl = (ip->version_ihl & 15) * 4;
	p->len = bpf_ntohs(ip->len);
	if (ihl < sizeof(*ip) || p->len < ihl || p->len > room(ctx, p->l3))
		return 0;
	map4(&p->src, ip->src);
	map4(&p->dst, ip->dst);
	frag = ip->frag;
	p->fragment = frag & bpf_htons(IPV4_OFFSET) ? LATER : frag & bpf_htons(IPV4_MORE) ? FIRST : WHOLE;
	p->dont_fragment = !!(frag & bpf_htons(IPV4_DF));
	p->id = bpf_ntohs(ip->id);
	p->tos = ip->tos;
	p->proto = ip->proto;
	p->l4 = p->l3 + ihl;
	return 1;
}

/* parse_fragment takes in an IPv6 fragment header (RFC 8200 section 4.5). */
static __always_inline int parse_fragment(struct xdp_md *ctx, struct packet *p)
{
	struct ipv6_fragment *f = inside(ctx, p, p->l4, sizeof(*f));

	if (!f)
		return 0;
	p->proto = f->next;
	p->l4 += sizeof(*f);
	p->id = bpf_ntohl(f->id);
	if (f->offset & bpf_htons(IPV6_OFFSET))
		p->fragment = LATER;
	else if (f->offset & bpf_htons(IPV6_MORE))
		p->fragment = FIRST;
	return 1;
}

/* skip_extensions walks the extension headers from p->l4 on; false: there are
 * too many, or they end early. What follows the header of a later fragment is
 * data. */
static __always_inline int skip_extensions(struct xdp_md *ctx, struct packet *p)
{
	struct ipv6_extension *ext;
	int i;

	for (i = 0; i <= MAX_EXTENSIONS; i++) {
		switch (p->proto) {
		case PROTO_HOPOPTS:
		case PROTO_ROUTING:
		case PROTO_DSTOPTS:
			if (i == MAX_EXTENSIONS)
				return 0;
			ext = inside(ctx, p, p->l4, sizeof(*ext));
			if (!ext)
				return 0;
			p->proto = ext->next;
			p->l4 += (ext->len + 1) * 8;
			break;
		case PROTO_FRAGMENT:
			if (i == MAX_EXTENSIONS || !parse_fragment(ctx, p))
				return 0;
			if (p->fragment == LATER)
				return 1;
			break;
		default:
			return 1;
		}
	}
	return 0;
}

APART int parse_ipv6(struct xdp_md *ctx, struct packet *p)
{
	struct ipv6_header *ip;
	__u32 len;

	if (!p)
		return 0;
	ip = at(ctx, p->l3, sizeof(*ip));
	if (!ip || (bpf_ntohl(ip->flow) >> 28) != 6)
		return 0;
	len = bpf_ntohs(ip->len) + sizeof(*ip);
	if (len > 0xffff || (long)len > room(ctx, p->l3))
		return 0;
	p->len = len;
	p->src = ip->src;
	p->dst = ip->dst;
	if (is4(&p->src) || is4(&p->dst))
		return 0; /* no addresses of packets (RFC 4291 section 2.5.5.2), and IPv4's in the tables */
	p->tos = bpf_ntohl(ip->flow) >> 20;
	p->dont_fragment = 1;
	p->proto = ip->next;
	p->l4 = p->l3 + sizeof(*ip);
	return skip_extensions(ctx, p);
}

static __always_inline int parse_ip(struct xdp_md *ctx, struct packet *p)
{
	return p->ethertype == ETH_IPV4 ? parse_ipv4(ctx, p) : parse_ipv6(ctx, p);
}

/* turn makes the packet that an ICMP error tells of, VIP to client, the flow
 * that p is about: client to VIP. */
static __always_inline int turn(struct xdp_md *ctx, struct packet *p, const struct address *from,
				const struct address *to, __u8 proto, __u32 l4)
{
	struct ports *inner;

	if (!same(from, &p->dst) || (proto != PROTO_TCP && proto != PROTO_UDP))
		return 1; /* not about what we forward: stays an ICMP packet */
	inner = inside(ctx, p, l4, sizeof(*inner));
	if (!inner)
		return 0;
	p->sender = p->src;
	p->src = *to;
	p->sport = inner->dst;
	p->dport = inner->src;
	p->proto = proto;
	p->icmp_error = 1;
	return 1;
}

APART int parse_icmp4(struct xdp_md *ctx, struct packet *p)
{
	struct icmp_header *icmp;
	struct address from, to;
	struct ipv4_header *ip;
	__u32 ihl;

	if (!p)
		return 0;
	icmp = inside(ctx, p, p->l4, sizeof(*icmp));
	if (!icmp)
		return 0;
	if (icmp->type != 3 && icmp->type != 11 && icmp->type != 12)
		return 1;
	ip = inside(ctx, p, p->l4 + sizeof(*icmp), sizeof(*ip));
	if (!ip)
		return 0;
	ihl = (ip->version_ihl & 15) * 4;
	if (ip->version_ihl >> 4 != 4 || ihl < sizeof(*ip))
		return 0;
	if (ip->frag & bpf_htons(IPV4_OFFSET))
		return 1; /* a later fragment has no ports */
	map4(&from, ip->src);
	map4(&to, ip->dst);
	return turn(ctx, p, &from, &to, ip->proto, p->l4 + sizeof(*icmp) + ihl);
}

/* The packet that an ICMPv6 error quotes is walked in p itself, for want of room
 * for another. */
APART int parse_icmp6(struct xdp_md *ctx, struct packet *p)
{
	struct icmp_header *icmp;
	struct address from, to;
	struct ipv6_header *ip;
	__u32 l4, id, quoted;
	__u8 proto;
	int later;

	if (!p)
		return 0;
	icmp = inside(ctx, p, p->l4, sizeof(*icmp));
	if (!icmp)
		return 0;
	if (icmp->type == 0 || icmp->type > 4)
		return 1;
	ip = inside(ctx, p, p->l4 + sizeof(*icmp), sizeof(*ip));
	if (!ip || (bpf_ntohl(ip->flow) >> 28) != 6)
		return 0;
	from = ip->src;
	to = ip->dst;
	l4 = p->l4;
	id = p->id;
	p->proto = ip->next;
	p->l4 += sizeof(*icmp) + sizeof(*ip);
	if (!skip_extensions(ctx, p))
		return 0;
	later = p->fragment == LATER; /* it has no ports */
	proto = p->proto;
	quoted = p->l4;
	p->proto = PROTO_ICMPV6; /* p is the error again */
	p->fragment = WHOLE;
	p->l4 = l4;
	p->id = id;
	return later || turn(ctx, p, &from, &to, proto, quoted);
}

/* parse_ports finds the ports of TCP and UDP. */
static __always_inline int parse_ports(struct xdp_md *ctx, struct packet *p)
{
	struct tcp_header *tcp;
	struct udp_header *udp;

	if (p->proto == PROTO_TCP) {
		tcp = inside(ctx, p, p->l4, sizeof(*tcp));
		if (!tcp)
			return 0;
		p->tcp_flags = tcp->flags;
		p->sport = tcp->src;
		p->dport = tcp->dst;
		return 1;
	}
	udp = inside(ctx, p, p->l4, sizeof(*udp));
	if (!udp)
		return 0;
	p->sport = udp->src;
	p->dport = udp->dst;
	return 1;
}

/* parse_l4 finds the ports, or those of the packet that an ICMP error is
 * about. A protocol without ports leaves them 0, and so does a fragment that
 * does not hold them. */
static __always_inline int parse_l4(struct xdp_md *ctx, struct packet *p)
{
	if (p->fragment == LATER)
		return 1;
	switch (p->proto) {
	case PROTO_TCP:
	case PROTO_UDP:
		if (parse_ports(ctx, p))
			return 1;
		if (p->fragment != FIRST)
			return 0;
		p->fragment = LATER;
		return 1;
	case PROTO_ICMP:
		return p->fragment || p->ethertype != ETH_IPV4 || parse_icmp4(ctx, p);
	case PROTO_ICMPV6:
		return p->fragment || p->ethertype != ETH_IPV6 || parse_icmp6(ctx, p);
	}
	return 1;
}
