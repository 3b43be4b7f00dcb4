// Package wire reads and writes HTTP's heads and HTTP/1.1's framing, strictly:
// whatever two implementations could read in two ways is refused with a Fault
// that names why.
//
// A Head is the one form of a request's or an answer's head, whatever version
// of HTTP it came by: HTTP/1.1 parses into it where the octets lie, HTTP/2 and
// HTTP/3 add their decoded fields to it. Rules that hold for all versions are
// applied in one place, by Head.Request and Head.Answer.
//
// Pure floor: it imports the standard library alone. No I/O, clock, goroutine
// or logger. All that handles requests imports it: edge/l7, its carriers and
// pure rooms, and cmd/edge.
package wire
