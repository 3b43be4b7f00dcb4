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
// and there are no keys. For this reason compact denial (RFC 9824) is not
// made, whose proofs are signed with the question known; its NXNAME is known
// as a type that cannot be asked for, and its flag CO is passed over.
//
// Pure floor: it imports fleet, geo, steer and dns/zone. Sockets are those of
// dns/server.
package answer
