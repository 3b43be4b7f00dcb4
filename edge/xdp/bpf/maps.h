/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The maps, and what is fixed when the programs are loaded. */
#pragma once

/* Key of the flow hash; the same on every balancer of a region. */
volatile const __u64 hash_key[2];

/* Buckets in `flows`. */
volatile const __u32 flow_buckets;

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct node);
} self SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_VIPS + MAX_ADDRESSES);
	__type(key, struct vip_key);
	__type(value, struct vip);
} vips SEC(".maps");

/* Who may tunnel to this node. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_BALANCERS);
	__type(key, struct address);
	__type(value, __u8);
} balancers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MAX_ENDPOINTS);
	__type(key, __u32);
	__type(value, struct endpoint);
} endpoints SEC(".maps");

/* A ring is one array element, so that it is swapped whole and filled by
 * mmap. */
#define RING_MAPS(outer, template, type_of)              \
	struct template##_map {                          \
		__uint(type, BPF_MAP_TYPE_ARRAY);        \
		__uint(map_flags, BPF_F_MMAPABLE);       \
		__uint(max_entries, 1);                  \
		__type(key, __u32);                      \
		__type(value, struct type_of);           \
	} template SEC(".maps");                         \
	struct {                                         \
		__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS); \
		__uint(max_entries, MAX_RINGS);          \
		__type(key, __u32);                      \
		__array(values, struct template##_map);  \
	} outer SEC(".maps")

RING_MAPS(rings, ring_template, ring);
RING_MAPS(big_rings, big_ring_template, big_ring);

/* By ring; none for rings that have no unsafe slot. */
RING_MAPS(formers, former_template, former_ring);
RING_MAPS(big_formers, former_big_template, former_big_ring);

/* One table for all CPUs: devices do not always keep a flow on one (veth does
 * not). MMAPABLE puts the buckets on cache lines. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1); /* set when loading: flow_buckets */
	__type(key, __u32);
	__type(value, struct bucket);
} flows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, REASONS);
	__type(key, __u32);
	__type(value, __u64);
} counters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, MAX_VIPS);
	__type(key, __u32);
	__type(value, struct traffic);
} vip_stats SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct budget);
} budgets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, REPLY_RING);
} replies SEC(".maps");

/* What follows is of cookie.h and gate.h. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct cookie_keys);
} cookies SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct desk);
} desks SEC(".maps");

/* By VIP, as vip_stats. MMAPABLE puts them on cache lines. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, MAX_VIPS);
	__type(key, __u32);
	__type(value, struct gate);
} gates SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, MAX_VIPS);
	__type(key, __u32);
	__type(value, struct post);
} posts SEC(".maps");

static __always_inline void count(enum reason r)
{
	__u32 key = r;
	__u64 *n = bpf_map_lookup_elem(&counters, &key);

	if (n)
		(*n)++;
}
