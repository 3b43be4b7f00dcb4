// Package sign makes DNSSEC for a zone ahead of any query: keys and their
// states through roll-overs, signatures over what the zone holds and over
// everything that its steered names can answer, the chain that denies what is
// not there, and serials. It is run by the one who writes a zone; nameservers
// hold no keys, and neither a query nor a change of health signs anything.
//
// Compact denial (RFC 9824) is not made. Its proof that a name does not exist
// is an NSEC record whose owner is the very name that was asked for, signed
// when the question is known: it cannot be made ahead of the query, and no
// wildcard helps, since a validator refuses an NSEC record that was expanded
// from one. No policy can ask for it.
//
// Pure floor: it imports fleet and dns/zone, and miekg/dns to read what others
// signed. Time and random octets are arguments; signatures are deterministic
// (RFC 6979, RFC 8032).
package sign
