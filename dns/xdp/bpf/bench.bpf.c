/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The harness of the benchmarks: for each repetition of a test run it makes
 * the packet another query and calls the program under test. In no shipped
 * program. */
#include "kernel.h"

char _license[] SEC("license") = "Dual BSD/GPL";

#define BPF_MAP_TYPE_PROG_ARRAY 3
#define FRAME_ROOM 184

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} under_test SEC(".maps");

struct frame {
	__u32 len;
	__u32 zero;
	__u8 octets[FRAME_ROOM];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 65536);
	__type(key, __u32);
	__type(value, struct frame);
} frames SEC(".maps");

volatile const __u32 frame_mask; /* frames less one */
volatile const __u32 expected;   /* verdict */

__u32 seed = 1;
__u64 wrong; /* other verdicts */

static __noinline int call(struct xdp_md *ctx)
{
	volatile int none = XDP_ABORTED;

	bpf_tail_call(ctx, &under_test, 0);
	return none;
}

SEC("xdp")
int bench(struct xdp_md *ctx)
{
	struct frame *f;
	__u32 at, len;
	long now;

	seed ^= seed << 13;
	seed ^= seed >> 17;
	seed ^= seed << 5;
	at = seed & frame_mask;
	f = bpf_map_lookup_elem(&frames, &at);
	if (!f)
		return XDP_ABORTED;
	len = f->len;
	now = (long)ctx->data_end - (long)ctx->data;
	asm volatile("" : "+r"(now), "+r"(len));
	if (len < 14 || len > FRAME_ROOM || bpf_xdp_adjust_tail(ctx, (int)len - (int)now) ||
	    bpf_xdp_store_bytes(ctx, 0, f->octets, len))
		return XDP_ABORTED;
	if (call(ctx) != (int)expected)
		wrong++;
	return XDP_PASS;
}

/* nothing is the empty program: what the harness itself costs. */
SEC("xdp")
int nothing(struct xdp_md *ctx)
{
	return XDP_TX;
}

const struct frame *btf_frame __attribute__((unused));
