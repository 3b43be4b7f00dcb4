// Package h2 carries HTTP/2 (RFC 9113, RFC 7541, RFC 8441): as an l7.Carrier
// from clients, and as an Upstream to endpoints.
//
// One goroutine reads a connection's frames; each stream's exchange runs on one
// of the connection's workers and appends its frames to one buffer, which
// whoever ends an answer sends, together with what other streams have put there
// meanwhile. A third goroutine, the keeper, watches over times and floods' after
// effects, and sends what would make one of the others wait.
//
// Adapter floor: of HPACK, golang.org/x/net gives the Huffman coding; frames and
// tables are our own, for the sake of memory. It imports edge/l7 and
// edge/l7/wire; only cmd/edge and tests import it.
package h2
