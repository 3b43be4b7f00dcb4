/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The Internet's checksum (RFC 1071). A sum may be of words of 16 or 32 bits, as
 * they stand in memory. */
#pragma once

static __always_inline __sum16 fold(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

/* mended gives a checksum after one of the words that it is of has become
 * another (RFC 1624). */
static __always_inline __sum16 mended(__sum16 check, __u16 was, __u16 now)
{
	__u32 sum = (__u16)~check + (__u16)~was + now;

	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

/* sum16 adds words of the frame, size octets from an offset on. */
static __always_inline __u64 sum16(struct xdp_md *ctx, __u32 offset, const __u32 size)
{
	__u16 *w = at(ctx, offset, size);
	__u64 sum = 0;
	__u32 i;

	if (!w)
		return 0;
#pragma unroll
	for (i = 0; i < size / 2; i++)
		sum += w[i];
	return sum;
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

/* pseudo gives the sum of TCP's pseudo header for a segment of that length (RFC
 * 9293 section 3.1, RFC 8200 section 8.1). What marks an IPv4 address is a word
 * of ones, which adds nothing. */
static __always_inline __u64 pseudo(const struct packet *p, __u32 len)
{
	__u64 sum = bpf_htons(PROTO_TCP) + bpf_htons(len);
	int i;

#pragma unroll
	for (i = 0; i < 4; i++)
		sum += (__u64)p->src.word[i] + p->dst.word[i];
	return sum;
}
