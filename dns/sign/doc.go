// Package sign makes DNSSEC for a zone ahead of any query: keys and their
// states through roll-overs, signatures over what the zone holds and over
// everything that its steered names can answer, the chain that denies what is
// not there, and serials. It is run by the one who writes a zone; nameservers
// hold no keys, and neither a query nor a change of health signs anything.
//
// The one exception is asked for by name: a policy with compact denial (RFC
// 9824). Its proof that a name does not exist is an NSEC record whose owner is
// the very name that was asked for, which cannot be signed ahead of the query.
// Such a zone is signed ahead like any other, a chain of NSEC included, and
// carries its ZSK in its binary form; with it, Online makes what takes the
// place of the chain.
//
// Pure floor: it imports fleet and dns/zone, and miekg/dns to read what others
// signed. Time and random octets are arguments; signatures are deterministic
// (RFC 6979, RFC 8032).
package sign
