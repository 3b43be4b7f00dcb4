// Package route decides which pool serves a request and which certificate a
// client is shown: tables compiled from the Spec, looked up without allocating.
//
// A request's port and host name the service (an exact host before the longest
// wildcard before a service of any host); the service's routes are then matched
// by host and path prefix, on whole segments. Host and path are brought to one
// form first (Host, Path), for the Spec's values and the client's alike.
//
// Pure floor: it imports fleet only. No I/O, clock, goroutine or logger.
package route
