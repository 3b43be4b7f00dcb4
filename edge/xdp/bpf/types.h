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
	TX_COOKIE,           /* a SYN while its VIP is under attack, answered with a SYN cookie */
	DROP_NO_SERVICE,     /* a VIP, at a port without a service */
	DROP_NO_MEMBER,      /* the ring holds no endpoint */
	DROP_TOO_BIG,        /* does not fit the tunnel, and the sender is not told */
	DROP_UNTRUSTED,      /* for a VIP, tunnelled by somebody who is no balancer of ours */
	DROP_BAD_INNER,      /* for a VIP, tunnelled by a balancer, but in fragments */
	DROP_NO_ROOM,        /* the driver left no headroom */
	DROP_NO_NEIGHBOUR,   /* a check whose next hop is not known yet */
	DROP_REPLY,          /* a check's reply: taken off for the checker */
	DROP_REPLY_FULL,     /* a check's reply that the checker had no room for */
	DROP_BAD_CHECKSUM,   /* a SYN under attack whose checksum is wrong, or cannot be told from a fragment */
	DROP_NO_COOKIE,      /* under attack: of no known flow, without a valid cookie, and beyond what is usual */
	FLOW_SAFE,           /* its slot never had another owner that lives: ring, without a look at the table */
	FLOW_HIT,            /* found in the flow table */
	FLOW_NEW,            /* not found: ring, and kept */
	FLOW_UNKNOWN,        /* not found, and begun before: ring, whose gateway passes it on if it is not its own */
	FLOW_MOVED,          /* found, but its endpoint is gone: ring */
	FLOW_EVICTED,        /* a flow in use gave way for a new one */
	FLOW_FRAGMENT,       /* a later fragment, after its first */
	FLOW_FRAGMENT_ROW,   /* a later fragment of which no first was seen: by addresses alone */
	CHANCE_MINE,         /* at an unsafe slot: of a connection of this gateway, or one that begins */
	CHANCE_NONE,         /* at an unsafe slot: of no connection here, and no former owner is left */
	COOKIE_VALID,        /* a balancer has met a valid cookie, and keeps the flow */
	COOKIE_STRANGER,     /* under attack: of no known flow and without a cookie, let through as usual */
	COOKIE_ACCEPTED,     /* a gateway's kernel has made a connection of a valid cookie */
	COOKIE_REFUSED,      /* it has not */
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
	DUTY_ACCEPT = 4,      /* take a valid SYN cookie for a connection of this node's */
};

struct node {
	struct address own4, own6; /* zero where the node has none */
	__u32 duties;              /* of enum duty */
	__u32 idle_tcp, idle_udp;  /* seconds after which an unused flow is forgotten */
	__u16 check_first;         /* TCP ports of our own checks, host order, */
	__u16 check_last;          /* both included */
	__u32 attack_syns;         /* SYNs for a VIP in one window from which on it is under attack */
	__u32 strangers;           /* packets without flow or cookie that it then gets in any case, in one window */
};

struct vip_key {
	struct address addr;
	__be16 port;               /* both 0: the address as a whole */
	__u8 proto;
	__u8 zero[5];
};

enum vip_flag {
	VIP_BIG = 1,       /* the ring is one of big_rings */
	VIP_CHAIN = 2,     /* members are gateways, which pass on what is not theirs */
	VIP_FRAGMENTS = 4, /* for later fragments alone, which show no port */
	VIP_ADDRESS = 8,   /* the address as a whole: no service */
};

/* When SYNs for a VIP are answered with cookies. */
enum gate_mode {
	GATE_NONE,           /* never */
	GATE_AUTO,           /* by the balancer, under attack */
	GATE_SHUT,           /* by the balancer, always */
	GATE_KERNEL,         /* by the gateway with its kernel's cookies, under attack */
};

struct vip {
	__u64 salt;                /* sets the flows of one VIP apart from another's */
	__u64 mask[2];             /* of the client's address, host order: what the hash goes by */
	__u16 port_mask;           /* of the client's port, likewise */
	__u8 flags;                /* of enum vip_flag */
	__u8 gate;                 /* enum gate_mode */
	__u32 ring;                /* index in rings */
	__u32 stats;               /* index in vip_stats and gates */
	__u32 attack;              /* the programs' own: under attack, see gate.h */
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

/* The keys of SYN cookies. A cookie says under which of the two it was made. */
struct cookie_key {
	__u64 word[2];
};

struct cookie_keys {
	struct cookie_key key[2];
	__u64 until;               /* ns of the monotonic clock after which none are made; 0: there are no keys */
	__u32 current;             /* the one that cookies are made under */
	__u32 zero;
};

/* What is known of an attack on a VIP; on a cache line of its own. */
struct gate {
	__u64 window;              /* the one that is counted */
	__u64 syns;                /* in it */
	__u64 strangers;           /* likewise, let through */
	__u64 until;               /* window with which the attack ends */
	__u64 packets;             /* for the VIP when the window began */
	__u64 usual;               /* packets in one window in peace */
	__u64 zero[2];
};

/* One CPU's part in it. */
struct post {
	__u64 syn_window;
	__u64 credit_window;
	__u32 syns;                /* not added to the gate's yet */
	__u32 credit;              /* strangers that may pass, taken from the gate's already */
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

/* Where one CPU takes a TCP header apart. */
enum found {
	FOUND_SCALE = 1,
	FOUND_SACK = 2,
	FOUND_STAMP = 4,
	FOUND_ECN = 8,             /* in the flags */
};

struct desk {
	union {
		__u32 word[16];
		__u8 octet[64];        /* zero behind the header */
		struct {
			__be16 src, dst;
			__be32 seq, ack;
		};
	};
	__u32 data[16];            /* what follows the header, piece by piece */
	__u32 next;                /* octet of the next option */
	__u32 found;               /* of enum found */
	__u32 value, echo;         /* timestamps */
	__u16 mss;                 /* 0: not said */
	__u8 scale;
	__u8 zero;
	__u32 isn;                 /* the cookie */
	__u32 stamp;               /* its timestamp */
	__u32 zero2;
};

/* Types that no map holds as such: named here, so that BTF keeps them for Go. */
const enum reason *btf_reason __attribute__((unused));
const enum forward *btf_forward __attribute__((unused));
const enum duty *btf_duty __attribute__((unused));
const enum vip_flag *btf_vip_flag __attribute__((unused));
const enum gate_mode *btf_gate_mode __attribute__((unused));
const struct reply *btf_reply __attribute__((unused));
const struct order *btf_order __attribute__((unused));
