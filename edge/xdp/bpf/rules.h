/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The operator's rules, in their order. */
#pragma once

/* What rules look at besides the addresses. Of an ICMP error that is the ICMP
 * message, though struct packet is of the flow that it is about. */
struct subject {
	__u16 sport, dport, len;  /* host order */
	__u8 ttl, flags, proto, fragment;
	__u8 ports;               /* 1: it shows ports, and the flags if it is TCP */
	__u8 family;              /* 1 IPv4, 2 IPv6 */
};

static __always_inline void look(struct xdp_md *ctx, const struct packet *p, struct subject *s)
{
	int v4 = p->ethertype == ETH_IPV4;
	__u8 *ttl = at(ctx, p->l3 + (v4 ? 8 : 7), 1);

	s->family = v4 ? 1 : 2;
	s->ttl = ttl ? *ttl : 0;
	s->len = p->len;
	s->fragment = p->fragment;
	s->proto = p->proto;
	if (p->icmp_error) {
		s->proto = v4 ? PROTO_ICMP : PROTO_ICMPV6;
		return;
	}
	if ((p->proto != PROTO_TCP && p->proto != PROTO_UDP) || p->fragment == LATER)
		return;
	s->ports = 1;
	s->sport = bpf_ntohs(p->sport);
	s->dport = bpf_ntohs(p->dport);
	s->flags = p->tcp_flags;
}

/* outside is negative where v is not in the range. */
static __always_inline __s32 outside(__u16 v, __u16 first, __u16 last)
{
	return ((__s32)v - first) | ((__s32)last - v);
}

static __always_inline __u64 differ(const struct address *a, const struct address *b, const struct address *mask)
{
	return ((a->half[0] ^ b->half[0]) & mask->half[0]) | ((a->half[1] ^ b->half[1]) & mask->half[1]);
}

static __always_inline int matches(const struct rule *r, const struct subject *s, const struct packet *p)
{
	__s32 out = outside(s->sport, r->sport_first, r->sport_last) | outside(s->dport, r->dport_first, r->dport_last) |
		    outside(s->len, r->len_first, r->len_last) | outside(s->ttl, r->ttl_first, r->ttl_last);
	__u32 odd = ((s->proto ^ r->proto) & r->proto_mask) | ((s->flags ^ r->flags) & r->flags_mask) | (r->ports & ~s->ports);

	if (out < 0 || odd || !(r->families & s->family) || !(r->fragments >> s->fragment & 1))
		return 0;
	return !(differ(&p->src, &r->source, &r->source_mask) | differ(&p->dst, &r->vip, &r->vip_mask));
}

/* layout_of gives how the options of a TCP header are laid out; 0: it is not
 * whole. */
static __always_inline __u64 layout_of(struct xdp_md *ctx, const struct packet *p)
{
	__u32 zero = 0;
	struct desk *d = bpf_map_lookup_elem(&desks, &zero);

	return d && take_header(ctx, p, d) ? d->layout : 0;
}

/* holds says whether the octets of the payload are those of a rule. */
static __always_inline int holds(struct xdp_md *ctx, const struct packet *p, const struct detail *d)
{
	__u32 size = sizeof(struct udp_header), at_octet;
	__u64 n = d->octets, found = 0;
	struct tcp_header *tcp;

	if (p->proto == PROTO_TCP) {
		tcp = at(ctx, p->l4, sizeof(*tcp));
		if (!tcp)
			return 0;
		size = (tcp->offset >> 4) * 4;
	}
	at_octet = p->l4 + size + d->offset;
	if (at_octet + n > (__u32)p->l3 + p->len)
		return 0;
	asm volatile("" : "+r"(n)); /* the bounds on the register that is used */
	if (n < 1 || n > sizeof(found) || copy(ctx, at_octet, &found, n))
		return 0;
	return !((found ^ d->value) & d->mask);
}

/* fits says whether a packet is what a rule's detail asks for; it shows ports,
 * where that has to do with TCP or with the payload. */
APART int fits(struct xdp_md *ctx, const struct packet *p, const struct detail *d, __u64 places)
{
	struct tcp_header *tcp;

	if (!p || !d)
		return 0;
	tcp = p->proto == PROTO_TCP ? at(ctx, p->l4, sizeof(*tcp)) : 0;
	if ((d->places && !(d->places & places)) || outside(p->id, d->id_first, d->id_last) < 0)
		return 0;
	if (outside(tcp ? bpf_ntohs(tcp->window) : 0, d->window_first, d->window_last) < 0)
		return 0;
	if (d->options && d->options != layout_of(ctx, p))
		return 0;
	return !d->octets || holds(ctx, p, d);
}

/* by_rules gives the reason to drop a packet, or 0; places are bits of those that
 * its source is in. The first rule that matches decides; one that only counts
 * decides nothing. */
static __noinline enum reason by_rules(struct xdp_md *ctx, const struct packet *p, __u64 now, __u64 places)
{
	struct rules *rules = only(&rule_sets, 0);
	struct subject s = {};
	struct tally *t;
	struct rule *r;
	__u32 i, index;

	if (!rules)
		return 0;
	look(ctx, p, &s);
	for (i = 0; i < MAX_RULES; i++) {
		if (i >= rules->count)
			break;
		r = &rules->rule[i];
		if ((r->until && r->until <= now / SECOND) || !matches(r, &s, p))
			continue;
		if (r->detailed && !fits(ctx, p, &rules->detail[i], places))
			continue;
		index = r->index;
		t = bpf_map_lookup_elem(&tallies, &index);
		if (!t)
			continue;
		t->packets++;
		t->octets += p->len;
		if (r->mode == MODE_COUNT)
			continue;
		if (r->mode == MODE_RATE && spend(index, r->cost, r->batch, now))
			return 0;
		t->dropped++;
		return r->mode == MODE_RATE ? DROP_RULE_RATE : DROP_RULE;
	}
	return 0;
}
