package h3

import (
	"encoding/binary"
	"errors"
	"io"
	"sync/atomic"

	"github.com/quic-go/quic-go"

	"meridian/edge/quiclb"
)

// ids makes the connection ids of all sockets of a process: which gateway, by
// the key that layer 4 reads them with, and in the nonce which process of it.
type ids struct {
	codec      *quiclb.Codec
	generation uint32
	random     io.Reader
	of         atomic.Pointer[idsOf]
}

// idsOf are those under one server id.
type idsOf struct {
	server [quiclb.ServerLen]byte
	*quiclb.Generator[quic.ConnectionID]
}

// generationLen is how many octets of a nonce, its first, are the generation.
const generationLen = 4

func newIDs(key [16]byte, generation uint32, random io.Reader) (*ids, error) {
	codec, err := quiclb.New(quiclb.ForFleet(key))
	if err != nil {
		return nil, err
	}
	return &ids{codec: codec, generation: generation, random: random}, nil
}

// use makes ids of that server from now on.
func (g *ids) use(server [quiclb.ServerLen]byte) error {
	if old := g.of.Load(); old != nil && old.server == server {
		return nil
	}
	made, err := quiclb.NewGenerator(g.codec, server[:], (*nonces)(g), quic.ConnectionIDFromBytes)
	if err != nil {
		return err
	}
	g.of.Store(&idsOf{server, made})
	return nil
}

// ConnectionIDLen implements quic.ConnectionIDGenerator.
func (g *ids) ConnectionIDLen() int { return g.codec.Len() }

// GenerateConnectionID implements quic.ConnectionIDGenerator.
func (g *ids) GenerateConnectionID() (quic.ConnectionID, error) {
	of := g.of.Load()
	if of == nil {
		return quic.ConnectionID{}, errNoServer
	}
	return of.GenerateConnectionID()
}

// idOf gives the connection id that a packet is for, or what begins with it; nil:
// the packet has none of this length.
func (g *ids) idOf(packet []byte) []byte {
	const long, lengthAt = 0x80, 5 // RFC 8999 section 5
	switch {
	case len(packet) <= lengthAt+g.codec.Len():
		return nil
	case packet[0]&long == 0:
		return packet[1:]
	case int(packet[lengthAt]) != g.codec.Len():
		return nil
	}
	return packet[lengthAt+1 : lengthAt+1+g.codec.Len()]
}

// generationOf says which process of a node made the connection id that a packet
// is for; plain is room for what is in an id. false: none of the fleet did.
func (g *ids) generationOf(packet, plain []byte) (uint32, bool) {
	id := g.idOf(packet)
	if id == nil {
		return 0, false
	}
	_, nonce, ok := g.codec.Open(id, plain)
	if !ok {
		return 0, false
	}
	return binary.BigEndian.Uint32(nonce), true
}

var errNoServer = errors.New("http/3: this node's server id is not known yet")

// nonces reads as what a generator's count of nonces begins with: the
// generation, then random octets, so low that the count does not reach the
// generation.
type nonces ids

func (n *nonces) Read(p []byte) (int, error) {
	if len(p) <= generationLen {
		return 0, io.ErrShortBuffer
	}
	if _, err := io.ReadFull(n.random, p[generationLen:]); err != nil {
		return 0, err
	}
	binary.BigEndian.PutUint32(p, n.generation)
	p[generationLen] &= 0x7f
	return len(p), nil
}
