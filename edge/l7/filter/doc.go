// Package filter holds what a gateway does with requests and answers on their
// way, as decisions: who is let in (addresses, passwords, tokens), whose word
// about a client is believed, which fields change, which pages stand for
// failures, and which answers are compressed how. A Set is compiled from the
// Spec for each route; package l7 asks it and does the work.
//
// Pure floor: it imports fleet, edge/l7/{wire,hop,route} only, and the
// password hashes of golang.org/x/crypto. No I/O, clock, goroutine or logger; a
// Basic remembers what it has verified, and is safe for concurrent use. Package
// l7 and rules import it.
package filter
