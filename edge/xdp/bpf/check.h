/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Checks of an endpoint through the VIP. The checker speaks TCP and UDP itself, from
 * this node's own address and a reserved range of ports. Each packet that it
 * wants to send it runs through the program `check`, which forwards it as a
 * client's packet would be, and sends the frame that comes out; replies are
 * taken off here, so that the kernel, which knows nothing of the connection,
 * does not reset it. Anybody may send what looks like one in a VIP's name: only
 * what a port in use waits for goes to the checker, which a flood would starve. */
#pragma once

/* for_check says whether a packet is like an answer to a check: TCP or UDP from
 * a VIP, to this node's own address and a port of the checks. */
static __always_inline int for_check(const struct packet *p, const struct node *n)
{
	__u16 port = bpf_ntohs(p->dport);

	if ((p->proto != PROTO_TCP && p->proto != PROTO_UDP) || p->icmp_error || p->fragment ||
	    port < n->check_first || port > n->check_last)
		return 0;
	return is_own(p, n) && is_vip(&p->src, n);
}

/* is_asked says whether a check waits for the packet at its port. */
static __always_inline int is_asked(const struct packet *p, const struct node *n)
{
	__u32 i = bpf_ntohs(p->dport) - n->check_first;
	struct asked *a;

	i += CHECK_PORTS * ((p->ethertype == ETH_IPV4 ? 0 : 2) + (p->proto == PROTO_UDP));
	a = bpf_map_lookup_elem(&questions, &i);
	return a && a->waits && a->port == p->sport && same(&a->vip, &p->src);
}

static __always_inline enum reason take_reply(struct xdp_md *ctx, const struct packet *p, const struct node *n)
{
	__u32 zero = 0, len = p->len;
	struct reply *r = bpf_map_lookup_elem(&reply_desks, &zero);

	if (!is_asked(p, n))
		return DROP_UNASKED;
	if (!r)
		return DROP_REPLY_FULL;
	asm volatile("" : "+r"(len)); /* the bounds on the register that is used */
	if (len == 0 || len > REPLY_ROOM || bpf_xdp_load_bytes(ctx, p->l3, r->packet, len) ||
	    bpf_ringbuf_output(&replies, r->packet, len, 0))
		return DROP_REPLY_FULL;
	return DROP_REPLY;
}

/* send_check forwards a checker's packet to the endpoint of its order. */
static __always_inline enum reason send_check(struct xdp_md *ctx, struct packet *p, const struct node *n)
{
	struct order *o = at(ctx, 0, sizeof(*o));
	struct endpoint *e;
	__u16 generation;
	__u32 index;

	if (!o)
		return PASS_MALFORMED;
	index = o->endpoint;
	generation = o->generation;
	if (!parse_link(ctx, p) || !parse_ip(ctx, p))
		return PASS_MALFORMED;
	e = bpf_map_lookup_elem(&endpoints, &index);
	if (!e || e->generation != generation)
		return DROP_NO_MEMBER;
	if (e->how != FORWARD_LOCAL && !e->next_hop.set)
		return DROP_NO_NEIGHBOUR;
	return send(ctx, p, n, e, e->how);
}
