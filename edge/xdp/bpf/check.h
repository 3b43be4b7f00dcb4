/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Checks of an endpoint through the VIP. The checker speaks TCP and UDP itself, from
 * this node's own address and a reserved range of ports. Each packet that it
 * wants to send it runs through the program `check`, which forwards it as a
 * client's packet would be, and sends the frame that comes out; replies are
 * taken off here, so that the kernel, which knows nothing of the connection,
 * does not reset it. */
#pragma once

/* is_reply says whether the packet answers a check: TCP or UDP from a service at
 * a VIP, to this node's own address and a port of the checks. */
static __always_inline int is_reply(const struct packet *p, const struct node *n)
{
	__u16 port = bpf_ntohs(p->dport);

	if ((p->proto != PROTO_TCP && p->proto != PROTO_UDP) || p->icmp_error || p->fragment ||
	    port < n->check_first || port > n->check_last)
		return 0;
	if (!same(&p->dst, p->ethertype == ETH_IPV4 ? &n->own4 : &n->own6))
		return 0;
	return find_service(&p->src, p->sport, p->proto, 0, n) != 0;
}

static __always_inline enum reason take_reply(struct xdp_md *ctx, const struct packet *p)
{
	__u32 len = p->len;
	struct reply *r;

	if (len == 0 || len > REPLY_ROOM)
		return DROP_REPLY_FULL;
	r = bpf_ringbuf_reserve(&replies, sizeof(*r), 0);
	if (!r)
		return DROP_REPLY_FULL;
	r->len = len;
	r->zero = 0;
	if (bpf_xdp_load_bytes(ctx, p->l3, r->packet, len)) {
		bpf_ringbuf_discard(r, 0);
		return DROP_REPLY_FULL;
	}
	bpf_ringbuf_submit(r, 0);
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
