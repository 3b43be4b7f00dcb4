// Package otlp exports what gateways have seen of requests, spans and records of
// the access log, by OTLP over gRPC to the collector that the Spec names.
//
// Requests only put what is to be exported in a queue; one goroutine sends it
// in batches. Where the collector cannot keep up, or cannot be reached, what
// does not fit the queue is dropped and counted.
//
// Adapter floor: it holds OpenTelemetry's protocol and gRPC, imports fleet,
// edge/l7 and edge/l7/wire, and implements edge/l7's Telemetry; cmd/edge wires
// it, no other room imports it.
package otlp
