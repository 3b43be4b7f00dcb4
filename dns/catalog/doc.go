// Package catalog reads and makes catalog zones (RFC 9432): zones whose
// content is a list of zones, from which nameservers learn what to serve.
//
// Pure floor: it imports fleet and dns/zone.
package catalog
