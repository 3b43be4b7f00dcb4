/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* SHA-1 (RFC 3174), which NSEC3 hashes names with. */
#pragma once

#define ROTL32(x, b) (((x) << (b)) | ((x) >> (32 - (b))))

/* SHA_ROUND takes word i of the schedule in, of which the last 16 are kept. */
#define SHA_ROUND(i, f, k)                                                                             \
	do {                                                                                           \
		if ((i) >= 16) {                                                                       \
			__u32 x = w[((i) + 13) & 15] ^ w[((i) + 8) & 15] ^ w[((i) + 2) & 15] ^ w[(i) & 15]; \
			w[(i) & 15] = ROTL32(x, 1);                                                    \
		}                                                                                      \
		next = ROTL32(a, 5) + (f) + e + (k) + w[(i) & 15];                                     \
		e = d;                                                                                 \
		d = c;                                                                                 \
		c = ROTL32(b, 30);                                                                     \
		b = a;                                                                                 \
		a = next;                                                                              \
		asm volatile("" ::: "memory"); /* the schedule stays there, the stack is small */      \
	} while (0)

/* sha1_block takes a block of 64 octets, first octets foremost, into the digest. */
static __noinline int sha1_block(struct query *q, __u32 from)
{
	__u32 a = q->digest[0], b = q->digest[1], c = q->digest[2], d = q->digest[3], e = q->digest[4], next;
	__u32 *w = q->schedule;
	int i;

	if (from > 8)
		return 0;
#pragma unroll
	for (i = 0; i < 8; i++) {
		__u64 v = q->block[from + i];

		w[2 * i] = v >> 32;
		w[2 * i + 1] = v;
	}
#pragma unroll
	for (i = 0; i < 20; i++)
		SHA_ROUND(i, d ^ (b & (c ^ d)), 0x5a827999);
#pragma unroll
	for (i = 20; i < 40; i++)
		SHA_ROUND(i, b ^ c ^ d, 0x6ed9eba1);
#pragma unroll
	for (i = 40; i < 60; i++)
		SHA_ROUND(i, (b & c) | (d & (b | c)), 0x8f1bbcdc);
#pragma unroll
	for (i = 60; i < 80; i++)
		SHA_ROUND(i, b ^ c ^ d, 0xca62c1d6);
	q->digest[0] += a;
	q->digest[1] += b;
	q->digest[2] += c;
	q->digest[3] += d;
	q->digest[4] += e;
	return 1;
}

/* hash_closer hashes the query's name from closer on (RFC 5155 section 5, with
 * no more iterations and no salt); 0: it is too long. */
static __always_inline int hash_closer(struct query *q)
{
	const __u8 *name = (const __u8 *)q->name;
	__u32 at = q->closer, length, left;
	__u64 w;
	int i;

	length = q->length - at;
	if (at >= 8 * NAME_WORDS || length > 8 * SHA_WORDS - 9)
		return 0;
#pragma unroll
	for (i = 0; i < SHA_WORDS; i++) {
		w = 0;
		if (8 * i <= length && at + 8 * i <= 8 * (NAME_WORDS + 1)) {
			left = length - 8 * i;
			w = bpf_be64_to_cpu(*(const __u64 *)(name + at + 8 * i));
			if (left < 8)
				w = (w & ~(~0ULL >> (8 * left))) | 0x80ULL << (56 - 8 * left);
		}
		q->block[i] = w;
	}
	q->digest[0] = 0x67452301;
	q->digest[1] = 0xefcdab89;
	q->digest[2] = 0x98badcfe;
	q->digest[3] = 0x10325476;
	q->digest[4] = 0xc3d2e1f0;
	if (length <= 64 - 9) {
		q->block[7] = 8 * length;
		return sha1_block(q, 0);
	}
	q->block[15] = 8 * length;
	return sha1_block(q, 0) && sha1_block(q, 8);
}
