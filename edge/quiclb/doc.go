// Package quiclb writes and reads QUIC connection ids that say which server a
// connection is with, so that a balancer can send a packet there whatever
// address it comes from (draft-ietf-quic-load-balancers-21): plain, or encrypted
// by AES-128 so that nobody outside can tell servers, or one client's ids, apart.
//
// It also holds which id stands for which gateway of a fleet, and the rule that
// no two have the same.
//
// Pure room: it does no I/O, reads no clock, starts no goroutine and draws
// random octets from a reader that it is handed. It imports fleet. Imported by
// edge/xdp, whose program reads ids as [Codec] does, by what serves QUIC on a
// gateway, by rules and the roof.
package quiclb
