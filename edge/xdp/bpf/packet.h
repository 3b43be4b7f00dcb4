/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What parsing finds in a packet. */
#pragma once

enum fragment { WHOLE, FIRST, LATER };

struct packet {
	struct address src, dst;  /* the flow's client and VIP */
	struct address sender;    /* the gateway that passed it on, where there are hops; else of an ICMP error its sender */
	__u64 hash;               /* of the flow, once its VIP is found */
	__be16 sport, dport;      /* of the flow; 0 where there are none */
	__u16 l3, l4;             /* offsets in the frame */
	__u16 len;                /* of the IP packet, octets, by its header */
	__u16 ethertype;          /* host order; of the IP packet */
	__u32 id;                 /* of the datagram that a fragment is of; IPv4: of any */
	__u32 device;             /* to leave by; 0: the one it came by */
	__u8 proto;               /* of layer 4 */
	__u8 tos;
	__u8 tcp_flags;
	__u8 fragment;            /* enum fragment */
	__u8 hops;                /* gateways that have passed it on */
	__u8 returned;            /* RETURNED or 0 */
	__u8 dont_fragment;       /* IPv4: DF; IPv6: always */
	__u8 icmp_error;          /* proto, ports and addresses are of the packet inside, turned round */
	__u8 unowned;             /* of no connection of this gateway */
};

static __always_inline void map4(struct address *a, __be32 v4)
{
	a->half[0] = 0;
	a->word[2] = bpf_htonl(0xffff);
	a->word[3] = v4;
}

static __always_inline int is4(const struct address *a)
{
	return a->half[0] == 0 && a->word[2] == bpf_htonl(0xffff);
}

static __always_inline int same(const struct address *a, const struct address *b)
{
	return a->half[0] == b->half[0] && a->half[1] == b->half[1];
}

static __always_inline int unset(const struct address *a)
{
	return !(a->half[0] | a->half[1]);
}

/* is_own says whether the packet is for an address of this node's own. */
static __always_inline int is_own(const struct packet *p, const struct node *n)
{
	const struct address *own = p->ethertype == ETH_IPV4 ? &n->own4 : &n->own6;

	return !unset(own) && same(&p->dst, own);
}
