// Package h3 carries HTTP/3 (RFC 9114) for edge/l7 over quic-go's connections:
// framing, field compression (QPACK without its dynamic table, RFC 9204), the
// end of connections in good order, and ids that say which gateway and which
// process of it a connection is with (edge/quiclb).
//
// carrier.go makes what serves one UDP socket (server.go); conn.go runs one
// connection; control.go reads its client's control streams, and priority.go
// what they say of what is urgent; stream.go reads a request, front.go is its
// l7.Front; share.go and way.go share a socket with former and later processes.
//
// Adapter floor: it holds quic-go, imports fleet, edge/l7, edge/l7/wire and
// edge/quiclb, and of golang.org/x/net the Huffman coding; only cmd/edge and tests
// import it.
package h3
