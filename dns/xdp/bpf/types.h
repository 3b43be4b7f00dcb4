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

/* What became of a packet. The names are the metric's labels: the part before
 * the first underscore is the verdict, the rest the reason. */
enum reason {
	PASS_OTHER,          /* not for the nameserver */
	PASS_HEADERS,        /* fragments, options, headers that do not parse */
	PASS_MESSAGE,        /* no plain query: other operations, responses, more than a question and an OPT */
	PASS_NAME,           /* too long, or no name */
	PASS_OPTIONS,        /* EDNS options that only the socket answers, or that are wrong */
	PASS_TYPE,           /* of query, that only the socket answers */
	PASS_ANSWER,         /* a name or type whose answer is not here */
	PASS_STALE,          /* a name of a zone that has changed: its answers are being made anew */
	PASS_ROOM,           /* the answer does not fit: it is truncated by the socket */
	PASS_COOKIE,         /* a cookie is required, and none that is valid was shown */
	PASS_DRIVER,         /* the driver left no room to answer in */
	PASS_PROXY,          /* from a network whose PROXY headers the socket reads */
	TX_ANSWER,
	TX_TRUNCATED,        /* over the rate limit */
	DROP_LIMITED,        /* likewise */
	DROP_FLOOD,          /* likewise, and the answer is not here: the socket never sees the query */
	DROP_WRITE,          /* the answer could not be written after all: never */
	REASONS,
};

/* A place in the blocks: number of the block << 12 | offset / 8. The values
 * below FIRST_REF stand for no record. */
typedef __u32 ref;

enum special_ref {
	REF_PASS,            /* the socket answers */
	REF_NONE,            /* no node has the name */
	FIRST_REF = 8,
};

/* What a record is. */
enum what {
	WHAT_NODE = 1,
	WHAT_KINDS,
	WHAT_ANSWER,
	WHAT_STEERED,
	WHAT_GAPS,
	WHAT_LABEL,
	WHAT_PROOF,
};

/* A network whose answers are limited together: what an answer costs it. */
struct network {
	__u64 mask_hi, mask_lo;
	__u64 bits;          /* of the prefix, IPv4 mapped into IPv6 */
	__u64 cost;          /* ticks; 0: there are no more */
};

/* Where a network begins, or the first address behind it: host order. */
struct bound {
	__u64 hi, lo;
};

/* The rate limit (dns/limit). */
struct limits {
	__u32 on;
	__u32 slip;          /* every so many answers over the limit one is truncated; 0 for none */
	__u32 mask;          /* sets of debts less one */
	__u32 zero;
	__u64 key;
	__u64 exempt;        /* networks without limit, see among() */
	struct network network[2][NETWORKS]; /* IPv4, IPv6 */
};

/* limit.Set. */
struct debts {
	__u64 way[WAYS];
};

struct slips {
	__u32 over;          /* answers over the limit since the last one that was truncated */
	__u32 turn;          /* counts answers whose records rotate */
};

/* What is answered to a type, without and with DO. */
struct kind {
	__u16 type;
	__u16 zero;
	ref answer[2];
};

/* What a name answers, by type. */
struct kinds {
	__u8 what;
	__u8 count;
	__u16 zero;
	ref other[2];        /* any other type that is data */
	struct kind kind[];
};

/* A name that is in a zone, or that an answer mentions. Behind it stand the
 * name, in lower case, padded with zeros to whole words, and struct kinds. */
struct node {
	__u8 what;
	__u8 length;         /* of the name */
	__u16 zone;          /* number that queries are counted by */
	ref below[2];        /* what names below it answer that have no node: an answer, kinds, or gaps */
	__u32 part;          /* its zone's in stale; 0: none */
	__u64 name[];
};

/* What names get whose label right below an existing name stands in canonical
 * order (RFC 4034 section 6.1) behind a label that exists, and before the next:
 * one NSEC covers them all. Words hold labels with the first octet foremost. */
struct gap {
	__u64 word[2];       /* the label's first octets, then zeros */
	ref to;              /* an answer, kinds, or gaps among which to look on */
	ref rest;            /* of the label where it is longer, or holds a zero; else REF_PASS */
};

/* Gaps by label. The first one also holds what stands before its label. */
struct gaps {
	__u8 what;
	__u8 count;
	__u16 zero[3];
	struct gap gap[];
};

struct label {
	__u8 what;
	__u8 length;         /* of the label */
	__u16 zero[3];
	__u64 word[6];       /* octets from the 17th on */
};

/* An answer: what stands behind the question. Behind it stand the octets,
 * padded to whole words, the places of its relocations, and its options. */
struct answer {
	__u8 what;
	__u8 relocs;         /* compression pointers that hold a place relative to the end of the name */
	__u16 size;          /* octets */
	__u16 flags;         /* of the header, host order: AA and RCODE */
	__u16 counts[3];     /* records in ANSWER, AUTHORITY, ADDITIONAL but for the OPT; network order */
	__u16 sum;           /* Internet checksum's sum of the octets, as if they began at an even place; relocated ones as zeros */
	__u8 tail;           /* octets of options that stand behind the client's */
	__u8 turns;          /* records that rotate; 0 or 1: none does */
	__u64 octets[];
};

/* An answer that is put together: what stands before its NSEC3, and those: the
 * closest encloser's, the one that covers the name below it, and its wildcard's,
 * each once. Each is an answer of which octets, relocations and counts are used,
 * and the head's flags and options. */
struct proof {
	__u8 what;
	__u8 zero[3];
	ref head;
	ref tree;            /* the zone's NSEC3 as gaps, of hashes in place of labels */
	ref first, last;     /* or REF_PASS */
};

/* Answers of which the client's gets one, by what is decided. */
struct steered {
	__u8 what;
	__u8 rotate;         /* ROTATE_; then each answer has TURNS places, as many as it has records in use */
	__u16 count;         /* answers */
	__u32 state;         /* index in states, of the first half */
	__u32 base;          /* index in variants, of the first answer */
	__u32 zero2;
};

/* What is decided of one service and kind of answer. */
struct state {
	__u32 entries;       /* index of its first entry, which go by class */
	__u32 scopes;        /* its first row of scopes, or one of SCOPES_ */
};

struct words {
	__u32 word[ROW_WORDS];
};

struct halves {
	__u16 half[ROW_HALVES];
};

struct octets {
	__u8 octet[ROW_OCTETS];
};

/* geo.Node. */
struct geo_node {
	__u64 kids;
	__u64 starts;
	__u32 kid;
	__u32 leaf;
};

/* Whom a decision is for: an address with its first bit foremost; an IPv4 one
 * is the upper half of hi. */
struct client {
	__u64 hi, lo;
	__u32 v6;
	__u32 zero;
};

struct bucket {
	__u64 entry[WAYS];   /* upper half of the name's hash << 32 | ref; 0: free */
};

/* An address and port that the nameserver answers at. */
struct listen {
	struct address addr;
	__be16 port;
	__u16 used;
	__u32 zero;
};

/* What holds for all answers. */
struct settings {
	__u32 ecs;           /* Client Subnet is read */
	__u32 nsid;          /* octets of our identifier; 0: NSID is not answered */
	__u32 cookies;       /* cookies are read */
	__u32 require;       /* and required */
	__u32 fixed;         /* secrets that stand in place of those by day */
	__u32 reserve;       /* octets of an OPT that any answer may bring, kept free in each */
	__u32 share;         /* of queries that the log gets, of 2^32, and 1 more; 0: none */
	__u32 zero;
	__u64 identifier[MAX_NSID / 8];
	__u64 proxies;       /* networks that PROXY headers come from, see among() */
};

/* What a CPU has of the query at hand, and of the present second. */
struct kept {
	__u64 drawn;
	__u32 second;
	__u32 notes;         /* queries that may still be copied in it */
	__u32 len;
	__u32 zero;
	__u8 query[QUERY_ROOM] __attribute__((aligned(8)));
};

/* A query with its answer. */
struct sample {
	struct address client;
	__be16 port;
	__u8 wanted;         /* WANTED_ */
	__u8 reason;         /* enum reason */
	__u16 query_len;
	__u16 answer_len;    /* 0: none was sent */
	__u16 rcode;
	__u16 zero[3];
	__u8 query[QUERY_ROOM] __attribute__((aligned(8)));
	__u8 answer[PAYLOAD];
};

/* What changes while the rest stays. It is written by mmap. */
struct moment {
	__u32 now;           /* seconds since 1970 */
	__u32 live;          /* half of states that is in force */
};

/* A secret of cookies: SipHash's key. */
struct secret {
	__u64 key[2];
	__u64 day;           /* since 1970, that it is for */
};

/* One query, as it was read. */
struct query {
	__u64 name[NAME_WORDS + 2]; /* lower case, then at least a word of zeros */
	__u64 hash;
	__u64 sum;           /* of the name as it came, and its type and class, not folded */
	__u32 length;        /* of the name; 0 where it was not read */
	__u32 dns;           /* offset of the message in the frame */
	__u32 end;           /* and of its end */
	__u16 type;
	__u16 limit;         /* of the answer's size */
	__u16 reserved;      /* octets that the OPT may take, by dns/answer's reckoning */
	__u8 l3;
	__u8 v6;
	__u8 edns;
	__u8 dnssec;         /* 1 with DO */
	__u8 ecs;            /* given */
	__u8 cookie;         /* given: 1, with a server's part of 16 octets: 2 */
	__u8 valid;          /* the cookie shown is */
	__u8 nsid;           /* asked for, and answered */
	__u8 baked;          /* the cookie is the answer's */
	__u8 odd;            /* what is asked is for the socket to answer: the reason */
	__u8 octets;         /* of the subnet's address */
	__u8 source;
	__u8 scope;
	__u16 family;
	__u16 zone;          /* that the name belongs to, as it is counted */
	__u16 rcode;
	__u32 part;          /* and as it is in stale */
	__u32 low, high;     /* of what is looked among */
	__u32 closer;        /* where the label stands that is right below the closest encloser */
	__u32 cursor;        /* of loops: kept here, where the verifier does not follow it */
	struct address client;
	__u64 subnet[2];     /* address, host order, first bits foremost */
	__u64 shown[3];      /* cookie, as it came */
	__u64 opt[OPT_ROOM / 8];
	__u64 tag[NETWORKS]; /* of the client's networks, and where their debts are */
	__u32 way[NETWORKS];
	__be16 port;         /* the client's */
	__u16 answer;        /* octets of the message sent */
	__u32 cut;           /* the answer is to be truncated */
	ref piece[PIECES];   /* of the answer */
	__u32 digest[5];
	__u32 schedule[16];
	__u64 block[SHA_WORDS];
};

/* Types that no map holds as such: named here, so that BTF keeps them for Go. */
const enum reason *btf_reason __attribute__((unused));
const enum special_ref *btf_special_ref __attribute__((unused));
const enum what *btf_what __attribute__((unused));
const struct node *btf_node __attribute__((unused));
const struct kinds *btf_kinds __attribute__((unused));
const struct answer *btf_answer __attribute__((unused));
const struct proof *btf_proof __attribute__((unused));
const struct gaps *btf_gaps __attribute__((unused));
const struct steered *btf_steered __attribute__((unused));
const struct sample *btf_sample __attribute__((unused));
