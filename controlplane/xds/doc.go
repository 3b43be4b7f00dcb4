// Package xds carries Worlds from the control plane to the nodes: delta
// xDS over one aggregated stream (ADS) with Meridian's own resource types,
// mutual TLS, an ACK or NACK for every change, and no resend of what a node
// has, also when it comes back or changes the replica.
//
// The server drives the stream itself, on the service that Envoy's API
// defines, and not through go-control-plane's caches: these hold one type each
// and answer each alone, so a change of Spec and objects could not be sent in
// order; they have no filter by node; and their versions count per cache, so
// that two replicas give equal versions to different content. Here versions
// are hashes of the content, equal on every replica exactly when it is.
//
// A World is sent as five types, in this order, so that what a Snapshot names
// is there when it comes:
//
//	Object    one for each object that the node's roles need: its octets
//	Zone      one for each zone with a version of its own, for nameservers; a
//	          changed one is sent and applied alone, and one that is gone is
//	          taken back after the Snapshot
//	Live      one for each live object that the node's roles need: certificates
//	          that the control plane issues, challenges, keys of ECH; after the
//	          zones, so that a node which has one has the zones stored before it
//	Shifts    one: all shifts in force, as JSON
//	Snapshot  one: revision, complete Spec and the objects' hashes, as JSON
//
// A second service on the same server takes dynamic updates (RFC 2136) that
// nodes without a control plane have received; see UpdateServer. A third takes
// names that clients ask gateways for and that have no certificate yet; see
// DemandServer.
//
// Adapter floor: it imports grpc, Envoy's API, fleet, identity and rules; only
// the roof imports it.
package xds
