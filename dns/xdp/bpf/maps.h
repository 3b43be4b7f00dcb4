/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The maps, and what is fixed when the programs are loaded. */
#pragma once

volatile const __u64 hash_key;
volatile const __u32 root_bits4, root_bits6;
volatile const __u32 bucket_mask; /* buckets less one; a power of two less one */

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct settings);
} self SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct moment);
} moments SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SECRETS + FIXED_SECRETS);
	__type(key, __u32);
	__type(value, struct secret);
} secrets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1); /* set when loading: bucket_mask + 1 */
	__type(key, __u32);
	__type(value, struct bucket);
} buckets SEC(".maps");

struct block_value {
	__u64 word[BLOCK_SIZE / 8];
};

struct block {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct block_value);
} block_template SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1); /* set when loading */
	__type(key, __u32);
	__array(values, struct block);
} blocks SEC(".maps");

/* By first bits of an IPv4 address. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1); /* set when loading, as those below are */
	__type(key, __u32);
	__type(value, struct words);
} geo_root4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1); /* set when loading */
	__type(key, __u32);
	__type(value, struct words);
} geo_root6 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1); /* set when loading */
	__type(key, __u32);
	__type(value, struct geo_node);
} geo_nodes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1); /* set when loading */
	__type(key, __u32);
	__type(value, struct words);
} geo_leaves SEC(".maps");

/* Class << 8 | length, by number of block. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1); /* set when loading */
	__type(key, __u32);
	__type(value, struct words);
} geo_blocks SEC(".maps");

/* By block, as many rows for each decision. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1); /* set when loading */
	__type(key, __u32);
	__type(value, struct octets);
} scopes SEC(".maps");

/* By state and class. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1); /* set when loading */
	__type(key, __u32);
	__type(value, struct halves);
} entries SEC(".maps");

/* By table and slot. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1); /* set when loading */
	__type(key, __u32);
	__type(value, struct halves);
} slots SEC(".maps");

/* Places of answers. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1); /* set when loading */
	__type(key, __u32);
	__type(value, struct words);
} variants SEC(".maps");

/* Two halves, of which one is in force. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 2 * MAX_STATES);
	__type(key, __u32);
	__type(value, struct state);
} states SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, LISTEN_SLOTS);
	__type(key, __u32);
	__type(value, struct listen);
} listens SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct query);
} queries SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, REASONS);
	__type(key, __u32);
	__type(value, __u64);
} counters SEC(".maps");

/* By part, which is what is here of one zone: 1 where that is no longer true. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1); /* set when loading */
	__type(key, __u32);
	__type(value, struct octets);
} stale SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct limits);
} rate SEC(".maps");

/* Of sets of networks: two sets, and room beside each to make it anew. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 4 * MAX_BOUNDS);
	__type(key, __u32);
	__type(value, struct bound);
} bounds SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, DEBT_SETS);
	__type(key, __u32);
	__type(value, struct debts);
} debts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct slips);
} slipping SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct kept);
} keeping SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, SAMPLE_RING);
} samples SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, TALLY_ZONES + MAX_ZONES);
	__type(key, __u32);
	__type(value, __u64);
} tallies SEC(".maps");

static __always_inline void add_one(void *map, __u32 key)
{
	__u64 *n = bpf_map_lookup_elem(map, &key);

	if (n)
		(*n)++;
}

/* count counts a packet by what became of it, and an answer by what it is. */
static __always_inline void count(const struct query *q, enum reason r)
{
	add_one(&counters, r);
	if (r != TX_ANSWER && r != TX_TRUNCATED && r != DROP_LIMITED && r != DROP_FLOOD)
		return;
	if (r != DROP_FLOOD) /* it has none */
		add_one(&tallies, q->rcode & 15);
	add_one(&tallies, q->type < TALLY_OTHER_TYPE - TALLY_TYPES ? TALLY_TYPES + q->type : TALLY_OTHER_TYPE);
	add_one(&tallies, TALLY_ZONES + q->zone);
}

/* record gives the record at a place, of which RECORD_ROOM octets may be
 * read, or NULL. */
static __always_inline void *record(ref r)
{
	__u32 zero = 0, number = r >> 12;
	__u64 offset = (r & 0xfff) << 3;
	void *block, *value;

	if (r < FIRST_REF)
		return 0;
	block = bpf_map_lookup_elem(&blocks, &number);
	if (!block)
		return 0;
	value = bpf_map_lookup_elem(block, &zero);
	if (!value || offset > LAST_RECORD)
		return 0;
	return value + offset;
}

/* what_of says what the record at a place is; 0: there is none. */
static __always_inline int what_of(ref r)
{
	__u8 *what = record(r);

	return what ? *what : 0;
}
