/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The sockets of this host. */
#pragma once

/* socket_of gives the TCP socket that would get the packet, listening ones
 * included, or NULL. It has to be released. */
static __always_inline struct bpf_sock *socket_of(struct xdp_md *ctx, const struct packet *p)
{
	struct bpf_sock_tuple t = {};

	if (p->ethertype == ETH_IPV4) {
		t.ipv4.saddr = p->src.word[3];
		t.ipv4.daddr = p->dst.word[3];
		t.ipv4.sport = p->sport;
		t.ipv4.dport = p->dport;
		return bpf_skc_lookup_tcp(ctx, &t, sizeof(t.ipv4), BPF_F_CURRENT_NETNS, 0);
	}
	__builtin_memcpy(t.ipv6.saddr, &p->src, sizeof(t.ipv6.saddr));
	__builtin_memcpy(t.ipv6.daddr, &p->dst, sizeof(t.ipv6.daddr));
	t.ipv6.sport = p->sport;
	t.ipv6.dport = p->dport;
	return bpf_skc_lookup_tcp(ctx, &t, sizeof(t.ipv6), BPF_F_CURRENT_NETNS, 0);
}
