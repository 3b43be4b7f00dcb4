/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* QUIC by connection id: gateways give out ids that say who they are, encrypted
 * or not (draft-ietf-quic-load-balancers-21), so that a connection stays with its
 * gateway whatever address and port its client has, whoever balances, and without
 * anything kept. Go's twin is edge/quiclb. */
#pragma once

#define LONG_HEADER 0x80 /* RFC 8999 section 5.1 */
#define LONG_ID 6        /* where the id begins there: after first octet, version and the id's length */
#define SHORT_ID 1
#define BLOCK 16

#define AES_COLUMN(a, b, c, d, k)                                                                     \
	(aes_columns[0][(a) >> 24] ^ aes_columns[1][((b) >> 16) & 0xff] ^                              \
	 aes_columns[2][((c) >> 8) & 0xff] ^ aes_columns[3][(d) & 0xff] ^ (k))

/* decrypt gives the first word of a block of AES, host order. Of the last round
 * no more is made than that. */
static __noinline __u32 decrypt(const __be32 *block, __u32 rotation)
{
	const volatile __u32 *key = quic[rotation & (ROTATIONS - 1)].key;
	__u32 a = bpf_ntohl(block[0]) ^ key[0], b = bpf_ntohl(block[1]) ^ key[1];
	__u32 c = bpf_ntohl(block[2]) ^ key[2], d = bpf_ntohl(block[3]) ^ key[3];
	__u32 e, f, g, h;
	int i;

#pragma unroll
	for (i = 1; i < 10; i++) {
		e = AES_COLUMN(a, d, c, b, key[4 * i]);
		f = AES_COLUMN(b, a, d, c, key[4 * i + 1]);
		g = AES_COLUMN(c, b, a, d, key[4 * i + 2]);
		h = AES_COLUMN(d, c, b, a, key[4 * i + 3]);
		a = e;
		b = f;
		c = g;
		d = h;
	}
	return ((__u32)aes_box[a >> 24] << 24 | (__u32)aes_box[(d >> 16) & 0xff] << 16 |
		(__u32)aes_box[(c >> 8) & 0xff] << 8 | aes_box[b & 0xff]) ^ key[40];
}

/* id_offset gives where the destination connection id begins in the frame; 0:
 * the packet has none that could be of ours. length gets the id's, where the
 * header says it. */
static __always_inline __u32 id_offset(struct xdp_md *ctx, const struct packet *p, __u8 *length)
{
	const __u32 start = p->l4 + sizeof(struct udp_header);
	__u8 *header = inside(ctx, p, start, SHORT_ID);

	if (!header || p->proto != PROTO_UDP || p->icmp_error || p->fragment == LATER)
		return 0;
	if (!(*header & LONG_HEADER))
		return start + SHORT_ID;
	header = inside(ctx, p, start, LONG_ID);
	if (!header || !header[LONG_ID - 1])
		return 0;
	*length = header[LONG_ID - 1];
	return start + LONG_ID;
}

/* server_of reads the server id in a connection id; false: it says none. Ids
 * that a client made up look like one of ours by chance alone. */
static __always_inline int server_of(struct xdp_md *ctx, const struct packet *p, __u32 offset, __u8 stated, __u8 *server)
{
	__u8 *id = at(ctx, offset, 1 + SERVER_ID);
	__be32 block[BLOCK / 4], first;
	__u32 rotation;
	__u8 length;

	if (!id)
		return 0;
	rotation = *id >> 5;
	length = quic[rotation].length;
	if (length < 1 + SERVER_ID || (*id & 31) != length - 1 || (stated && stated != length) ||
	    offset + length > (__u32)p->l3 + p->len)
		return 0;
	if (quic[rotation].how == QUIC_PLAIN) {
		__builtin_memcpy(server, id + 1, SERVER_ID);
		return 1;
	}
	id = at(ctx, offset, 1 + BLOCK);
	if (!id || quic[rotation].how != QUIC_BLOCK)
		return 0;
	__builtin_memcpy(block, __builtin_assume_aligned(id + 1, 4), BLOCK); /* by words: packets may be read anywhere */
	first = bpf_htonl(decrypt(block, rotation));
	__builtin_memcpy(server, &first, SERVER_ID);
	return 1;
}

/* by_connection_id gives the index of the endpoint that a packet's connection id says, as
 * long as it may have flows; 0: the ring tells. */
APART __u32 by_connection_id(struct xdp_md *ctx, const struct packet *p, const struct vip *vip)
{
	struct server_key key = {};
	struct endpoint *e;
	__u32 offset, *index;
	__u8 length = 0;

	if (!p || !vip)
		return 0;
	key.ring = vip->ring;
	offset = id_offset(ctx, p, &length);
	if (!offset || !server_of(ctx, p, offset, length, key.server))
		return 0;
	index = bpf_map_lookup_elem(&servers, &key);
	e = index ? endpoint_of(*index) : 0;
	return e && e->keeps && e->how != FORWARD_NONE ? e->index : 0;
}
