/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The gateway's part in SYN cookies, at its device behind the program of
 * edge.bpf.c, whose tables it shares. It is at tc, not in XDP, for two reasons:
 * only there can a packet be given the connection that it begins, and only from
 * there can an answer go by the kernel's routes. */
#include "kernel.h"

/* What is for frames elsewhere is for socket buffers here. */
#define SOCKET_BUFFER
#define xdp_md __sk_buff

#include "consts.h"
#include "types.h"
#include "maps.h"
#include "headers.h"
#include "packet.h"
#include "parse.h"
#include "sums.h"
#include "hash.h"
#include "vip.h"
#include "sockets.h"
#include "cookie.h"
#include "synack.h"
#include "attack.h"

char _license[] SEC("license") = "Dual BSD/GPL";

struct sock {
	int zero; /* never read */
};

/* The kernel's (net/core/filter.c, Linux 6.9): the packet begins a connection at
 * that listening socket. */
extern int bpf_sk_assign_tcp_reqsk(struct __sk_buff *skb, struct sock *sk, struct bpf_tcp_req_attrs *attrs,
				   int attrs__sz) __ksym;

#define HEADERS 128 /* octets that are looked at */

/* segment parses a TCP segment; false: it is none, or in fragments. */
static __always_inline int segment(struct __sk_buff *ctx, struct packet *p)
{
	long reach = (long)ctx->data_end - (long)ctx->data;

	asm volatile("" : "+r"(reach)); /* as in room() */
	if (reach < HEADERS && reach < ctx->len)
		bpf_skb_pull_data(ctx, ctx->len < HEADERS ? ctx->len : HEADERS);
	return parse_link(ctx, p) && parse_ip(ctx, p) && p->proto == PROTO_TCP && !p->fragment && parse_l4(ctx, p);
}

/* agreed is what client and balancer have agreed on, by the cookie. */
static __always_inline void agreed(struct bpf_tcp_req_attrs *a, const struct packet *p, const struct desk *d)
{
	__u8 scale = d->isn & COOKIE_SCALE;

	a->mss = mss_of(d->isn >> 6, p->ethertype == ETH_IPV4);
	a->ecn_ok = !!(d->isn & COOKIE_ECN);
	a->sack_ok = !!(d->isn & COOKIE_SACK);
	if (scale <= MAX_SCALE) {
		a->wscale_ok = 1;
		a->snd_wscale = scale;
		a->rcv_wscale = OFFERED_SCALE;
	}
	if (d->found & FOUND_STAMP) {
		a->tstamp_ok = 1;
		a->rcv_tsval = d->value;
		a->rcv_tsecr = d->echo;
	}
}

/* begin makes the packet begin a connection, unless it is of one already. */
static __always_inline void begin(struct __sk_buff *ctx, const struct packet *p, struct bpf_tcp_req_attrs *a)
{
	struct bpf_sock *sk = socket_of(ctx, p);
	struct tcp_sock *tcp;
	int err = -1;

	if (!sk)
		return;
	if (sk->state != BPF_TCP_LISTEN) {
		bpf_sk_release(sk);
		return;
	}
	tcp = bpf_skc_to_tcp_sock(sk);
	if (tcp)
		err = bpf_sk_assign_tcp_reqsk(ctx, (struct sock *)tcp, a, sizeof(*a));
	bpf_sk_release(sk);
	count(err ? COOKIE_REFUSED : COOKIE_ACCEPTED);
}

/* accept is the program of a gateway whose balancers answer SYNs. */
SEC("tc")
int accept(struct __sk_buff *ctx)
{
	struct bpf_tcp_req_attrs a = {};
	struct packet p = {};
	__u32 zero = 0;
	struct desk *d = bpf_map_lookup_elem(&desks, &zero);

	if (d && segment(ctx, &p) && brings_cookie(ctx, &p)) {
		agreed(&a, &p, d);
		begin(ctx, &p, &a);
	}
	return TC_ACT_UNSPEC;
}

/* cookie_of has the kernel make a cookie of its own, for the SYN on the desk; less
 * than 0: it makes none. */
static __always_inline __s64 cookie_of(struct __sk_buff *ctx, const struct packet *p, struct desk *d, __u32 size)
{
	struct bpf_sock *sk = socket_of(ctx, p);
	void *ip4 = at(ctx, p->l3, sizeof(struct ipv4_header)), *ip6;
	__s64 made = -1;

	if (!sk)
		return -1;
	if (sk->state == BPF_TCP_LISTEN && ip4) {
		if (p->ethertype == ETH_IPV4) {
			made = bpf_tcp_gen_syncookie(sk, ip4, sizeof(struct ipv4_header), (struct tcphdr *)d->octet, size);
		} else {
			ip6 = at(ctx, p->l3, sizeof(struct ipv6_header));
			if (ip6)
				made = bpf_tcp_gen_syncookie(sk, ip6, sizeof(struct ipv6_header), (struct tcphdr *)d->octet, size);
		}
	}
	bpf_sk_release(sk);
	return made;
}

static __always_inline int drop(enum reason r)
{
	count(r);
	return TC_ACT_SHOT;
}

/* reply is the program of a gateway that answers SYNs itself, while their VIP is
 * under attack, with its kernel's cookies. These tell of the MSS alone. Where
 * the kernel makes none the SYN is its to answer. */
SEC("tc")
int reply(struct __sk_buff *ctx)
{
	struct packet p = {};
	__u32 zero = 0, size;
	struct node *n = bpf_map_lookup_elem(&self, &zero);
	struct desk *d = bpf_map_lookup_elem(&desks, &zero);
	struct vip *vip;
	__s64 made;

	if (!n || !d || !segment(ctx, &p) || (p.tcp_flags & (TCP_SYN | TCP_ACK | TCP_RST | TCP_FIN)) != TCP_SYN)
		return TC_ACT_UNSPEC;
	vip = find_vip(&p, n);
	if (!vip || vip->gate != GATE_KERNEL || !flooded(vip, n, bpf_ktime_get_coarse_ns() >> WINDOW_BITS))
		return TC_ACT_UNSPEC;
	size = take_header(ctx, &p, d);
	if (!size || !is_whole(ctx, &p, d, size))
		return drop(DROP_BAD_CHECKSUM);
	made = cookie_of(ctx, &p, d, size);
	if (made < 0)
		return TC_ACT_UNSPEC;
	d->isn = made;
	d->found = 0;
	if (!put_synack(ctx, &p, d, segment_size(&p, COMMON_MTU)))
		return drop(DROP_NO_ROOM);
	count(TX_COOKIE);
	return bpf_redirect_neigh(ctx->ifindex, 0, 0, 0);
}
