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

__u32 seed = 1;
__u64 wrong; /* other verdicts */
struct eth_header link_header;

static __noinline int call(struct xdp_md *ctx)
{
	volatile int none = XDP_ABORTED;

	bpf_tail_call(ctx, &under_test, 0);
	return none;
}

SEC("xdp")
int bench(struct xdp_md *ctx)
{
	struct eth_header *eth = (void *)(long)ctx->data;
	struct ipv4_header *ip = (void *)(eth + 1);
	struct ports *ports = (void *)(ip + 1);
	__u32 flow;

	if ((void *)(ports + 1) > (void *)(long)ctx->data_end)
		return XDP_ABORTED;
	seed ^= seed << 13;
	seed ^= seed >> 17;
	seed ^= seed << 5;
	flow = seed & flow_count_mask;
	ip->src = bpf_htonl(0xcb000000 | flow >> 8);
	ports->src = bpf_htons(1024 + (flow & 0xff));
	if (call(ctx) != (int)expected)
		wrong++;
	if (grown && bpf_xdp_adjust_head(ctx, grown))
		return XDP_ABORTED;
	eth = (void *)(long)ctx->data;
	if ((void *)(eth + 1) > (void *)(long)ctx->data_end)
		return XDP_ABORTED;
	*eth = link_header;
	return XDP_PASS;
}

/* nothing is the empty program: what the harness itself costs. */
SEC("xdp")
int nothing(struct xdp_md *ctx)
{
	return XDP_TX;
}
