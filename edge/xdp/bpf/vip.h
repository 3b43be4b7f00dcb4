/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What a packet's destination is. */
#pragma once

static __always_inline struct vip *vip_in(const struct address *addr, __u8 net, __be16 port, __u8 proto)
{
	struct vip_key key = {.addr = *addr, .port = port, .proto = proto, .net = net};

	return bpf_map_lookup_elem(&vips, &key);
}

static __always_inline struct vip *vip_at(const struct address *addr, __be16 port, __u8 proto)
{
	return vip_in(addr, 0, port, proto);
}

/* at_port gives the VIP of a port at an address or in a network: that port's,
 * else the one for all ports, or for later fragments the one that they go by. */
static __always_inline struct vip *at_port(const struct address *addr, __u8 net, __be16 port, __u8 proto, int later)
{
	struct vip *v = port ? vip_in(addr, net, port, proto) : 0;

	if (v)
		return v;
	v = vip_in(addr, net, 0, proto);
	if (v && (v->flags & (later ? VIP_ADDRESS : VIP_ADDRESS | VIP_FRAGMENTS)))
		return 0;
	return v;
}

/* network_of gives the first address of the network of VIPs that an address is
 * in; NULL: it is in none. */
static __always_inline struct address *network_of(const struct address *addr)
{
	struct network key = {.bits = 128};

	__builtin_memcpy(key.addr, addr, sizeof(key.addr));
	return bpf_map_lookup_elem(&networks, &key);
}

static __noinline struct vip *in_network(const struct address *addr, __be16 port, __u8 proto, int later)
{
	struct address *first = network_of(addr);

	return first ? at_port(first, 1, port, proto, later) : 0;
}

/* find_service gives the VIP of a port at an address, in whatever way that is
 * one; port 0 and later: the one that later fragments go by. */
static __always_inline struct vip *find_service(const struct address *addr, __be16 port, __u8 proto, int later,
						const struct node *n)
{
	struct vip *v = at_port(addr, 0, port, proto, later);

	return v || !(n->flags & NODE_NETWORKS) ? v : in_network(addr, port, proto, later);
}

/* find_vip gives the VIP that a packet is for. */
static __always_inline struct vip *find_vip(const struct packet *p, const struct node *n)
{
	return find_service(&p->dst, p->dport, p->proto, p->fragment == LATER, n);
}

/* is_vip says whether an address is a VIP, whatever the port. */
static __always_inline int is_vip(const struct address *addr, const struct node *n)
{
	return vip_at(addr, 0, 0) || ((n->flags & NODE_NETWORKS) && network_of(addr));
}
