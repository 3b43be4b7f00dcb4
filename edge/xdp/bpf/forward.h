/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* To the endpoint that was chosen. */
#pragma once

static __always_inline enum reason to_endpoint(struct xdp_md *ctx, const struct packet *p, const struct node *n,
					       const struct endpoint *e, __u64 hash)
{
	struct eth_header *eth;
	__u32 outer = 0;

	if (e->how == FORWARD_TUNNEL4)
		outer = sizeof(struct ipv4_header);
	else if (e->how == FORWARD_TUNNEL6)
		outer = sizeof(struct ipv6_header);
	if (e->mtu && p->len + outer > e->mtu)
		return tell_too_big(ctx, p, e->mtu - outer);
	switch (e->how) {
	case FORWARD_LOCAL:
		return PASS_LOCAL;
	case FORWARD_TUNNEL4:
		return encapsulate(ctx, p, n, e, hash, 1);
	case FORWARD_TUNNEL6:
		return encapsulate(ctx, p, n, e, hash, 0);
	case FORWARD_L2:
		eth = at(ctx, 0, sizeof(*eth));
		if (!eth || !e->next_hop.set)
			return DROP_NO_NEIGHBOUR;
		aim(eth, e);
		return TX_L2;
	}
	return DROP_NO_MEMBER;
}

static __always_inline void count_vip(const struct vip *vip, const struct packet *p)
{
	__u32 key = vip->stats;
	struct traffic *t = bpf_map_lookup_elem(&vip_stats, &key);

	if (!t)
		return;
	t->packets++;
	t->octets += p->len;
}

/* no_service judges a packet that no service wants: of no concern, or for a
 * VIP all the same. A VIP that stands on this node is answered by its kernel;
 * where it does not, a kernel that forwards would send the packet round in
 * circles. */
static __always_inline enum reason no_service(const struct packet *p, const struct node *n)
{
	struct vip_key key = {.addr = p->dst};

	if (!bpf_map_lookup_elem(&vips, &key))
		return PASS_OTHER;
	if (p->fragment)
		return DROP_FRAGMENT;
	return n->duties & DUTY_DECAPSULATE ? PASS_NO_SERVICE : DROP_NO_SERVICE;
}

static __always_inline enum reason balance(struct xdp_md *ctx, const struct packet *p, const struct node *n)
{
	struct vip_key key = {.addr = p->dst, .port = p->dport, .proto = p->proto};
	struct vip *vip;
	struct endpoint *e;
	__u64 hash;

	vip = p->dport ? bpf_map_lookup_elem(&vips, &key) : 0;
	if (!vip)
		return no_service(p, n);
	hash = flow_hash(p, vip);
	e = choose(p, vip, hash);
	count_vip(vip, p);
	if (!e)
		return DROP_NO_MEMBER;
	return to_endpoint(ctx, p, n, e, hash);
}
