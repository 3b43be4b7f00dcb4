/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* SYN cookies that all nodes of a region know: a balancer answers a SYN with one
 * and keeps nothing, and whichever gateway gets the ACK makes a connection of it
 * (Bernstein 1996, RFC 4987 section 3.6). The cookie is the SYN-ACK's initial
 * sequence number:
 *
 *   31-29 which of the keys
 *   28-8  tag: of SipHash-1-3 under that key, over both addresses and ports, the
 *         client's initial sequence number, and the bits below
 *   7-6   the client's MSS, rounded down to one of four
 *   5     ECN (RFC 3168)
 *   4     selective acknowledgements (RFC 2018)
 *   3-0   the client's window scale (RFC 7323); 15: none
 *
 * Where the client has sent a timestamp, that of the SYN-ACK is the upper half
 * of the hash, so that it comes back and vouches for 32 bits more. Go's twin is
 * in cookie_test.go.
 *
 * The client's sequence number is in it so that only the first octets of a
 * connection begin one: what a client sent later, on a connection that is gone,
 * must not be read as the beginning of another.
 *
 * This file is for frames and socket buffers alike. */
#pragma once

#define COOKIE_TAG 0x1fffff
#define COOKIE_KEY 29          /* the place of the key's number */
#define COOKIE_ECN 0x20
#define COOKIE_SACK 0x10
#define COOKIE_SCALE 0x0f      /* the bits of it; all set: none */

#define OPTION_END 0
#define OPTION_NONE 1
#define OPTION_MSS 2
#define OPTION_SCALE 3
#define OPTION_SACK 4
#define OPTION_STAMP 8
#define OPTION_OTHER 15        /* in a layout: one of a kind from 15 on */
#define MAX_OPTIONS 15         /* looked at, and what a layout holds */

#define MAX_SCALE 14           /* RFC 7323 section 2.3 */

static __always_inline __u64 cookie_hash(const struct cookie_key *key, const struct packet *p, __u32 isn, __u8 low)
{
	__u64 v[4] = {
		key->word[0] ^ 0x736f6d6570736575ULL,
		key->word[1] ^ 0x646f72616e646f6dULL,
		key->word[0] ^ 0x6c7967656e657261ULL,
		key->word[1] ^ 0x7465646279746573ULL,
	};

	SIP_WORD(v, p->src.half[0]);
	SIP_WORD(v, p->src.half[1]);
	SIP_WORD(v, p->dst.half[0]);
	SIP_WORD(v, p->dst.half[1]);
	SIP_WORD(v, (__u64)isn << 32 | (__u32)p->dport << 16 | p->sport);
	SIP_WORD(v, 41ULL << 56 | low); /* the length, 41 octets, and the last of them */
	v[2] ^= 0xff;
	SIP_ROUND(v);
	SIP_ROUND(v);
	SIP_ROUND(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

/* The four sizes: the least that every host takes (RFC 9293 section 3.7.1), and
 * those of Ethernet with and without tunnels. */
static __always_inline __u16 mss_of(__u32 bits, int v4)
{
	switch (bits & 3) {
	case 3:
		return v4 ? 1460 : 1440;
	case 2:
		return v4 ? 1400 : 1380;
	case 1:
		return 1300;
	}
	return v4 ? 536 : 1220;
}

static __always_inline __u32 mss_bits(__u16 mss, int v4)
{
	if (mss >= mss_of(3, v4))
		return 3;
	if (mss >= mss_of(2, v4))
		return 2;
	return mss >= mss_of(1, v4);
}

static __always_inline __u32 four(const struct desk *d, __u32 at)
{
	return (__u32)d->octet[at & 63] << 24 | d->octet[(at + 1) & 63] << 16 | d->octet[(at + 2) & 63] << 8 | d->octet[(at + 3) & 63];
}

static __always_inline void take_option(struct desk *d, __u8 kind, __u8 len, __u32 at)
{
	switch (kind << 8 | len) {
	case OPTION_MSS << 8 | 4:
		d->mss = four(d, at) >> 16;
		break;
	case OPTION_SCALE << 8 | 3:
		d->scale = d->octet[at & 63];
		d->found |= FOUND_SCALE;
		break;
	case OPTION_SACK << 8 | 2:
		d->found |= FOUND_SACK;
		break;
	case OPTION_STAMP << 8 | 10:
		d->value = four(d, at);
		d->echo = four(d, at + 4);
		d->found |= FOUND_STAMP;
		break;
	}
}

/* take_options reads the options of a header of that size. Their layout is a 1 and
 * their kinds, four bits each, in order; 0 where there are more, or they break
 * off. Where it has come to is kept in the map, about which the verifier presumes
 * nothing: so one turn is to it as any other. */
static __always_inline void take_options(struct desk *d, __u32 size)
{
	__u32 at;
	__u8 kind, len;
	int i;

	d->found = 0;
	d->mss = 0;
	d->layout = 1;
	d->next = sizeof(struct tcp_header);
	for (i = 0; i < MAX_OPTIONS; i++) {
		at = *(volatile __u32 *)&d->next;
		if (at >= size)
			break;
		kind = d->octet[at & 63];
		d->layout = d->layout << 4 | (kind < OPTION_OTHER ? kind : OPTION_OTHER);
		if (kind == OPTION_END)
			return;
		if (kind == OPTION_NONE) {
			d->next = at + 1;
			continue;
		}
		len = d->octet[(at + 1) & 63];
		if (len < 2 || at + len > size)
			break;
		take_option(d, kind, len, at + 2);
		d->next = at + len;
	}
	if (*(volatile __u32 *)&d->next < size)
		d->layout = 0;
}

/* take_header copies a TCP header to the desk and reads its options. It gives
 * the header's size; 0: that is not possible. */
static __always_inline __u32 take_header(struct xdp_md *ctx, const struct packet *p, struct desk *d)
{
	struct tcp_header *tcp = at(ctx, p->l4, sizeof(*tcp));
	__u64 size;
	int i;

	if (!tcp)
		return 0;
	size = (tcp->offset >> 4) * 4;
	if ((int)size > (int)p->len - (p->l4 - p->l3))
		return 0;
	for (i = 0; i < 16; i++)
		d->word[i] = 0;
	asm volatile("" : "+r"(size)); /* the bounds on the register that is used */
	if (size < sizeof(*tcp) || size > 60 || copy(ctx, p->l4, d->octet, size))
		return 0;
	take_options(d, size);
	return size;
}

/* brings_cookie says whether a segment acknowledges a cookie of this region's,
 * which it leaves on the desk. */
APART int brings_cookie(struct xdp_md *ctx, const struct packet *p)
{
	__u32 zero = 0, isn, id;
	struct cookie_keys *k = bpf_map_lookup_elem(&cookies, &zero);
	struct desk *d = bpf_map_lookup_elem(&desks, &zero);
	struct tcp_header *tcp;
	__u64 hash;

	if (!p)
		return 0;
	tcp = at(ctx, p->l4, sizeof(*tcp));
	if (!tcp || !k || !d || !k->until || p->fragment || p->icmp_error ||
	    (p->tcp_flags & (TCP_SYN | TCP_ACK | TCP_RST)) != TCP_ACK)
		return 0;
	isn = bpf_ntohl(tcp->ack) - 1;
	id = isn >> COOKIE_KEY;
	if (id >= COOKIE_KEYS)
		return 0;
	hash = cookie_hash(&k->key[id], p, bpf_ntohl(tcp->seq) - 1, isn);
	if ((hash ^ isn >> 8) & COOKIE_TAG)
		return 0;
	if (!take_header(ctx, p, d))
		return 0;
	d->isn = isn;
	return !(d->found & FOUND_STAMP) || d->echo == hash >> 32;
}

/* bake makes the cookie for the SYN whose header is on the desk. */
static __always_inline void bake(struct desk *d, const struct packet *p, const struct cookie_keys *k)
{
	const __u8 ecn = TCP_ECE | TCP_CWR; /* RFC 3168 section 6.1.1 */
	__u32 low = mss_bits(d->mss, p->ethertype == ETH_IPV4) << 6;
	__u32 id = k->current < COOKIE_KEYS ? k->current : 0;
	__u64 hash;

	if ((p->tcp_flags & ecn) == ecn) {
		low |= COOKIE_ECN;
		d->found |= FOUND_ECN;
	}
	if (d->found & FOUND_SACK)
		low |= COOKIE_SACK;
	if (!(d->found & FOUND_SCALE))
		low |= COOKIE_SCALE;
	else
		low |= d->scale < MAX_SCALE ? d->scale : MAX_SCALE;
	hash = cookie_hash(&k->key[id], p, bpf_ntohl(d->seq), low);
	d->isn = id << COOKIE_KEY | (hash & COOKIE_TAG) << 8 | low;
	d->stamp = hash >> 32;
}
