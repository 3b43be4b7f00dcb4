/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The answer to a SYN, in the VIP's name. For frames and socket buffers alike. */
#pragma once

/* The window that a SYN-ACK offers, less than what Linux gives a connection at
 * first, and the scale that all further ones have: what Linux has unless told
 * otherwise. A gateway has to make its connections by the same. */
#define OFFERED_WINDOW 61440
#define OFFERED_SCALE 7

struct synack {
	struct tcp_header tcp;
	__u8 mss_kind, mss_len;
	__be16 mss;
	__u8 sack_kind, sack_len;
	__u8 stamp_kind, stamp_len;
	__be32 value, echo;
	__u8 none;
	__u8 scale_kind, scale_len, scale;
};

#define COMMON_MTU 1500

#define NONE_FOUR 0x01010101 /* four octets of OPTION_NONE */

/* is_whole says whether the SYN on the desk, whose header has that size, came as
 * it was sent: a source that is not the sender's is no reason to answer, and
 * neither is an accident. */
static __always_inline int is_whole(struct xdp_md *ctx, const struct packet *p, struct desk *d, __u32 size)
{
	__u32 len = p->len - (p->l4 - p->l3), at = p->l4 + size, i, j;
	__u64 left = len - size, n;
	__s64 sum = bpf_csum_diff(0, 0, d->word, sizeof(d->word), 0);

	if (left > SYN_ROOM)
		return 0;
	for (i = 0; i < SYN_ROOM / sizeof(d->data) && left; i++) {
		for (j = 0; j < 16; j++)
			d->data[j] = 0;
		n = left;
		asm volatile("" : "+r"(n));
		if (n > sizeof(d->data))
			n = sizeof(d->data);
		if (!n || copy(ctx, at, d->data, n))
			return 0;
		sum = bpf_csum_diff(0, 0, d->data, sizeof(d->data), sum);
		at += n;
		left -= n;
	}
	return fold(pseudo(p, len) + (__u32)sum) == 0;
}

static __always_inline int put_ip(struct xdp_md *ctx, const struct packet *p, __u32 label)
{
	struct ipv4_header *ip4 = at(ctx, p->l3, sizeof(*ip4));
	struct ipv6_header *ip6;

	if (!ip4)
		return 0;
	if (p->ethertype == ETH_IPV4) {
		__builtin_memset(ip4, 0, sizeof(*ip4));
		ip4->version_ihl = 0x45;
		ip4->len = bpf_htons(sizeof(*ip4) + sizeof(struct synack));
		ip4->frag = bpf_htons(IPV4_DF);
		ip4->ttl = TUNNEL_TTL;
		ip4->proto = PROTO_TCP;
		ip4->src = p->dst.word[3];
		ip4->dst = p->src.word[3];
		ip4->check = ipv4_check(ip4);
		return 1;
	}
	ip6 = at(ctx, p->l3, sizeof(*ip6));
	if (!ip6)
		return 0;
	ip6->flow = bpf_htonl(6u << 28 | (label & 0xfffff));
	ip6->len = bpf_htons(sizeof(struct synack));
	ip6->next = PROTO_TCP;
	ip6->hops = TUNNEL_TTL;
	ip6->src = p->dst;
	ip6->dst = p->src;
	return 1;
}

/* put_tcp writes a header of one size; options that the client did not ask for
 * are left empty. */
static __always_inline int put_tcp(struct xdp_md *ctx, const struct packet *p, const struct desk *d, __u32 offset, __u16 mss)
{
	struct synack *s = at(ctx, offset, sizeof(*s));
	__be32 seq = d->seq;

	if (!s)
		return 0;
	s->tcp.src = p->dport;
	s->tcp.dst = p->sport;
	s->tcp.seq = bpf_htonl(d->isn);
	s->tcp.ack = bpf_htonl(bpf_ntohl(seq) + 1);
	s->tcp.offset = sizeof(*s) / 4 << 4;
	s->tcp.flags = TCP_SYN | TCP_ACK | (d->found & FOUND_ECN ? TCP_ECE : 0);
	s->tcp.window = bpf_htons(OFFERED_WINDOW);
	s->tcp.check = 0;
	s->tcp.urgent = 0;
	s->mss_kind = OPTION_MSS;
	s->mss_len = 4;
	s->mss = bpf_htons(mss);
	s->sack_kind = d->found & FOUND_SACK ? OPTION_SACK : OPTION_NONE;
	s->sack_len = d->found & FOUND_SACK ? 2 : OPTION_NONE;
	s->stamp_kind = d->found & FOUND_STAMP ? OPTION_STAMP : OPTION_NONE;
	s->stamp_len = d->found & FOUND_STAMP ? 10 : OPTION_NONE;
	s->value = d->found & FOUND_STAMP ? bpf_htonl(d->stamp) : NONE_FOUR;
	s->echo = d->found & FOUND_STAMP ? bpf_htonl(d->value) : NONE_FOUR;
	s->none = OPTION_NONE;
	s->scale_kind = d->found & FOUND_SCALE ? OPTION_SCALE : OPTION_NONE;
	s->scale_len = d->found & FOUND_SCALE ? 3 : OPTION_NONE;
	s->scale = d->found & FOUND_SCALE ? OFFERED_SCALE : OPTION_NONE;
	s->tcp.check = fold(pseudo(p, sizeof(*s)) + sum16(ctx, offset, sizeof(*s)));
	return 1;
}

/* segment_size is what the client may send in one segment on a path of that MTU
 * (0: not known), so that it fits every tunnel to the gateway and from there to
 * another; MSS in mss.go says the same. */
static __always_inline __u16 segment_size(const struct packet *p, __u16 mtu)
{
	int v4 = p->ethertype == ETH_IPV4;
	int headers = sizeof(struct ipv6_header) + sizeof(struct tcp_header) +
		      (v4 ? sizeof(struct ipv4_header) : sizeof(struct ipv6_header));
	int mss = (mtu ? mtu : COMMON_MTU) - headers;

	return mss > mss_of(0, v4) ? mss : mss_of(0, v4);
}

/* put_synack turns the frame into the SYN-ACK of what is on the desk, without
 * whatever options and extension headers the SYN came with. */
static __always_inline int put_synack(struct xdp_md *ctx, const struct packet *p, const struct desk *d, __u16 mss)
{
	__u32 ip = p->ethertype == ETH_IPV4 ? sizeof(struct ipv4_header) : sizeof(struct ipv6_header);

	if (resize(ctx, p->l3 + ip + sizeof(struct synack)))
		return 0;
	return put_ip(ctx, p, d->stamp) && put_tcp(ctx, p, d, p->l3 + ip, mss);
}
