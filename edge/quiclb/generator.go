package quiclb

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"
)

// ErrSpent says that a server has used up its nonces: it needs a configuration
// with another key, or longer nonces.
var ErrSpent = errors.New("quic connection ids: all nonces are used up")

// Generator makes the connection ids of one server. With quic-go's ConnectionID
// for ID it is a quic.ConnectionIDGenerator. It is safe for concurrent use.
type Generator[ID any] struct {
	codec  *Codec
	server []byte
	random io.Reader
	form   func([]byte) ID

	mu          sync.Mutex // guards what follows, and random
	first, last []byte     // nonces under a key, counted up; nil: none yet
}

// NewGenerator makes the generator of a server. random is the source of nonces:
// one that cannot be guessed; form makes an ID of octets, as
// quic.ConnectionIDFromBytes does. Errors: a server id of another length than
// configured.
func NewGenerator[ID any](c *Codec, server []byte, random io.Reader, form func([]byte) ID) (*Generator[ID], error) {
	if len(server) != c.Server {
		return nil, fmt.Errorf("quic connection ids: server id of %d octets: expected %d", len(server), c.Server)
	}
	return &Generator[ID]{codec: c, server: server, random: random, form: form}, nil
}

// ConnectionIDLen is the length of each id, octets.
func (g *Generator[ID]) ConnectionIDLen() int { return g.codec.Len() }

// GenerateConnectionID makes another id. Errors: ErrSpent, or the random
// source's.
func (g *Generator[ID]) GenerateConnectionID() (ID, error) {
	var none ID
	nonce, err := g.nonce()
	if err != nil {
		return none, err
	}
	id, err := g.codec.Encode(g.server, nonce)
	if err != nil {
		return none, err
	}
	return g.form(id), nil
}

// nonce gives one that this server has not used: at random where it shows, else
// counted up from a random one on (draft section 9.6).
func (g *Generator[ID]) nonce() ([]byte, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.last != nil {
		next := bytes.Clone(g.last)
		increment(next)
		if bytes.Equal(next, g.first) {
			return nil, ErrSpent
		}
		g.last = next
		return next, nil
	}
	nonce := make([]byte, g.codec.Nonce)
	if _, err := io.ReadFull(g.random, nonce); err != nil {
		return nil, fmt.Errorf("quic connection id: nonce: %w", err)
	}
	if g.codec.Key != nil {
		g.first, g.last = nonce, nonce
	}
	return nonce, nil
}

// increment adds one to a big-endian number.
func increment(b []byte) {
	for i := len(b) - 1; i >= 0; i-- {
		if b[i]++; b[i] != 0 {
			return
		}
	}
}
