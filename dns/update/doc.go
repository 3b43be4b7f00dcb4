// Package update works out what a dynamic update (RFC 2136) makes of a zone,
// and who may ask for it (RFC 3007).
//
// Pure floor: it imports fleet, dns/zone, and miekg/dns to read records. It
// neither serves nor keeps anything: whoever writes the zone applies the
// changes.
package update
