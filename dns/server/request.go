package server

import (
	"context"
	"net/netip"
)

// Transport is how a message came.
type Transport uint8

// The transports: plain (RFC 1035, RFC 7766), DNS over TLS (RFC 7858), over
// QUIC (RFC 9250) and over HTTPS (RFC 8484).
const (
	UDP Transport = iota
	TCP
	TLS
	QUIC
	HTTPS
)

// String names the transport, as metrics and logs do.
func (t Transport) String() string { return [...]string{"udp", "tcp", "tls", "quic", "https"}[t] }

// Stream says whether messages may be of any length and the client's address
// is known to be its own.
func (t Transport) Stream() bool { return t != UDP }

// Encrypted says whether others can neither read nor change the messages.
func (t Transport) Encrypted() bool { return t >= TLS }

// Handler takes the messages that are not for the plan: NOTIFY, UPDATE,
// transfers, and whatever is signed by TSIG. It is declared here and
// implemented by dns/transfer.
type Handler interface {
	// Handle answers r by r.Reply, or not at all. It is called on goroutines
	// of its own, several at a time, as many as the server's limits allow, and
	// returns when it is done with r; ctx ends with the client's connection
	// and with the server.
	Handle(ctx context.Context, r *Request)
}

// Request is one message for a Handler, which may keep Message.
type Request struct {
	Message   []byte
	Client    netip.AddrPort // behind a PROXY header: the address that the header tells
	Transport Transport
	PeerName  string // the first DNS name of the client's verified certificate; "" without one

	// Answer gives the plan's answer to a plain query (without TSIG) by this
	// client over this transport, nil where it gets none. It is for TSIG-signed
	// queries, and safe for concurrent use.
	Answer func(query []byte) []byte
	// Reply sends one message; several may be sent over a stream (RFC 5936
	// section 2.2), one over UDP and HTTPS. It waits while the client is slow,
	// and fails when it is gone or too slow. Not for concurrent use.
	Reply func(msg []byte) error
}
