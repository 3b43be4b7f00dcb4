// Package api is the admin API over HTTP: configuration, shifts, health,
// status, explanations, metrics and events, and the client that gslb's
// commands use.
//
// Everything needs the bearer token but /health, /ready and /metrics, and the
// read-only dashboard for callers on the same machine.
//
// Adapter floor: it imports fleet, rules, node and controlplane; only the roof
// imports it.
package api
