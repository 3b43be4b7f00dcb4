/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The harness of the benchmarks: for each repetition of a test run it makes
 * the packet another flow's, calls the program under test, and undoes what that
 * did to the frame, for a test run keeps it. In no shipped program. */
#include "kernel.h"
#include "consts.h"
#include "types.h"
#include "headers.h"

char _license[] SEC("license") = "Dual BSD/GPL";

#define BPF_MAP_TYPE_PROG_ARRAY 3

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} under_test SEC(".maps");

volatile const __u32 flow_count_mask; /* flows less one; all ones: each packet a new one */
volatile const __u32 grown;           /* octets that the program under test puts before the frame */
volatile const __u32 expected;        /* its verdict */

/* Of a SYN, whose checksum is reckoned with and which is put back whole: its
 * octets; 0: the packet is none. */
volatile const __u32 restored;

volatile const __u32 spread;          /* flood: ports, from the frame's on, that its copies go to by chance; 0: they go to one */

__u8 before[128];                     /* the SYN, from 0.0.0.0 and port 0 */
__u32 seed = 1;
__u64 wrong; /* other verdicts */
struct eth_header link_header;

static __noinline int call(struct xdp_md *ctx)
{
	volatile int none = XDP_ABORTED;

	bpf_tail_call(ctx, &under_test, 0);
	return none;
}

static __always_inline __u32 random(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 17;
	seed ^= seed << 5;
	return seed;
}

static __always_inline __u32 folded(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	return (sum & 0xffff) + (sum >> 16);
}

/* put_back makes the frame the SYN again that it was. */
static __always_inline int put_back(struct xdp_md *ctx)
{
	long size = (long)ctx->data_end - (long)ctx->data;

	asm volatile("" : "+r"(size)); /* as in parse.h */
	return restored && restored <= sizeof(before) &&
	       !bpf_xdp_adjust_tail(ctx, (int)(restored - size)) && !bpf_xdp_store_bytes(ctx, 0, before, restored);
}

/* from gives the frame another client; the checksum, if any, was right for
 * 0.0.0.0 and port 0. */
static __always_inline void from(struct ipv4_header *ip, struct tcp_header *tcp, __u32 client, __u16 port)
{
	ip->src = bpf_htonl(client);
	tcp->src = bpf_htons(port);
	if (restored)
		tcp->check = ~folded((__u16)~tcp->check + (ip->src & 0xffff) + (ip->src >> 16) + tcp->src);
}

SEC("xdp")
int bench(struct xdp_md *ctx)
{
	struct eth_header *eth = (void *)(long)ctx->data;
	struct ipv4_header *ip = (void *)(eth + 1);
	struct tcp_header *tcp = (void *)(ip + 1);
	__u32 flow;

	if ((void *)(tcp + 1) > (void *)(long)ctx->data_end)
		return XDP_ABORTED;
	flow = random() & flow_count_mask;
	from(ip, tcp, 0xcb000000 | flow >> 8, 1024 + (flow & 0xff));
	if (call(ctx) != (int)expected)
		wrong++;
	if (restored)
		return put_back(ctx) ? XDP_PASS : XDP_ABORTED;
	if (grown && bpf_xdp_adjust_head(ctx, grown))
		return XDP_ABORTED;
	eth = (void *)(long)ctx->data;
	if ((void *)(eth + 1) > (void *)(long)ctx->data_end)
		return XDP_ABORTED;
	*eth = link_header;
	return XDP_PASS;
}

/* flood is no benchmark but a generator, for test runs with live frames: of the
 * frame in `before` it sends one from another client each time, its checksum
 * right; or from the same one to another port. */
SEC("xdp")
int flood(struct xdp_md *ctx)
{
	struct ipv4_header *ip;
	struct tcp_header *tcp;
	__u32 r = random();

	if (!put_back(ctx))
		return XDP_ABORTED;
	ip = (void *)(long)ctx->data + sizeof(struct eth_header);
	tcp = (void *)(ip + 1);
	if ((void *)(tcp + 1) > (void *)(long)ctx->data_end)
		return XDP_ABORTED;
	wrong++; /* none: so many were sent */
	if (spread) {
		tcp->dst = bpf_htons(bpf_ntohs(tcp->dst) + r % spread);
		return XDP_TX;
	}
	from(ip, tcp, 0x64400000 | (r & 0x3fffff), 1024 + (r >> 20));
	ip->check = ~folded((__u16)~ip->check + (ip->src & 0xffff) + (ip->src >> 16));
	return XDP_TX;
}

/* nothing is the empty program: what the harness itself costs. */
SEC("xdp")
int nothing(struct xdp_md *ctx)
{
	return XDP_TX;
}
