/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What a packet's destination is. */
#pragma once

static __always_inline struct vip *vip_at(const struct address *addr, __be16 port, __u8 proto)
{
	struct vip_key key = {.addr = *addr, .port = port, .proto = proto};

	return bpf_map_lookup_elem(&vips, &key);
}

/* find_vip gives the VIP that a packet is for: by address, port and protocol,
 * else one for all ports. */
static __always_inline struct vip *find_vip(const struct packet *p)
{
	struct vip *v = p->dport ? vip_at(&p->dst, p->dport, p->proto) : 0;

	if (v)
		return v;
	v = vip_at(&p->dst, 0, p->proto);
	if (v && (v->flags & (p->fragment == LATER ? VIP_ADDRESS : VIP_ADDRESS | VIP_FRAGMENTS)))
		return 0;
	return v;
}

/* is_vip says whether an address is a VIP, whatever the port. */
static __always_inline int is_vip(const struct address *addr)
{
	return vip_at(addr, 0, 0) != 0;
}
