/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Numbers of the protocols (IANA, IEEE 802) and our own limits. */
#pragma once

#define ETH_IPV4 0x0800
#define ETH_IPV6 0x86DD
#define ETH_VLAN 0x8100  /* IEEE 802.1Q */
#define ETH_QINQ 0x88A8  /* IEEE 802.1ad */

#define PROTO_HOPOPTS 0
#define PROTO_ICMP 1
#define PROTO_IPIP 4    /* IPv4 inside, RFC 2003 and RFC 2473 */
#define PROTO_TCP 6
#define PROTO_UDP 17
#define PROTO_IPV6 41   /* IPv6 inside, RFC 4213 and RFC 2473 */
#define PROTO_ROUTING 43
#define PROTO_FRAGMENT 44
#define PROTO_ICMPV6 58
#define PROTO_DSTOPTS 60

#define IPV4_DF 0x4000
#define IPV4_MORE 0x2000     /* more fragments */
#define IPV4_OFFSET 0x1fff   /* of a fragment */

#define IPV6_OFFSET 0xfff8   /* of a fragment */
#define IPV6_MORE 0x0001

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10
#define TCP_URG 0x20
#define TCP_ECE 0x40
#define TCP_CWR 0x80

#define TUNNEL_TTL 64
#define MAX_EXTENSIONS 6       /* IPv6 extension headers walked */
#define MAX_TAGS 2             /* VLAN tags */
#define MAX_OFFSET 1024        /* of any header in a packet: a bound for the verifier */

#define SLOTS 65537            /* of a Maglev ring; prime */
#define BIG_SLOTS 655373       /* of a big one; prime */
#define SLOT_UNSAFE 0x8000     /* in a slot: a flow here may be with another than the slot's endpoint */
#define SLOT_ENDPOINT 0x1fff   /* in a slot: index in endpoints */
#define OWNERS 5               /* of a slot that are remembered: the one it has now and four former ones */
#define HOPS_MASK 7            /* in the outer header's identification or flow label: how often it was passed on */
#define RETURNED 8             /* there: one gateway has given it back to the one before */
#define CHAIN_MASK 15
#define GUE_PORT 6080          /* UDP (IANA) */
#define MAX_HOPS 6             /* times that gateways pass a packet on */

#define ROTATIONS 8            /* configurations of QUIC connection ids */
#define SERVER_ID 4            /* octets of a server id in them */

/* Each table holds twice what a Spec may ask for (limits.go in edge/maglev),
 * since in a change old and new stand side by side. */
#define MAX_VIPS 2048          /* {address, port, protocol} */
#define MAX_ADDRESSES 512      /* distinct VIP addresses and networks */
#define MAX_RINGS 512
#define MAX_ENDPOINTS 8192
#define MAX_BALANCERS 2048     /* addresses: two each; gateways count, since they pass packets on */

#define FLOW_WAYS 4
#define FLOW_BUCKETS 8         /* where a flow may stand, in this order */
#define NEW_BUCKETS 6          /* of them, where one that begins is put; all are full once in 10^8, at the size asked for */
#define SYN_AGAIN 10          /* seconds within which a SYN that comes again is the same */
#define FLOW_UDP 0x20000000    /* in a flow's owner: idle after the shorter time */
#define FLOW_HALF 0x40000000   /* there: only a SYN, or a datagram's first fragment, has been seen of it */
#define FLOW_YOUNG 0x80000000  /* there: it has been seen in one second only */
#define FLOW_WORTH 30          /* bits of an owner below those two, which say what it is worth: the greater, the less */

#define MAX_RULES 64           /* in force at a time */
#define MAX_TALLIES 128        /* of rules: of old and new ones */
#define DEBT_SETS 32768        /* of DEBT_WAYS sources whose rate is known; a power of 2 */
#define DEBT_WAYS 8
#define LIST_LEVELS 21         /* of nodes below a root that takes 8 bits or more */
#define LIST_DIVIDED 0x80000000
#define LIST_ALLOWED 1         /* the class of sources that are let through; others are reasons, or 0, */
#define LIST_PLACES 128        /* and from here on those of sources in places that rules name */

#define SAMPLE_HEAD 128        /* octets of a packet that a sample holds */
#define SAMPLE_RING (512 * 1024)

#define MAX_ARRIVALS 65536     /* connections of which it is known when they last brought data */
#define SOURCE_BUDGETS 256     /* of one kind; a power of 2 */
#define TOO_BIG_PER_SECOND 100 /* ICMP errors that one CPU sends out of one of them at most */
#define CHANCES_PER_SECOND 100000 /* packets of connections that it does not have that one CPU of a gateway passes on at most, */
#define CHANCES_PER_SOURCE 10000  /* and out of one of them */

#define WINDOW_BITS 28         /* SYNs are counted in windows of 2^28 ns, about a quarter of a second */
#define ATTACK_WINDOWS 37      /* for which an attack goes on after the last that showed it: 10 s */
#define SYN_BATCH 64           /* SYNs that a CPU counts for itself while an attack goes on */
#define STRANGER_BATCH 32      /* packets without flow or cookie that it lets through at a time, */
#define STRANGER_SHARE 4       /* of so many times those that were usual in peace */
#define USUAL_WINDOWS 256      /* in which what is usual is learned */
#define LEARNED_SHARE 2        /* of so many times what is usual, at most, in one window */
#define MAX_CPUS 512           /* of which packets are counted */
#define COOKIE_KEYS 6          /* of SYN cookies: of three generations, two epochs each */
#define SYN_ROOM 1536          /* octets of data that a SYN may bring */

#define CHECK_PORTS 1000       /* of the checks, of TCP and of UDP, for each family */
#define REPLY_ROOM 2048        /* largest reply to a check that is taken off, octets */
#define REPLY_RING (512 * 1024)
