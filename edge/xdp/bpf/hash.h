/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* SipHash-1-3 over three words: keyed, so that nobody outside can aim flows
 * at one slot or one bucket (Aumasson and Bernstein, 2012). Go's twin is
 * flowHash in hash.go; a test holds the two equal. */
#pragma once

#define ROTL(x, b) (((x) << (b)) | ((x) >> (64 - (b))))

#define SIP_ROUND(v)                                                     \
	do {                                                             \
		v[0] += v[1]; v[1] = ROTL(v[1], 13); v[1] ^= v[0];       \
		v[0] = ROTL(v[0], 32);                                   \
		v[2] += v[3]; v[3] = ROTL(v[3], 16); v[3] ^= v[2];       \
		v[0] += v[3]; v[3] = ROTL(v[3], 21); v[3] ^= v[0];       \
		v[2] += v[1]; v[1] = ROTL(v[1], 17); v[1] ^= v[2];       \
		v[2] = ROTL(v[2], 32);                                   \
	} while (0)

#define SIP_WORD(v, m)                                                   \
	do {                                                             \
		v[3] ^= (m);                                             \
		SIP_ROUND(v);                                            \
		v[0] ^= (m);                                             \
	} while (0)

static __always_inline __u64 siphash(__u64 a, __u64 b, __u64 c)
{
	__u64 v[4] = {
		hash_key[0] ^ 0x736f6d6570736575ULL,
		hash_key[1] ^ 0x646f72616e646f6dULL,
		hash_key[0] ^ 0x6c7967656e657261ULL,
		hash_key[1] ^ 0x7465646279746573ULL,
	};

	SIP_WORD(v, a);
	SIP_WORD(v, b);
	SIP_WORD(v, c);
	SIP_WORD(v, 24ULL << 56); /* the length, 24 octets */
	v[2] ^= 0xff;
	SIP_ROUND(v);
	SIP_ROUND(v);
	SIP_ROUND(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

/* flow_hash gives the hash of the client's side of a flow at a VIP, or of what
 * of it the VIP goes by. */
static __always_inline __u64 flow_hash(const struct packet *p, const struct vip *vip)
{
	return siphash(bpf_be64_to_cpu(p->src.half[0]) & vip->mask[0], bpf_be64_to_cpu(p->src.half[1]) & vip->mask[1],
		       vip->salt ^ (bpf_ntohs(p->sport) & vip->port_mask));
}

/* tracked_hash gives the hash by which the table knows a flow: hash itself, or
 * where that is of all flows of a client alike, one of this flow. */
static __always_inline __u64 tracked_hash(const struct packet *p, const struct vip *vip, __u64 hash)
{
	if (!(vip->flags & VIP_AFFINITY))
		return hash;
	return siphash(bpf_be64_to_cpu(p->src.half[0]), bpf_be64_to_cpu(p->src.half[1]), vip->salt ^ bpf_ntohs(p->sport));
}

/* fragment_hash gives that of a datagram in fragments; beyond any port's. */
static __always_inline __u64 fragment_hash(const struct packet *p, const struct vip *vip)
{
	return siphash(bpf_be64_to_cpu(p->src.half[0]), bpf_be64_to_cpu(p->src.half[1]),
		       vip->salt ^ ((__u64)p->id << 17 | 1 << 16));
}

/* slot_of spreads the hash's upper half evenly over so many slots. */
static __always_inline __u64 slot_of(__u64 hash, __u32 slots)
{
	__u64 slot = ((hash >> 32) * slots) >> 32;

	asm volatile("" : "+r"(slot)); /* the bound that callers set stays on this register */
	return slot;
}
