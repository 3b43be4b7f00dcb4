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

/* other gives an endpoint unless it is this node or has no flows any more. */
static __always_inline struct endpoint *other(__u32 index)
{
	struct endpoint *e = endpoint_of(index);

	return e && e->how != FORWARD_LOCAL && e->how != FORWARD_NONE && e->keeps ? e : 0;
}

/* owner_at gives the nth of a slot's owners, the one it has now first, without
 * this node and those that have no flows any more; NULL: none. */
static __always_inline struct endpoint *owner_at(const struct vip *vip, __u64 hash, __u16 slot, __u32 nth)
{
	struct former *former = formers_of(vip, hash);
	struct endpoint *e = other(slot);
	int i;

	if (e && nth-- == 0)
		return e;
	if (!former)
		return 0;
#pragma unroll
	for (i = 0; i < FORMERS; i++) {
		e = other(former->owner[i]);
		if (e && nth-- == 0)
			return e;
	}
	return 0;
}

/* next_owner gives the gateway that a packet is passed on to; NULL: it is this
 * one's. A slot that is another's here and this one's to the balancer is one of
 * a change that has not come to both yet. */
static __always_inline struct endpoint *next_owner(struct xdp_md *ctx, const struct packet *p, const struct node *n, __u64 *hash)
{
	struct vip *vip = find_vip(p);
	struct endpoint *e;
	__u32 owner = 0;
	__u16 slot;

	if (!vip || !(vip->flags & VIP_CHAIN))
		return 0;
	if (p->fragment == LATER) {
		find_flow(fragment_hash(p, vip), now_seconds(), n, &owner);
		return owner ? owned(owner) : 0;
	}
	*hash = flow_hash(p, vip);
	slot = from_ring(vip, *hash);
	if (!(slot & SLOT_UNSAFE) && is_local(slot))
		return 0;
	if (begins(p) || has(ctx, p, n)) {
		count(CHANCE_MINE);
		return 0;
	}
	e = p->hops < MAX_HOPS ? owner_at(vip, *hash, slot, p->hops) : 0;
	if (!e)
		count(CHANCE_NONE);
	else if (p->fragment == FIRST)
		keep_fragments(p, n, owner_of(e, p));
	return e;
}
