// Package pcap reads and writes captures of Ethernet frames: pcap with
// microseconds or nanoseconds, in either byte order, and pcapng, which it does
// not write (draft-ietf-opsawg-pcap, draft-ietf-opsawg-pcapng).
//
// Pure room: it reads and writes what it is handed, and opens nothing. It
// imports the standard library alone. Imported by cmd/edge, and by edge/xdp's tests.
package pcap
