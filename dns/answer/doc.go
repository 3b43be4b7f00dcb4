// Package answer compiles zones, steering and the geo table into a Plan, and
// finds in it the answer to a query: bytes in, bytes out, without allocation,
// lock or clock.
//
// A Plan is one moment: zones, classes, health and shifts that belong
// together. It is immutable; a change of health builds a new one that shares
// all but the steering, a change of one zone one that shares all other zones.
//
// Signed zones are answered with the signatures that they hold, those of
// everything that steered names can answer among them: nothing is signed here,
// and there are no keys. The exception are zones with compact denial (RFC 9824),
// whose proofs can only be signed with the question known: what dns/sign makes
// for them is kept for the hour, and only what was not asked for before costs a
// signature, and allocates.
//
// Pure floor: it imports fleet, geo, steer, dns/zone and dns/sign. Sockets are
// those of dns/server.
package answer
