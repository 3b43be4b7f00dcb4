/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What a packet for a VIP has to pass before an endpoint is chosen: what can be
 * no client's, the lists, the rules, the limits, in this order. Who is on the
 * allow list passes all of the rest. */
#pragma once

/* Flags that a segment may have, PSH, ECE and CWR left aside (RFC 9293 section
 * 3.10.7; the same as Linux's connection tracking takes). */
#define FLAGS_OF(f) (1ULL << (f))
#define LEGAL_FLAGS                                                                        \
	(FLAGS_OF(TCP_SYN) | FLAGS_OF(TCP_SYN | TCP_URG) | FLAGS_OF(TCP_SYN | TCP_ACK) |   \
	 FLAGS_OF(TCP_RST) | FLAGS_OF(TCP_RST | TCP_ACK) | FLAGS_OF(TCP_FIN | TCP_ACK) |   \
	 FLAGS_OF(TCP_FIN | TCP_ACK | TCP_URG) | FLAGS_OF(TCP_ACK) | FLAGS_OF(TCP_ACK | TCP_URG))

static __always_inline int bogus(const struct packet *p)
{
	__u64 flags = p->tcp_flags & (TCP_FIN | TCP_SYN | TCP_RST | TCP_ACK | TCP_URG);

	return p->proto == PROTO_TCP && !p->icmp_error && p->fragment != LATER && !(LEGAL_FLAGS >> flags & 1);
}

static __always_inline int reflected(const struct packet *p)
{
	__u32 port = bpf_ntohs(p->sport), row = port / 64;
	__u64 *bits;

	if (p->proto != PROTO_UDP || p->icmp_error || p->fragment == LATER)
		return 0;
	bits = bpf_map_lookup_elem(&reflectors, &row);
	return bits && (*bits >> (port % 64) & 1);
}

/* by_limits gives the reason to drop a packet, or 0. What a source has too much
 * does not count against the VIP. */
static __noinline enum reason by_limits(const struct packet *p, __u32 on, const struct vip *vip, __u64 now)
{
	__u32 zero = 0;
	struct defence *d = bpf_map_lookup_elem(&defences, &zero);

	if (!d)
		return 0;
	if ((on & DEFEND_SOURCE) && !source_pays(p, d->source_cost, now / TICKS))
		return DROP_SOURCE_LIMIT;
	if ((on & DEFEND_VIP) && vip && !spend(VIP_PURSES + vip->stats, d->vip_cost, d->vip_batch, now))
		return DROP_VIP_LIMIT;
	return 0;
}

static __always_inline int judge(struct xdp_md *ctx, const struct packet *p, const struct node *n, const struct vip *vip)
{
	__u64 now, places = 0;
	__u32 on = n->defends;
	int r;

	if ((on & DEFEND_STATIC) && bogus(p))
		return DROP_BOGUS_FLAGS;
	r = on & DEFEND_LISTS ? listed(&p->src, p->ethertype == ETH_IPV6) : 0;
	if (r == DROP_MARTIAN)
		return DROP_MARTIAN;
	if ((on & DEFEND_REFLECTED) && reflected(p))
		return DROP_REFLECTED;
	if (r >= LIST_PLACES) {
		places = places_of(r);
		r = 0;
	}
	if (r)
		return r == LIST_ALLOWED ? 0 : r;
	if (!(on & (DEFEND_RULES | DEFEND_SOURCE | DEFEND_VIP)))
		return 0;
	now = bpf_ktime_get_coarse_ns() * TICKS;
	if (on & DEFEND_RULES) {
		r = by_rules(ctx, p, now, places);
		if (r)
			return r;
	}
	return on & (DEFEND_SOURCE | DEFEND_VIP) ? by_limits(p, on, vip, now) : 0;
}

/* swap_sources puts the sender of an ICMP error in the client's place, and back. */
APART int swap_sources(struct packet *p)
{
	struct address was;

	if (!p)
		return 0;
	was = p->src;
	p->src = p->sender;
	p->sender = was;
	return 0;
}

/* defend gives the reason to drop a packet for a VIP, or 0. Without a service
 * at its port vip is NULL. An ICMP error is judged by who sent it, not by the
 * client that it names: that is for its sender to make up. */
APART int defend(struct xdp_md *ctx, struct packet *p, const struct node *n, const struct vip *vip)
{
	int r;

	if (!p || !n)
		return 0;
	if (p->icmp_error)
		swap_sources(p);
	r = judge(ctx, p, n, vip);
	if (p->icmp_error)
		swap_sources(p);
	return r;
}
