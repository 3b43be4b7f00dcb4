/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What the ring of a VIP says of a hash. */
#pragma once

static __always_inline void *only(void *maps, __u32 index)
{
	__u32 zero = 0;
	void *inner = bpf_map_lookup_elem(maps, &index);

	return inner ? bpf_map_lookup_elem(inner, &zero) : 0;
}

/* from_ring gives the slot of a hash; 0: no endpoint. */
static __always_inline __u16 from_ring(const struct vip *vip, __u64 hash)
{
	__u64 slot;

	if (vip->flags & VIP_BIG) {
		struct big_ring *big = only(&big_rings, vip->ring);

		slot = slot_of(hash, BIG_SLOTS);
		return big && slot < BIG_SLOTS ? big->slot[slot] : 0;
	}
	slot = slot_of(hash, SLOTS);
	struct ring *ring = only(&rings, vip->ring);

	return ring && slot < SLOTS ? ring->slot[slot] : 0;
}

/* owners_of gives the owners of the slot of a hash; NULL: the ring says it all. */
static __always_inline struct owners *owners_of(const struct vip *vip, __u64 hash)
{
	__u64 slot;

	if (vip->flags & VIP_BIG) {
		struct owners_big_ring *big = only(&big_owners, vip->ring);

		slot = slot_of(hash, BIG_SLOTS);
		return big && slot < BIG_SLOTS ? &big->slot[slot] : 0;
	}
	slot = slot_of(hash, SLOTS);
	struct owners_ring *ring = only(&owners, vip->ring);

	return ring && slot < SLOTS ? &ring->slot[slot] : 0;
}

static __always_inline struct endpoint *endpoint_of(__u32 index)
{
	index &= SLOT_ENDPOINT;
	return index ? bpf_map_lookup_elem(&endpoints, &index) : 0;
}
