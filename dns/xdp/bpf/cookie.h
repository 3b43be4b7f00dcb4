/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* DNS cookies (RFC 7873, RFC 9018), as dns/answer's cookie.go makes and
 * checks them. */
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
		SIP_ROUND(v);                                            \
		v[0] ^= (m);                                             \
	} while (0)

/* cookie_hash is SipHash-2-4 of the client's part, version, reserved octets
 * and time, and the client's address. */
static __noinline __u64 cookie_hash(const struct secret *key, const struct query *q, __u64 made)
{
	__u64 v[4] = {
		key->key[0] ^ 0x736f6d6570736575ULL,
		key->key[1] ^ 0x646f72616e646f6dULL,
		key->key[0] ^ 0x6c7967656e657261ULL,
		key->key[1] ^ 0x7465646279746573ULL,
	};
	__u64 last = 20ULL << 56 | q->client.word[3];

	SIP_WORD(v, q->shown[0]);
	SIP_WORD(v, made);
	if (q->v6) {
		SIP_WORD(v, q->client.half[0]);
		SIP_WORD(v, q->client.half[1]);
		last = 32ULL << 56;
	}
	SIP_WORD(v, last);
	v[2] ^= 0xff;
	SIP_ROUND(v);
	SIP_ROUND(v);
	SIP_ROUND(v);
	SIP_ROUND(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

/* secret_of gives the secret of cookies made on a day. */
static __always_inline struct secret *secret_of(__u32 made)
{
	__u32 day = made / 86400, slot = day % SECRETS;
	struct secret *s = bpf_map_lookup_elem(&secrets, &slot);

	return s && s->day == day ? s : 0;
}

/* shows_cookie says whether the cookie shown is one of ours, made at a time. */
static __always_inline int shows_cookie(struct query *q, const struct settings *set, __u32 made)
{
	struct secret *s;
	__u32 slot;
	int i;

	if (!set->fixed) {
		s = secret_of(made);
		return s && cookie_hash(s, q, q->shown[1]) == q->shown[2];
	}
	for (i = 0; i < FIXED_SECRETS; i++) {
		if (i >= set->fixed)
			break;
		slot = SECRETS + i;
		s = bpf_map_lookup_elem(&secrets, &slot);
		if (s && cookie_hash(s, q, q->shown[1]) == q->shown[2])
			return 1;
	}
	return 0;
}

/* bake makes the cookie of the answer out of the one shown, which stays as it
 * is while it is fresh; 0: the socket is to say. */
__noinline int bake(struct query *q, __u32 now)
{
	__u32 made, slot = SECRETS, zero = 0;
	struct settings *set = bpf_map_lookup_elem(&self, &zero);
	struct secret *s;
	__s32 age;

	if (!q || !set)
		return 0;
	made = bpf_ntohl(q->shown[1] >> 32);
	age = now - made; /* serial arithmetic (RFC 1982) */
	if (set->fixed > FIXED_SECRETS)
		return 0;
	if (q->cookie == 2 && (q->shown[1] & 0xff) == 1 && age <= COOKIE_LIFE && age >= -COOKIE_FUTURE)
		q->valid = shows_cookie(q, set, made);
	q->baked = 1;
	if (q->valid && age <= COOKIE_RENEW)
		return 1;
	s = set->fixed ? bpf_map_lookup_elem(&secrets, &slot) : secret_of(now);
	if (!s)
		return 0;
	q->shown[1] = 1 | (__u64)bpf_htonl(now) << 32;
	q->shown[2] = cookie_hash(s, q, q->shown[1]);
	return 1;
}
