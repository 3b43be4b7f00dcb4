/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Protocol headers as they stand on the wire. */
#pragma once

struct eth_header {
	__u8 dst[6];
	__u8 src[6];
	__be16 type;
} __attribute__((packed, aligned(2)));

struct vlan_header {
	__be16 tag;
	__be16 type;
} __attribute__((packed, aligned(2)));

struct ipv4_header {          /* RFC 791 */
	__u8 version_ihl;
	__u8 tos;
	__be16 len;
	__be16 id;
	__be16 frag;
	__u8 ttl;
	__u8 proto;
	__sum16 check;
	__be32 src;
	__be32 dst;
};

struct ipv6_header {          /* RFC 8200 */
	__be32 flow;          /* version, traffic class, flow label */
	__be16 len;           /* after this header */
	__u8 next;
	__u8 hops;
	struct address src;
	struct address dst;
} __attribute__((packed, aligned(4)));

struct ipv6_extension {
	__u8 next;
	__u8 len;             /* in units of 8 octets, the first not counted */
	__u8 data[6];
};

struct ipv6_fragment {
	__u8 next;
	__u8 zero;
	__be16 offset;        /* and IPV6_MORE */
	__be32 id;
};

struct ports {                /* begins TCP and UDP alike */
	__be16 src;
	__be16 dst;
};

struct udp_header {           /* RFC 768 */
	__be16 src;
	__be16 dst;
	__be16 len;
	__sum16 check;
};

struct tcp_header {           /* RFC 9293 */
	__be16 src;
	__be16 dst;
	__be32 seq;
	__be32 ack;
	__u8 offset;
	__u8 flags;
	__be16 window;
	__sum16 check;
	__be16 urgent;
};

struct icmp_header {          /* RFC 792, RFC 4443 */
	__u8 type;
	__u8 code;
	__sum16 check;
	union {
		__be32 rest;
		struct {
			__be16 unused;
			__be16 mtu; /* RFC 1191 */
		};
	};
};

struct gue_header {           /* draft-ietf-intarea-gue, variant 0 */
	__u8 version_hlen;    /* 2 bits version, 1 bit control, 5 bits length of what follows, in words */
	__u8 proto;
	__be16 flags;
};
