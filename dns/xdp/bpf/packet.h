/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* From a frame to the DNS message in it. Every access to the frame goes
 * through at(). */
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

/* room gives how many octets the frame has. */
static __always_inline long room(struct xdp_md *ctx)
{
	long n = (long)ctx->data_end - (long)ctx->data;

	asm volatile("" : "+r"(n)); /* kept in 64 bits: the verifier allows no narrower difference */
	return n;
}

/* listening says whether the nameserver answers at an address and port. */
static __always_inline int listening(const struct address *a, __be16 port)
{
	__u64 h = (a->half[0] ^ (a->half[1] + port) * 0x9e3779b97f4a7c15ULL) * 0xff51afd7ed558ccdULL;
	__u32 slot = h >> 54;
	struct listen *l;
	int i;

	for (i = 0; i < LISTEN_PROBES; i++) {
		l = bpf_map_lookup_elem(&listens, &slot);
		if (!l || !l->used)
			return 0;
		if (l->addr.half[0] == a->half[0] && l->addr.half[1] == a->half[1] && l->port == port)
			return 1;
		slot = (slot + 1) & (LISTEN_SLOTS - 1);
	}
	return 0;
}

/* The headers of a frame that may be a query. */
struct head {
	struct eth_header *eth;
	struct udp_header *udp;
	struct address to;
};

/* parse_ipv4 takes the plain header alone: 20 octets, no fragments. Sources
 * that no answer can go to are left to the kernel. */
static __always_inline int parse_ipv4(struct xdp_md *ctx, struct query *q, struct head *h)
{
	struct ipv4_header *ip = at(ctx, q->l3, sizeof(*ip));
	__u32 from;

	if (!ip || ip->version_ihl != 0x45 || (ip->frag & bpf_htons(IPV4_FRAGMENT)) || ip->proto != PROTO_UDP)
		return 0;
	from = bpf_ntohl(ip->src) >> 24;
	if (from == 0 || from == 127 || from >= 224 || ip->src == ip->dst)
		return 0;
	q->client.half[0] = h->to.half[0] = 0;
	q->client.word[2] = h->to.word[2] = bpf_htonl(0xffff);
	q->client.word[3] = ip->src;
	h->to.word[3] = ip->dst;
	h->udp = at(ctx, q->l3 + sizeof(*ip), sizeof(*h->udp));
	q->dns = q->l3 + sizeof(*ip) + sizeof(*h->udp);
	return h->udp && bpf_ntohs(ip->len) == sizeof(*ip) + bpf_ntohs(h->udp->len);
}

static __always_inline int parse_ipv6(struct xdp_md *ctx, struct query *q, struct head *h)
{
	struct ipv6_header *ip = at(ctx, q->l3, sizeof(*ip));

	if (!ip || (ip->flow & bpf_htonl(0xf0000000)) != bpf_htonl(0x60000000) || ip->next != PROTO_UDP)
		return 0;
	if (ip->src.octet[0] == 0xff || !ip->src.half[0] || !ip->dst.half[0]) /* no IPv4 in IPv6 */
		return 0;
	q->client = ip->src;
	h->to = ip->dst;
	if (h->to.half[0] == q->client.half[0] && h->to.half[1] == q->client.half[1])
		return 0;
	h->udp = at(ctx, q->l3 + sizeof(*ip), sizeof(*h->udp));
	q->dns = q->l3 + sizeof(*ip) + sizeof(*h->udp);
	return h->udp && h->udp->check && ip->len == h->udp->len;
}

/* find_message finds a query to the nameserver behind Ethernet, at most one
 * VLAN tag, IP and UDP. Checksums are not verified, as where the device does
 * it: a question that came broken goes back as it came. It gives REASONS where
 * all is well. */
static __always_inline enum reason find_message(struct xdp_md *ctx, struct query *q)
{
	struct head h = {.eth = at(ctx, 0, sizeof(*h.eth))};
	struct vlan_header *vlan;
	__be16 type;

	if (!h.eth)
		return PASS_OTHER;
	q->l3 = sizeof(*h.eth);
	type = h.eth->type;
	if (type == bpf_htons(ETH_VLAN) || type == bpf_htons(ETH_QINQ)) {
		vlan = at(ctx, sizeof(*h.eth), sizeof(*vlan));
		if (!vlan)
			return PASS_OTHER;
		q->l3 = sizeof(*h.eth) + sizeof(*vlan);
		type = vlan->type;
	}
	if (type != bpf_htons(ETH_IPV4) && type != bpf_htons(ETH_IPV6))
		return PASS_OTHER;
	q->v6 = type == bpf_htons(ETH_IPV6);
	if (!(q->v6 ? parse_ipv6(ctx, q, &h) : parse_ipv4(ctx, q, &h)))
		return PASS_HEADERS;
	if (!listening(&h.to, h.udp->dst))
		return PASS_OTHER;
	q->port = h.udp->src;
	q->end = q->dns - sizeof(*h.udp) + bpf_ntohs(h.udp->len);
	if (h.udp->src == 0 || (h.eth->dst[0] & 1) || q->end > room(ctx))
		return PASS_HEADERS;
	return REASONS;
}
