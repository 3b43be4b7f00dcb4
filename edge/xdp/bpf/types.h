/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What the maps hold. Go's twins of these types are generated from BTF. */
#pragma once

/* An address of either family; IPv4 as ::ffff:a.b.c.d. */
struct address {
	union {
		__u8 octet[16];
		__be32 word[4];
		__u64 half[2];
	};
};

/* What became of a packet, and what its flow met. The names are the metric's
 * labels: the part before the first underscore is the verdict (FLOW: not a
 * verdict, counted beside it), the rest the reason. Verdicts of one kind stand
 * together, see verdict_of. */
enum reason {
	PASS_OTHER,          /* nothing of ours */
	PASS_MALFORMED,      /* headers that do not parse: the kernel's to judge */
	PASS_LOCAL,          /* balanced to this very node */
	PASS_DECAPSULATED,   /* out of a balancer's tunnel */
	PASS_NO_SERVICE,     /* a VIP that stands on this node, at a port without a service */
	TX_TUNNEL,           /* encapsulated and sent */
	TX_L2,               /* sent to the endpoint's MAC address */
	TX_TOO_BIG,          /* answered with ICMP: fragmentation needed, packet too big */
	TX_ECHO,             /* an echo request to a VIP, answered */
	TX_PASSED_ON,        /* of a connection that this gateway does not have: to a former owner of its slot */
	DROP_NO_SERVICE,     /* a VIP, at a port without a service */
	DROP_NO_MEMBER,      /* the ring holds no endpoint */
	DROP_TOO_BIG,        /* does not fit the tunnel, and the sender is not told */
	DROP_UNTRUSTED,      /* for a VIP, tunnelled by somebody who is no balancer of ours */
	DROP_BAD_INNER,      /* for a VIP, tunnelled by a balancer, but in fragments */
	DROP_NO_ROOM,        /* the driver left no headroom */
	DROP_NO_NEIGHBOUR,   /* a check whose next hop is not known yet */
	DROP_REPLY,          /* a check's reply: taken off for the checker */
	DROP_REPLY_FULL,     /* a check's reply that the checker had no room for */
	FLOW_SAFE,           /* its slot never had another owner that lives: ring, without a look at the table */
	FLOW_HIT,            /* found in the flow table */
	FLOW_NEW,            /* not found: ring, and kept */
	FLOW_UNKNOWN,        /* not found, and begun before: ring, whose gateway passes it on if it is not its own */
	FLOW_MOVED,          /* found, but its endpoint is gone: ring */
	FLOW_EVICTED,        /* a flow in use gave way for a new one */
	FLOW_FRAGMENT,       /* a later fragment, after its first */
	FLOW_FRAGMENT_ROW,   /* a later fragment of which no first was seen: by addresses alone */
	FLOW_QUIC,           /* to the server that its QUIC connection id says, whatever the ring */
	CHANCE_MINE,         /* at an unsafe slot: of a connection of this gateway, or one that begins */
	CHANCE_NONE,         /* at an unsafe slot: of no connection here, and no former owner is left */
	REASONS,
};

/* How an endpoint is reached. */
enum forward {
	FORWARD_NONE,        /* not in use */
	FORWARD_LOCAL,       /* this node */
	FORWARD_TUNNEL4,     /* outer header IPv4 */
	FORWARD_TUNNEL6,     /* outer header IPv6 */
	FORWARD_L2,          /* MAC address rewritten */
};

/* What this node does and who it is. */
enum duty {
	DUTY_BALANCE = 1,     /* send packets for VIPs to endpoints */
	DUTY_DECAPSULATE = 2, /* unpack what balancers of the region send; the VIPs stand on lo */
};

enum node_flag {
	NODE_NETWORKS = 1, /* there are networks of VIPs */
};

struct node {
	struct address own4, own6; /* zero where the node has none */
	__u32 duties;              /* of enum duty */
	__u32 idle_tcp, idle_udp;  /* seconds after which an unused flow is forgotten */
	__u16 check_first;         /* TCP and UDP ports of our own checks, host order, */
	__u16 check_last;          /* both included */
	__u32 flags;               /* of enum node_flag */
	__u32 zero;
};

struct vip_key {
	struct address addr;
	__be16 port;               /* both 0: the address as a whole */
	__u8 proto;
	__u8 net;                  /* 1: of the network that begins with addr */
	__u8 zero[4];
};

struct network {
	__u32 bits;                /* IPv4: 96 more than it is written with */
	__u8 addr[16];             /* a struct address, but for its alignment */
};

enum vip_flag {
	VIP_BIG = 1,       /* the ring is one of big_rings */
	VIP_CHAIN = 2,     /* members are gateways, which pass on what is not theirs */
	VIP_FRAGMENTS = 4, /* for later fragments alone, which show no port */
	VIP_ADDRESS = 8,   /* the address as a whole: no service */
	VIP_QUIC = 16,     /* connection ids say members, see servers */
	VIP_AFFINITY = 32, /* the mask leaves something out */
};

struct vip {
	__u64 salt;                /* sets the flows of one VIP apart from another's */
	__u64 mask[2];             /* of the client's address, host order: what the hash goes by */
	__u16 port_mask;           /* of the client's port, likewise */
	__u8 flags;                /* of enum vip_flag */
	__u8 zero;
	__u32 ring;                /* index in rings */
	__u32 stats;               /* index in vip_stats */
	__u32 zero2;
};

/* One MAC address in a word that is read and written whole. */
struct mac {
	__u8 octet[6];
	__u16 set;                 /* 0: not known */
} __attribute__((aligned(8)));

struct endpoint {
	struct address addr;       /* outer destination */
	struct mac next_hop;
	struct mac source;         /* of the device; set as long as next_hop is */
	__u16 generation;          /* of this index: grows when it gets another endpoint */
	__u8 how;                  /* enum forward */
	__u8 keeps;                /* flows may stay: up or draining */
	__u16 mtu;                 /* of the way there, outer headers included; 0: not known */
	__be16 gue;                /* UDP port of the tunnel; 0: IP in IP */
	__u8 takes;                /* new flows may come */
	__u8 outer;                /* octets of the outer headers, were it reached by a tunnel */
	__u16 index;               /* in endpoints */
	__u32 device;              /* to leave by; 0: the one it came by */
	__u64 who;                 /* digest of the member it is; user space knows it again by that */
	__u64 zero;
};

/* A slot holds SLOT_ENDPOINT, 0 for none, and SLOT_UNSAFE. */
struct ring {
	__u16 slot[SLOTS + 3];
};

struct big_ring {
	__u16 slot[BIG_SLOTS + 3];
};

/* The former owners of a slot, the newest first; 0: no more. */
struct former {
	__u16 owner[FORMERS];
};

struct former_ring {
	struct former slot[SLOTS];
};

struct former_big_ring {
	struct former slot[BIG_SLOTS];
};

/* One flow of the table: 16 octets, four to a cache line. CPUs share the
 * table without locks: what two of them wrote at once into one place must not
 * pass for a flow, so the tag is masked by what it vouches for (the XOR trick of
 * chess programs' hash tables; Hyatt and Mann, 2002). */
struct flow {
	__u64 tag;                 /* keyed hash of the flow, masked by owner */
	__u32 owner;               /* FLOW_UDP | endpoint << 16 | generation; 0: free */
	__u32 seen;                /* coarse seconds since boot */
};

struct bucket {
	struct flow way[FLOW_WAYS];
};

/* Whom a server id in a QUIC connection id stands for. */
struct server_key {
	__u32 ring;                /* of whose members it is one */
	__u8 server[SERVER_ID];
};

enum quic_how {
	QUIC_NONE,
	QUIC_PLAIN,
	QUIC_BLOCK,                /* server id and nonce are one block of AES */
};

/* How connection ids under one rotation number are written, see quic.h. */
struct quic_config {
	__u8 how;                  /* enum quic_how */
	__u8 length;               /* of an id, octets */
	__u16 zero;
	__u32 key[44];             /* AES-128, for decryption: round keys in the order of use */
};

struct traffic {
	__u64 packets;
	__u64 octets;              /* of IP packets, before encapsulation */
};

/* A budget of ICMP errors in the current second. */
struct budget {
	__u64 second;
	__u64 spent;
};

/* A check's reply on its way to the checker. */
struct reply {
	__u32 len;
	__u32 zero;
	__u8 packet[REPLY_ROOM];   /* from the IP header on */
};

/* What a check asks of the program `check`, in place of the destination MAC
 * address of the frame that it hands in. */
struct order {
	__u16 endpoint;
	__u16 generation;
	__u16 zero;
};

/* Types that no map holds as such: named here, so that BTF keeps them for Go. */
const enum reason *btf_reason __attribute__((unused));
const enum forward *btf_forward __attribute__((unused));
const enum duty *btf_duty __attribute__((unused));
const enum vip_flag *btf_vip_flag __attribute__((unused));
const struct reply *btf_reply __attribute__((unused));
const struct order *btf_order __attribute__((unused));
const enum node_flag *btf_node_flag __attribute__((unused));
const enum quic_how *btf_quic_how __attribute__((unused));
const struct server_key *btf_server_key __attribute__((unused));
const struct network *btf_network __attribute__((unused));
