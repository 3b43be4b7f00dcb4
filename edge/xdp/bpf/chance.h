/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The second chance: a gateway that gets a packet of a connection that it does
 * not have passes it on to a former owner of the packet's slot, which may. So a
 * connection lives on while balancers come and go and rings change, and no
 * balancer has to know of it (Olteanu et al., "Beamer", NSDI 2018). */
#pragma once

static __always_inline int has_cookie(struct xdp_md *ctx, const struct packet *p, struct bpf_sock *sk)
{
	const __u32 size = p->ethertype == ETH_IPV4 ? sizeof(struct ipv4_header) : sizeof(struct ipv6_header);
	struct tcp_header *tcp = at(ctx, p->l4, sizeof(*tcp));
	void *ip = at(ctx, p->l3, sizeof(struct ipv4_header));

	if (!(p->tcp_flags & TCP_ACK) || p->icmp_error || !tcp || !ip)
		return 0;
	if (size == sizeof(struct ipv4_header))
		return !bpf_tcp_check_syncookie(sk, ip, sizeof(struct ipv4_header), (struct tcphdr *)tcp, sizeof(*tcp));
	ip = at(ctx, p->l3, sizeof(struct ipv6_header));
	return ip && !bpf_tcp_check_syncookie(sk, ip, sizeof(struct ipv6_header), (struct tcphdr *)tcp, sizeof(*tcp));
}

/* has says whether this gateway's kernel has the packet's connection: a socket
 * other than a listening one; or a listening one, where the packet brings back
 * the cookie that it sent, or one that any gateway of the region takes. */
static __always_inline int has(struct xdp_md *ctx, const struct packet *p, const struct node *n)
{
	struct bpf_sock *sk = socket_of(ctx, p);
	int yes;

	if (!sk)
		return 0;
	yes = sk->state != BPF_TCP_LISTEN || has_cookie(ctx, p, sk);
	bpf_sk_release(sk);
	return yes || ((n->duties & DUTY_ACCEPT) && brings_cookie(ctx, p));
}

static __always_inline int is_local(__u16 slot)
{
	struct endpoint *e = endpoint_of(slot);

	return e && e->how == FORWARD_LOCAL;
}

/* next_after gives the gateway that is asked next: of the slot's owners, the one
 * it has now first, that which follows this node and the one that the packet
 * comes from, whichever of them stands first; neither of the two, and none that
 * has no flows any more; NULL: none. So all are asked although a gateway that is
 * new passes a packet on to one out of turn, for it does not know the owners
 * before it; or, where it knows none but the sender, gives it back, once. While a
 * ring is swapped the slot may be the old ring's, but the owners are all of one. */
static __always_inline struct endpoint *next_after(struct packet *p, const struct vip *vip, __u16 slot)
{
	struct owners *all = owners_of(vip, p->hash);
	struct endpoint *e, *sender = 0, *owner[OWNERS] = {};
	int i, from, asked = 0, begin = 0;

#pragma unroll
	for (i = 0; i < OWNERS; i++) {
		e = all ? endpoint_of(all->owner[i]) : i == 0 ? endpoint_of(slot) : 0;
		if (!e || e->how == FORWARD_NONE)
			continue;
		from = p->hops && same(&e->addr, &p->sender);
		if (from)
			sender = e;
		else if (e->how != FORWARD_LOCAL)
			owner[i] = e->keeps ? e : 0;
		if (p->hops && !asked && (from || e->how == FORWARD_LOCAL)) {
			asked = 1;
			begin = i + 1;
		}
	}
#pragma unroll
	for (i = 0; i < OWNERS; i++)
		if (i >= begin && owner[i])
			return owner[i];
	if (p->returned || !sender || !sender->keeps)
		return 0;
	p->returned = RETURNED;
	return sender;
}

/* next_owner gives the index of the gateway that a packet is passed on to; 0: it is this
 * one's. A slot that is another's here and this one's to the balancer is one of
 * a change that has not come to both yet. */
APART __u32 next_owner(struct xdp_md *ctx, struct packet *p, const struct node *n)
{
	struct endpoint *e;
	struct vip *vip;
	__u32 owner = 0;
	__u16 slot;

	if (!p || !n)
		return 0;
	vip = find_vip(p, n);
	if (!vip || !(vip->flags & VIP_CHAIN))
		return 0;
	if (p->fragment == LATER) {
		find_flow(fragment_hash(p, vip), now_seconds(), n, &owner, 0);
		e = owner && p->hops < MAX_HOPS ? owned(owner) : 0;
		return e && e->how != FORWARD_LOCAL ? e->index : 0;
	}
	p->hash = flow_hash(p, vip);
	e = vip->flags & VIP_QUIC ? endpoint_of(by_connection_id(ctx, p, vip)) : 0;
	if (e) {
		if (e->how == FORWARD_LOCAL || p->hops >= MAX_HOPS)
			return 0;
		if (p->fragment == FIRST)
			keep_fragments(p, n, owner_of(e, p));
		return e->index;
	}
	slot = from_ring(vip, p->hash);
	if (!(slot & SLOT_UNSAFE) && is_local(slot))
		return 0;
	if (begins(p) || has(ctx, p, n)) {
		count(CHANCE_MINE);
		return 0;
	}
	p->unowned = 1;
	e = p->hops < MAX_HOPS ? next_after(p, vip, slot) : 0;
	if (!e)
		count(CHANCE_NONE);
	else if (p->fragment == FIRST)
		keep_fragments(p, n, owner_of(e, p));
	return e ? e->index : 0;
}
