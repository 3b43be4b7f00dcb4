// Package hello reads the server name that a TLS client asks for, from the octets
// that it sends first, so that a connection can be passed on undecrypted to the
// service of that name.
//
// A ClientHello may lie in several records, each of which may come in pieces, and
// those with post-quantum key shares do not fit one packet. A Reader is given
// what has come so far until it has seen enough; what it does per octet, and what
// it keeps, is bounded.
//
// Pure floor: it imports the standard library alone. No I/O, clock, goroutine or
// logger. edge/l7 imports it.
package hello
