/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Numbers of the protocols (IANA, IEEE 802) and our own limits. */
#pragma once

#define ETH_IPV4 0x0800
#define ETH_IPV6 0x86DD
#define ETH_VLAN 0x8100  /* IEEE 802.1Q */
#define ETH_QINQ 0x88A8  /* IEEE 802.1ad */

#define PROTO_UDP 17
#define IPV4_DF 0x4000
#define IPV4_FRAGMENT 0x3fff /* more fragments, or an offset */
#define HOPS 64              /* TTL and hop limit of answers */

#define DNS_HEADER 12
#define DNS_NOT_PLAIN 0xf8   /* of the flags' first octet: QR and opcode */
#define DNS_RD 0x0100
#define DNS_QR 0x8000
#define PAYLOAD 1232         /* dns/answer's PayloadUDP: no answer is longer */
#define PAYLOAD_PLAIN 512    /* without EDNS (RFC 1035 section 4.2.1) */

#define CLASS_IN 1
#define TYPE_KEY 25
#define TYPE_OPT 41
#define TYPE_RRSIG 46
#define TYPE_NSEC 47
#define TYPE_NXNAME 128
#define TYPE_META 249        /* TKEY; the first of those that are no data, up to ANY */
#define TYPE_IXFR 251
#define TYPE_AXFR 252
#define TYPE_ANY 255

#define OPTION_NSID 3
#define OPTION_ECS 8
#define OPTION_COOKIE 10
#define OPTION_KEEPALIVE 11
#define OPTION_VERSION 19
#define EDNS_DO 0x8000       /* of the second half of the OPT's TTL */
#define EDNS_CO 0x4000       /* RFC 9824 section 5.1 */

#define NAME_WORDS 16        /* longest name answered here, in words of 8 octets */
#define MAX_CUTS 10          /* labels taken off a name to find its closest encloser */
#define GAPS 64              /* in a record of gaps */
#define GAP_STEPS 6          /* to find one of them */
#define GAP_LEVELS 4         /* records above one another */
#define PARTS 4              /* of an answer that is put together */
#define HASH_LABEL 32        /* octets of a label that is a hash (RFC 5155 section 3) */
#define SHA_WORDS 16         /* of what is hashed: two blocks */
#define LATER 0x8000         /* of a relocation: the pointer goes to a place in its part */
#define PIECES 4              /* of an answer that is put together */
#define HASH_LABEL 32        /* octets of a label that is a hash (RFC 5155 section 3) */
#define SHA_WORDS 16         /* of what is hashed: two blocks */
#define LATER 0x8000         /* of a relocation: the pointer goes to a place in its piece */
#define MAX_OPTIONS 8        /* EDNS options read */
#define MAX_KINDS 20         /* types that a name has answers of its own for */
#define MAX_RELOCS 48        /* compression pointers of an answer that depend on the name's length */
#define MAX_TAIL 104         /* octets of EDNS options that an answer brings */
#define MAX_OFFSET 2048      /* of anything in a packet: a bound for the verifier */

/* Records lie in blocks that are small enough for the kernel to take them
 * from its direct map, which has large pages: a block with the head of its map
 * is not larger than 32 KiB. A record begins where ROOM octets follow. */
#define BLOCK_SIZE 32256
#define RECORD_ROOM 1600
#define LAST_RECORD (BLOCK_SIZE - RECORD_ROOM)

#define WAYS 8               /* entries of a bucket: a cache line */
#define PROBES 4             /* buckets searched */
#define LISTEN_SLOTS 1024
#define LISTEN_PROBES 8

#define MAX_HEAD 216         /* octets that a frame may grow at its beginning: XDP's headroom, less the kernel's own part */
#define KEPT_WORDS 27        /* of a frame's beginning: all headers, and a question */
#define MAX_NSID 40          /* octets of our identifier */
#define OPT_ROOM 288         /* the largest OPT written, and some octets more */

#define SECRETS 4            /* of cookies, by day */
#define FIXED_SECRETS 4      /* in their place, the newest first */
#define COOKIE_LIFE 3600     /* seconds (RFC 9018 section 4.3) */
#define COOKIE_RENEW 1800
#define COOKIE_FUTURE 300

#define ROW 64               /* octets of a row of small entries: a cache line */
#define ROW_WORDS (ROW / 4)
#define ROW_HALVES (ROW / 2)
#define ROW_OCTETS ROW

#define SLOTS 16384          /* steer.Slots */
#define MAX_STATES 4096      /* decisions: services by kinds of answer */
#define ENTRY_PASS 0xffff    /* the socket answers */
#define ENTRY_SLICED 0x8000  /* the client's slot says what it gets, by a table */

/* Rows of scopes that stand for something else. */
#define SCOPES_NONE 0xffffffff      /* all clients get one answer: 0 */
#define SCOPES_OF_BLOCKS 0xfffffffe /* those of the clients' blocks */
#define SCOPES_PASS 0xfffffffd      /* not known here */

/* Classes of IPv6 addresses that carry IPv4 ones (geo.Class). */
#define IN_SIX_TO_FOUR 0xffff01
#define IN_TEREDO 0xffff02
#define IN_LAST_32 0xffff03

/* Tallies of what is answered: by RCODE, by type, by zone. */
#define TALLY_TYPES 16
#define TALLY_OTHER_TYPE (TALLY_TYPES + 258)
#define TALLY_ZONES 512
#define MAX_ZONES 1024       /* that are counted one by one, less one: 0 stands for the rest */

#define NETWORKS 5           /* sizes of network that are limited */
#define MAX_BOUNDS 16384     /* of the networks of a set, twice their number */
#define BOUND_STEPS 15       /* to find a place among them */
#define DEBT_SETS 32768      /* limit.DefaultNetworks, by WAYS */
#define DNS_TC 0x0200

#define QUERY_ROOM 512       /* octets of a query that are copied (dns/server's recordedSize) */
#define NOTES 64             /* queries that a CPU copies each second in any case */
#define WANTED_NOTE 1        /* for those who look at recent queries */
#define WANTED_LOG 2         /* for the query log */
#define SAMPLE_RING (1 << 20)

#define TURNS 8              /* orders of an answer whose records rotate, at most */
#define ROTATE_CLIENT 1      /* the client's slot says which record comes first */
#define ROTATE_QUERY 2       /* another one in each answer */
