/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The answer to a SYN, in the VIP's name. For frames and socket buffers alike. */
#pragma once

/* The window that a SYN-ACK offers, less than what Linux gives a connection at
 * first, and the scale that all further ones have: what Linux has unless told
 * otherwise. A gateway has to make its connections by the same. */
#define OFFERED_WINDOW 61440
#define OFFERED_SCALE 7

#define COMMON_MTU 1500

/* A word of a TCP header, in the order of the wire. */
#define FOUR(a, b, c, d) bpf_htonl((__u32)(a) << 24 | (b) << 16 | (c) << 8 | (d))

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

static __always_inline int put_ip(struct xdp_md *ctx, const struct packet *p, __u32 label, __u32 size)
{
	struct ipv4_header *ip4 = at(ctx, p->l3, sizeof(*ip4));
	struct ipv6_header *ip6;

	if (!ip4)
		return 0;
	if (p->ethertype == ETH_IPV4) {
		__builtin_memset(ip4, 0, sizeof(*ip4));
		ip4->version_ihl = 0x45;
		ip4->len = bpf_htons(sizeof(*ip4) + size);
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
	ip6->len = bpf_htons(size);
	ip6->next = PROTO_TCP;
	ip6->hops = TUNNEL_TTL;
	ip6->src = p->dst;
	ip6->dst = p->src;
	return 1;
}

/* make_synack writes the TCP header into the desk's data, which was zero behind
 * the SYN's own, and gives its size. It has the options that the SYN has, in no more
 * room than they can have there: a frame that came from a socket may not have
 * any to grow. */
static __always_inline __u32 make_synack(const struct packet *p, struct desk *d, __u16 mss)
{
	struct tcp_header *tcp = (struct tcp_header *)d->data;
	__u32 i, n = sizeof(*tcp) / 4;

	for (i = 0; i < 16; i++)
		d->data[i] = 0;
	if (d->mss)
		d->data[n++] = FOUR(OPTION_MSS, 4, mss >> 8, mss & 0xff);
	if (d->found & FOUND_STAMP) {
		d->data[n & 15] = d->found & FOUND_SACK ? FOUR(OPTION_SACK, 2, OPTION_STAMP, 10) :
							 FOUR(OPTION_NONE, OPTION_NONE, OPTION_STAMP, 10);
		d->data[(n + 1) & 15] = bpf_htonl(d->stamp);
		d->data[(n + 2) & 15] = bpf_htonl(d->value);
		n += 3;
	} else if (d->found & FOUND_SACK) {
		d->data[n++ & 15] = FOUR(OPTION_NONE, OPTION_NONE, OPTION_SACK, 2);
	}
	if (d->found & FOUND_SCALE)
		d->data[n++ & 15] = FOUR(OPTION_NONE, OPTION_SCALE, 3, OFFERED_SCALE);
	tcp->src = p->dport;
	tcp->dst = p->sport;
	tcp->seq = bpf_htonl(d->isn);
	tcp->ack = bpf_htonl(bpf_ntohl(d->seq) + 1);
	tcp->offset = n << 4;
	tcp->flags = TCP_SYN | TCP_ACK | (d->found & FOUND_ECN ? TCP_ECE : 0);
	tcp->window = bpf_htons(OFFERED_WINDOW);
	tcp->check = fold(pseudo(p, n * 4) + (__u32)bpf_csum_diff(0, 0, d->data, sizeof(d->data), 0));
	return n * 4;
}

/* segment_size is what the client may send in one segment on a path of that MTU
 * (0: not known), so that it fits every tunnel to the gateway and from there to
 * another; MSS in mss.go says the same. */
static __always_inline __u16 segment_size(const struct packet *p, __u16 mtu)
{
	int v4 = p->ethertype == ETH_IPV4;
	int headers = sizeof(struct ipv6_header) + sizeof(struct udp_header) + sizeof(struct tcp_header) +
		      (v4 ? sizeof(struct ipv4_header) : sizeof(struct ipv6_header));
	int mss = (mtu ? mtu : COMMON_MTU) - headers;

	return mss > mss_of(0, v4) ? mss : mss_of(0, v4);
}

/* put_synack turns the frame into the SYN-ACK of what is on the desk, without
 * whatever options and extension headers the SYN came with. */
static __always_inline int put_synack(struct xdp_md *ctx, const struct packet *p, struct desk *d, __u16 mss)
{
	__u32 at = p->l3 + (p->ethertype == ETH_IPV4 ? sizeof(struct ipv4_header) : sizeof(struct ipv6_header));
	__u64 size = make_synack(p, d, mss);

	if (resize(ctx, at + size) || !put_ip(ctx, p, d->stamp, size))
		return 0;
	asm volatile("" : "+r"(size)); /* the bounds on the register that is used */
	return size >= sizeof(struct tcp_header) && size <= sizeof(d->data) && !store(ctx, at, d->data, size);
}
