// Package why is how a gateway tells authorised callers what it did with their
// request: the token by which a caller asks, and the report that answers it.
//
// A request that carries a valid token in the field X-Edge-Why gets the report
// in the same field of its answer, as one line of JSON. Tokens follow from a key
// of the fleet, are bound to one host and end by themselves.
//
// Pure floor: it imports edge/l7/balance. No I/O, clock, goroutine or logger.
// edge/l7 makes reports, cmd/edge asks for them and shows them.
package why
