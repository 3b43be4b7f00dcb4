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
	DROP_MALFORMED,      /* for a VIP, with headers that do not parse, or too many */
	DROP_NO_MEMBER,      /* the ring holds no endpoint */
	DROP_TOO_BIG,        /* does not fit the tunnel, and the sender is not told */
	DROP_UNTRUSTED,      /* for a VIP, tunnelled by somebody who is no balancer of ours */
	DROP_BAD_INNER,      /* for a VIP, tunnelled by a balancer, but in fragments: its way is narrower than is known */
	DROP_CONGESTED,      /* for a VIP, marked in the tunnel as through congestion, which its sender would not know of */
	DROP_NO_ROOM,        /* the driver left no headroom */
	DROP_NO_NEIGHBOUR,   /* a check whose next hop is not known yet */
	DROP_REPLY,          /* a check's reply: taken off for the checker */
	DROP_REPLY_FULL,     /* a check's reply that the checker had no room for */
	DROP_UNASKED,        /* from a VIP to a port of the checks, of which no check has asked that VIP */
	DROP_BOGUS_FLAGS,    /* TCP flags that stand together in no segment */
	DROP_MARTIAN,        /* from an address that no packet from outside has: a VIP's, this node's, no host's */
	DROP_REFLECTED,      /* from a UDP port that the operator wants nothing from */
	DROP_BLOCKED,        /* from a network on the block list */
	DROP_BLOCKED_COUNTRY, /* from a country on it */
	DROP_BLOCKED_ASN,    /* from an AS on it */
	DROP_RULE,           /* by a rule */
	DROP_RULE_RATE,      /* above a rule's rate */
	DROP_SOURCE_LIMIT,   /* above what one source may send */
	DROP_VIP_LIMIT,      /* above what one VIP takes */
	DROP_BAD_CHECKSUM,   /* a SYN under attack whose checksum is wrong, or cannot be told from a fragment */
	DROP_NO_COOKIE,      /* under attack: of no known flow, without a valid cookie, and beyond what is usual */
	DROP_CHANCE_LIMIT,   /* of no connection of this gateway, and beyond what it passes on in a second, of one source or in all */
	FLOW_SAFE,           /* its slot never had another owner that lives: ring, without a look at the table */
	FLOW_HIT,            /* found in the flow table */
	FLOW_NEW,            /* not found: ring, and kept */
	FLOW_UNKNOWN,        /* not found, and begun before: ring, whose gateway passes it on if it is not its own */
	FLOW_MOVED,          /* found, but its endpoint is gone: ring */
	FLOW_EVICTED,        /* a flow that had gone on, in use, gave way for a new one */
	FLOW_FRAGMENT,       /* a later fragment, after its first */
	FLOW_FRAGMENT_ROW,   /* a later fragment of which no first was seen: by addresses alone */
	FLOW_QUIC,           /* to the server that its QUIC connection id says, whatever the ring */
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

enum node_flag {
	NODE_NETWORKS = 1, /* there are networks of VIPs */
};

struct node {
	struct address own4, own6; /* zero where the node has none */
	__u32 duties;              /* of enum duty */
	__u32 idle[4];             /* seconds after which an unused flow is forgotten, by FLOW_UDP and FLOW_HALF */
	__u16 check_first;         /* TCP and UDP ports of our own checks, host order, */
	__u16 check_last;          /* both included */
	__u32 flags;               /* of enum node_flag */
	__u32 defends;             /* of enum defend_flag; 0: all comes through */
	__u32 sampling;            /* one packet in so many is copied; 0: none */
	__u32 attack_syns;         /* SYNs for a VIP in one window from which on it is under attack */
	__u32 strangers;           /* packets without flow or cookie that it then gets in any case, in one window */
	__u32 stamped;             /* of one connection in so many arrivals are noted; 0: of none */
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

/* The owners of a slot: the one it has now, and the former ones, the newest
 * first; 0: no more. */
struct owners {
	__u16 owner[OWNERS];
};

struct owners_ring {
	struct owners slot[SLOTS];
};

struct owners_big_ring {
	struct owners slot[BIG_SLOTS];
};

/* One flow of the table: 16 octets, four to a cache line. CPUs share the
 * table without locks: what two of them wrote at once into one place must not
 * pass for a flow, so the tag is masked by what it vouches for (the XOR trick of
 * chess programs' hash tables; Hyatt and Mann, 2002). */
struct flow {
	__u64 tag;                 /* keyed hash of the flow, masked by owner */
	__u32 owner;               /* FLOW_YOUNG | FLOW_HALF | FLOW_UDP | endpoint << 16 | generation; 0: free */
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

/* What is done against floods, see defend.h. */
enum defend_flag {
	DEFEND_STATIC = 1,
	DEFEND_REFLECTED = 2,
	DEFEND_LISTS = 4,
	DEFEND_RULES = 8,
	DEFEND_SOURCE = 16,
	DEFEND_VIP = 32,
};

/* Limits, as what one packet costs. */
struct defence {
	__u64 source_cost;         /* in ticks of 64 ns */
	__u64 vip_cost;            /* in sixteenths of a nanosecond */
	__u64 sample_cost;         /* likewise */
	__u32 vip_batch;           /* packets that one CPU pays at a time */
	__u32 zero;
};

/* The lists of networks lie in rows of a cache line: first where all is, then
 * geo's index (geo/index.go), whose blocks are octets here: what is done with
 * the sources in them. */
struct list_head {
	__u32 bits4, bits6;        /* that the roots take of an address; at least 1 */
	__u32 root4, root6;        /* word at which each begins */
	__u32 nodes;               /* row at which they begin, two to a row */
	__u32 classes;             /* likewise */
	__u32 places;              /* likewise the words of places, eight to a row, for octets from LIST_PLACES on */
};

struct list_node {
	__u64 kids, starts;
	__u32 kid, leaf;
	__u64 zero;
};

struct list_row {
	union {
		struct list_head head;
		struct list_node node[2];
		__u32 word[16];
		__u64 places[8];
		__u8 octet[64];
	};
};

/* What a rule does with the packets that it matches. */
enum mode {
	MODE_DROP,
	MODE_RATE,                 /* drops those above a rate */
	MODE_COUNT,                /* counts them; the next rule is looked at */
};

/* Ranges have both ends included. */
struct rule {
	struct address source, source_mask;
	struct address vip, vip_mask;
	__u64 cost;                /* of a packet, in sixteenths of a nanosecond: MODE_RATE */
	__u32 batch;               /* packets that one CPU pays at a time */
	__u32 until;               /* coarse seconds since boot; 0: for ever */
	__u32 index;               /* of its purse and its tally */
	__u16 sport_first, sport_last;
	__u16 dport_first, dport_last;
	__u16 len_first, len_last; /* of the IP packet */
	__u8 ttl_first, ttl_last;
	__u8 flags, flags_mask;    /* of TCP */
	__u8 proto, proto_mask;
	__u8 fragments;            /* a bit for each of enum fragment */
	__u8 ports;                /* 1: packets that show ports alone */
	__u8 mode;                 /* enum mode */
	__u8 families;             /* bits: 1 IPv4, 2 IPv6 */
	__u8 detailed;             /* 1: its detail matters too */
	__u8 zero[5];
};

/* What few rules ask for. */
struct detail {
	__u64 options;             /* the layout of TCP's, see take_options; 0: any */
	__u64 places;              /* bits of those in one of which the source is to be; 0: anywhere */
	__u64 value, mask;         /* of the octets of the payload, as they lie in memory */
	__u16 offset;              /* in the payload, at which they begin */
	__u16 octets;              /* how many they are, up to 8; 0: none matter */
	__u16 window_first, window_last;
	__u16 id_first, id_last;   /* IPv4's identification */
	__u32 zero;
};

struct rules {
	__u32 count;
	__u32 zero;
	struct rule rule[MAX_RULES];
	struct detail detail[MAX_RULES];
};

struct tally {
	__u64 packets, octets;     /* that matched */
	__u64 dropped;             /* packets of them */
};

/* When the packets are paid that were let through, in sixteenths of a
 * nanosecond since boot; on a cache line of its own. */
struct purse {
	__u64 due;
	__u64 zero[7];
};

/* Sources that share a cache line: a tag in the upper 16 bits, and below it
 * when the source's packets are paid, in ticks of 64 ns modulo 2^48. */
struct debts {
	__u64 way[DEBT_WAYS];
};

/* A copy of a packet as it came, and what became of it. */
struct sample {
	__u64 time;                /* since boot, ns */
	struct address src, dst;   /* the flow's client and VIP, where it has them; */
	__be16 sport, dport;       /* else zero */
	__u32 len;                 /* of the frame */
	__u32 rate;                /* it stands for so many */
	__u32 device;
	__u16 kept;                /* octets of it that are in head */
	__u8 reason;               /* enum reason */
	__u8 proto;
	__u8 zero[4];
	__u8 head[SAMPLE_HEAD];
};

/* Where one CPU makes its samples. */
struct sampler {
	__u64 seen;                /* packets while sampling was on */
	__u64 lost;                /* samples beyond the budget, or that nobody read in time */
	__u32 skip;                /* packets until the next */
	__u32 taken;               /* draft holds the packet that is being handled */
	struct sample draft;
};

/* The keys of SYN cookies: of three generations, and of two epochs in each. A
 * cookie says under which of them it was made. */
struct cookie_key {
	__u64 word[2];
};

struct cookie_keys {
	struct cookie_key key[COOKIE_KEYS];
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
	__u64 before;              /* SYNs in the window before */
	__u64 shut;                /* the window began with the gate shut for good */
};

/* One CPU's part in it. */
struct post {
	__u64 syn_window;
	__u64 credit_window;
	__u32 syns;                /* not added to the gate's yet */
	__u32 credit;              /* strangers that may pass, taken from the gate's already */
};

/* A connection of which arrivals are noted, see stamp.h. */
struct arrival_key {
	struct address client, vip;
	__be16 sport, dport;
	__u32 zero;
};

struct traffic {
	__u64 packets;
	__u64 octets;              /* of IP packets, before encapsulation */
};

/* What of a budget of the current second is spent. */
struct budget {
	__u64 second;
	__u64 spent;
};

/* Whom a port of the checks has asked, and waits for. */
struct asked {
	struct address vip;
	__be16 port;
	__u8 waits;                /* 0: for nobody */
	__u8 zero[5];
};

/* Where one CPU takes a check's reply out of its frame, from the IP header on. */
struct reply {
	__u8 packet[REPLY_ROOM];
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
	__u64 layout;              /* of the options, see take_options */
};

/* Types that no map holds as such: named here, so that BTF keeps them for Go. */
const enum reason *btf_reason __attribute__((unused));
const enum forward *btf_forward __attribute__((unused));
const enum duty *btf_duty __attribute__((unused));
const enum vip_flag *btf_vip_flag __attribute__((unused));
const enum gate_mode *btf_gate_mode __attribute__((unused));
const struct arrival_key *btf_arrival_key __attribute__((unused));
const struct asked *btf_asked __attribute__((unused));
const struct order *btf_order __attribute__((unused));
const enum node_flag *btf_node_flag __attribute__((unused));
const enum quic_how *btf_quic_how __attribute__((unused));
const struct server_key *btf_server_key __attribute__((unused));
const struct network *btf_network __attribute__((unused));
const enum defend_flag *btf_defend_flag __attribute__((unused));
const enum mode *btf_mode __attribute__((unused));
const struct list_head *btf_list_head __attribute__((unused));
const struct list_row *btf_list_row __attribute__((unused));
const struct list_node *btf_list_node __attribute__((unused));
const struct rule *btf_rule __attribute__((unused));
const struct detail *btf_detail __attribute__((unused));
const struct sample *btf_sample __attribute__((unused));
