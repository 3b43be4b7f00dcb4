// Package route decides what is done with a request and which certificate a
// client is shown: tables compiled from the Spec, looked up without allocating.
//
// A request's port and host name the service (an exact host before the longest
// wildcard before a service of any host). Of the service's routes that match,
// the one whose host says more wins; then by path: exact, regular expressions in
// the Spec's order, the longest prefix on whole segments; then one with methods,
// then the one with more conditions, then the first. Host and path are brought
// to one form first (Host, Path), for the Spec's values and the client's alike.
//
// Pure floor: it imports fleet and edge/l7/wire only. No I/O, clock, goroutine
// or logger. edge/l7, edge/l7/filter, rules and cmd/edge, which explains routes, import it.
package route
