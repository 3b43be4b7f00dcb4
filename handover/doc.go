// Package handover lets a process take the place of another of the same
// program without a moment in which nobody serves: the new one is started by the
// old one, inherits its sockets and locks, and the two agree step by step who
// does what.
//
//	old                          new
//	starts it                    takes sockets, applies the configuration
//	                             "applied"
//	lets go of what one has
//	"take"                       takes that
//	                             "ready"
//	"yours"                      serves
//	finishes what it has
//
// Until "yours" the old one goes on as if nothing had happened if the new one
// fails. Linux gives both the same sockets: what waits in them is lost to nobody.
//
// Runtime floor: it imports the standard library and golang.org/x/sys, no other
// room; daemon and cmd/edge import it.
package handover
