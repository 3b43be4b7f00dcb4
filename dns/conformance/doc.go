// Package conformance shows that the nameserver answers as the standards say:
// by a live comparison with BIND, NSD and Knot on the same zones, by the EDNS
// compliance probes of RFC 8906, by validators, and by the list of RFC clauses
// and their tests, docs/conformance.md. That list has the gateway's clauses too;
// what it is compared with is edge/l7/garden's.
//
// Cellar: it holds tests and what generates their list; nothing imports it.
package conformance

//go:generate go run generate.go
