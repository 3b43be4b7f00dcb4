// Package answer compiles zones, steering and the geo table into a Plan, and
// finds in it the answer to a query: bytes in, bytes out, without allocation,
// lock or clock.
//
// A Plan is one moment: zones, classes, health and shifts that belong
// together. It is immutable; a change of health builds a new one that shares
// all but the steering.
//
// Pure floor: it imports fleet, geo, steer and dns/zone. Sockets are those of
// dns/server.
package answer
