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
} __attribute__((packed, aligned(2)));

struct ipv6_header {          /* RFC 8200 */
	__be32 flow;          /* version, traffic class, flow label */
	__be16 len;           /* after this header */
	__u8 next;
	__u8 hops;
	struct address src;
	struct address dst;
} __attribute__((packed, aligned(2)));

struct udp_header {           /* RFC 768 */
	__be16 src;
	__be16 dst;
	__be16 len;
	__sum16 check;
} __attribute__((packed, aligned(2)));

struct dns_header {           /* RFC 1035 section 4.1.1 */
	__be16 id;
	__be16 flags;
	__be16 counts[4];
} __attribute__((packed, aligned(2)));

struct opt_header {           /* RFC 6891 section 6.1.2 */
	__u8 name;
	__be16 type;
	__be16 size;
	__u8 rcode;
	__u8 version;
	__be16 flags;
	__be16 len;
} __attribute__((packed));

struct option {
	__be16 code;
	__be16 len;
} __attribute__((packed));
