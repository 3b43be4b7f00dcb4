/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The maps, and what is fixed when the programs are loaded. */
#pragma once

/* Key of the flow hash; the same on every balancer of a region. */
volatile const __u64 hash_key[2];

/* How connection ids are read, by their rotation number. */
volatile const struct quic_config quic[ROTATIONS];

/* What AES decrypts by: S-box and column mixing in one, and the S-box alone,
 * both inverse (FIPS 197 section 5.3.5). */
volatile const __u32 aes_columns[4][256];
volatile const __u8 aes_box[256];

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
	__uint(max_entries, MAX_VIPS + 3 * MAX_ADDRESSES); /* those as a whole, and for fragments of TCP and UDP */
	__type(key, struct vip_key);
	__type(value, struct vip);
} vips SEC(".maps");

/* Networks of VIPs; the value is the first address. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, MAX_ADDRESSES);
	__type(key, struct network);
	__type(value, struct address);
} networks SEC(".maps");

/* Endpoints by server id. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_ENDPOINTS);
	__type(key, struct server_key);
	__type(value, __u32);
} servers SEC(".maps");

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
RING_MAPS(owners, owners_template, owners_ring);
RING_MAPS(big_owners, owners_big_template, owners_big_ring);

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

/* Of ICMP errors and of packets passed on, by source, and of all of these. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 2 * SOURCE_BUDGETS + 1);
	__type(key, __u32);
	__type(value, struct budget);
} budgets SEC(".maps");

/* By port, for IPv4 and then for IPv6 those of TCP and those of UDP. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 4 * CHECK_PORTS);
	__type(key, __u32);
	__type(value, struct asked);
} questions SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct reply);
} reply_desks SEC(".maps");

/* Replies to checks, each as long as it is. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, REPLY_RING);
} replies SEC(".maps");

/* When a connection brought data, in ns since boot, see stamp.h. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_ARRIVALS);
	__type(key, struct arrival_key);
	__type(value, __u64);
} arrivals SEC(".maps");

/* What follows is of defend.h. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct defence);
} defences SEC(".maps");

/* The lists of networks, in one map that is swapped whole. */
struct list_map {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE | BPF_F_INNER_MAP);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct list_row);
} list_template SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, __u32);
	__array(values, struct list_map);
} lists SEC(".maps");

/* So are the rules. */
struct rules_map {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct rules);
} rules_template SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, __u32);
	__array(values, struct rules_map);
} rule_sets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, MAX_TALLIES);
	__type(key, __u32);
	__type(value, struct tally);
} tallies SEC(".maps");

/* A bit for each UDP port that nothing is taken from. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 65536 / 64);
	__type(key, __u32);
	__type(value, __u64);
} reflectors SEC(".maps");

/* By rule, then the one of samples, then by VIP as in vip_stats. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, MAX_TALLIES + 1 + MAX_VIPS);
	__type(key, __u32);
	__type(value, struct purse);
} purses SEC(".maps");

/* Packets that a CPU has paid ahead out of each. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, MAX_TALLIES + 1 + MAX_VIPS);
	__type(key, __u32);
	__type(value, __u64);
} credits SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, DEBT_SETS);
	__type(key, __u32);
	__type(value, struct debts);
} sources SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct sampler);
} samplers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, SAMPLE_RING);
} samples SEC(".maps");

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
