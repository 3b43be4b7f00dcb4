// Package lab builds a small internet on one Linux machine: regions, routers,
// a core, clients and distance, out of network namespaces; runs the real
// programs inside it; and takes parts of it down to see what happens. The
// demo and the end-to-end tests use it. Where it may not make namespaces it
// runs the same fleet on loopback.
//
// Roof: imports any room below; only cmd/gslb imports it.
package lab
