// Package hop is about requests that one region's gateway passes on to another's
// because it cannot have them answered itself: which region is next, and the signed
// mark that such a request bears, so that it is passed on once, keeps its deadline
// and its client's address.
//
// Pure floor: it imports fleet, geo and edge/l7/wire. No I/O, clock, goroutine or logger.
// edge/l7 imports it.
package hop
