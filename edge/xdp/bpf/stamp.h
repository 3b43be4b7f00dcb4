/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* When packets with data arrived, noted for one connection in so many, for the
 * gateway to read: how long they were on their way through this machine. */
#pragma once

/* is_stamped says whether a connection is one of those; Go's twin is stamped in
 * arrival.go. */
static __always_inline int is_stamped(const struct packet *p, __u32 one_in)
{
	__u32 h = (p->src.word[3] ^ (__u32)p->sport << 16 ^ p->dport) * 0x9e3779b1;

	return (__u64)h * one_in >> 32 == 0;
}

/* stamp notes when the packet arrived, if it is of such a connection and brings
 * data. */
APART int stamp(struct xdp_md *ctx, const struct packet *p, __u32 one_in)
{
	struct arrival_key key = {};
	struct tcp_header *tcp;
	__u64 now;

	if (!p || p->proto != PROTO_TCP || p->icmp_error || p->fragment || !is_stamped(p, one_in))
		return 0;
	tcp = at(ctx, p->l4, sizeof(*tcp));
	if (!tcp || p->l4 - p->l3 + (tcp->offset >> 4) * 4 >= p->len)
		return 0;
	key.client = p->src;
	key.vip = p->dst;
	key.sport = p->sport;
	key.dport = p->dport;
	now = bpf_ktime_get_ns();
	bpf_map_update_elem(&arrivals, &key, &now, 0);
	return 0;
}
