/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The program of an edge node's device: it unpacks what balancers send to
 * this gateway, balances what clients send to the VIPs, and passes on the
 * rest. What it does of that is for struct node to say. */
#include "kernel.h"
#include "consts.h"
#include "types.h"
#include "maps.h"
#include "headers.h"
#include "packet.h"
#include "parse.h"
#include "sums.h"
#include "hash.h"
#include "vip.h"
#include "ring.h"
#include "flow.h"
#include "budget.h"
#include "choose.h"
#include "quic.h"
#include "tunnel.h"
#include "toobig.h"
#include "echo.h"
#include "sockets.h"
#include "cookie.h"
#include "synack.h"
#include "attack.h"
#include "chance.h"
#include "lists.h"
#include "purse.h"
#include "rules.h"
#include "defend.h"
#include "sample.h"
#include "gate.h"
#include "stamp.h"
#include "forward.h"
#include "decap.h"
#include "check.h"

char _license[] SEC("license") = "Dual BSD/GPL";

static __always_inline int verdict_of(enum reason r)
{
	if (r < TX_TUNNEL)
		return XDP_PASS;
	return r < DROP_NO_SERVICE ? XDP_TX : XDP_DROP;
}

/* malformed judges what does not parse: for a VIP it would pass by all that is
 * there to hold it up. */
static __always_inline enum reason malformed(const struct packet *p, const struct node *n)
{
	return is_vip(&p->dst, n) ? DROP_MALFORMED : PASS_MALFORMED;
}

static __always_inline enum reason handle(struct xdp_md *ctx, struct packet *p, const struct node *n)
{
	__u8 proto = 0;
	__u32 inner;

	if (!n || !parse_link(ctx, p))
		return PASS_OTHER;
	if (!parse_ip(ctx, p))
		return malformed(p, n);
	if (n->duties & DUTY_DECAPSULATE) {
		inner = tunnelled(ctx, p, n, &proto);
		if (inner)
			return decapsulate(ctx, p, n, inner, proto);
	}
	if (!parse_l4(ctx, p))
		return malformed(p, n);
	if (!(n->duties & DUTY_BALANCE))
		return receive(ctx, p, n);
	if (for_check(p, n))
		return take_reply(ctx, p, n);
	return balance(ctx, p, n);
}

/* edge is the one entry program of a device. */
SEC("xdp")
int edge(struct xdp_md *ctx)
{
	__u32 zero = 0;
	struct node *n = bpf_map_lookup_elem(&self, &zero);
	struct packet p = {};
	enum reason r;
	int verdict;

	if (n && n->sampling)
		draw(ctx, n->sampling);
	r = handle(ctx, &p, n);
	verdict = verdict_of(r);
	count(r);
	if (n && n->sampling)
		hand_over(&p, r);
	return verdict == XDP_TX && p.device ? bpf_redirect(p.device, 0) : verdict;
}

/* check is attached nowhere: the checker runs it for each packet that it
 * sends, see check.h. Its verdicts are not counted as traffic. */
SEC("xdp")
int check(struct xdp_md *ctx)
{
	struct packet p = {};
	__u32 zero = 0;
	struct node *n = bpf_map_lookup_elem(&self, &zero);
	int verdict;

	if (!n)
		return XDP_ABORTED;
	verdict = verdict_of(send_check(ctx, &p, n));
	return verdict == XDP_TX && p.device ? XDP_REDIRECT : verdict; /* by the device of its endpoint */
}
