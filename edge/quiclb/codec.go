package quiclb

import (
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"fmt"
)

const (
	// MaxRotation is the greatest number of a configuration. The next, 7, is in
	// ids that do not say a server (draft section 3.2).
	MaxRotation = 6

	minNonce = 4  // octets
	maxBlock = 19 // server id and nonce together: QUIC allows 20 octets
	oneBlock = 16 // of AES
)

// Config is one way to write connection ids; servers and balancers agree on it.
type Config struct {
	Rotation uint8  // which of the configurations in use: 0 to MaxRotation
	Server   int    // length of a server id, octets: 1 or more
	Nonce    int    // length of what makes ids differ, octets: 4 or more
	Key      []byte // of AES-128, 16 octets; nil: ids are not encrypted, and whoever sees one sees the server
}

// Codec writes and reads the ids of one Config. It is immutable and safe for
// concurrent use.
type Codec struct {
	Config
	block cipher.Block // nil: plain
}

// New makes the codec of a configuration. Errors: a field out of its range.
func New(c Config) (*Codec, error) {
	switch n := c.Server + c.Nonce; {
	case c.Rotation > MaxRotation:
		return nil, fmt.Errorf("quic connection ids: rotation %d: expected 0 to %d", c.Rotation, MaxRotation)
	case c.Server < 1 || c.Nonce < minNonce || n > maxBlock:
		return nil, fmt.Errorf("quic connection ids: server id of %d and nonce of %d octets: expected at least 1 and %d, and no more than %d together",
			c.Server, c.Nonce, minNonce, maxBlock)
	case c.Key == nil:
		return &Codec{Config: c}, nil
	case len(c.Key) != 16:
		return nil, fmt.Errorf("quic connection ids: key of %d octets: expected 16", len(c.Key))
	}
	block, err := aes.NewCipher(c.Key)
	if err != nil {
		return nil, fmt.Errorf("quic connection ids: %w", err)
	}
	return &Codec{c, block}, nil
}

// Len is the length of each id, octets.
func (c *Codec) Len() int { return 1 + c.Server + c.Nonce }

// first is the octet that each id begins with: the configuration and the length
// of what follows (draft section 3.4).
func (c *Codec) first() byte { return c.Rotation<<5 | byte(c.Len()-1) }

// Encode makes the id of a server with a nonce. Under one key a nonce may be
// used once by each server; without a key it has to look random (draft section
// 9.6). Errors: a length that is not the Config's.
func (c *Codec) Encode(server, nonce []byte) ([]byte, error) {
	if len(server) != c.Server || len(nonce) != c.Nonce {
		return nil, errors.New("quic connection id: server id or nonce of another length than configured")
	}
	id := make([]byte, 0, c.Len())
	id = append(append(append(id, c.first()), server...), nonce...)
	if c.block != nil {
		c.encrypt(id[1:])
	}
	return id, nil
}

// Decode gives the server id in a connection id, or in what begins with one: a
// short header does not tell where its id ends. false: it is of another
// configuration, or too short.
func (c *Codec) Decode(id []byte) (server []byte, ok bool) {
	server, _, ok = c.Open(id, make([]byte, c.Server+c.Nonce))
	return server, ok
}

// Open gives server id and nonce of what Decode reads, in plain, which must have
// room for both: it does not allocate where they fill one block.
func (c *Codec) Open(id, plain []byte) (server, nonce []byte, ok bool) {
	if len(id) < c.Len() || id[0] != c.first() {
		return nil, nil, false
	}
	plain = plain[:copy(plain, id[1:c.Len()])]
	if c.block != nil {
		c.decrypt(plain)
	}
	return plain[:c.Server], plain[c.Server:], true
}

// encrypt changes server id and nonce in place: by AES where they fill a block,
// else by four passes of a Feistel network (draft section 5.4).
func (c *Codec) encrypt(b []byte) {
	if len(b) == oneBlock {
		c.block.Encrypt(b, b)
		return
	}
	h := split(b)
	for pass := byte(1); pass <= 4; pass++ {
		c.pass(h, pass)
	}
	h.join(b)
}

func (c *Codec) decrypt(b []byte) {
	if len(b) == oneBlock {
		c.block.Decrypt(b, b)
		return
	}
	h := split(b)
	for pass := byte(4); pass >= 1; pass-- {
		c.pass(h, pass)
	}
	h.join(b)
}

// halves are those of a block; of an odd one the left ends, and the right
// begins, with half of its middle octet and four bits of zero.
type halves struct {
	left, right []byte
	length      int
}

func split(b []byte) *halves {
	n := (len(b) + 1) / 2
	h := &halves{append([]byte(nil), b[:n]...), append([]byte(nil), b[len(b)-n:]...), len(b)}
	h.clear()
	return h
}

func (h *halves) join(b []byte) {
	copy(b[len(b)-len(h.right):], h.right)
	if h.length%2 == 1 {
		h.left[len(h.left)-1] |= h.right[0]
	}
	copy(b, h.left)
}

func (h *halves) clear() {
	if h.length%2 == 1 {
		h.left[len(h.left)-1] &= 0xf0
		h.right[0] &= 0x0f
	}
}

// pass mixes one half into the other: the odd passes left into right. Each is
// its own inverse.
func (c *Codec) pass(h *halves, number byte) {
	from, to := h.left, h.right
	if number%2 == 0 {
		from, to = to, from
	}
	var b [oneBlock]byte
	copy(b[:], from)
	b[14], b[15] = byte(h.length), number
	c.block.Encrypt(b[:], b[:])
	for i := range to {
		to[i] ^= b[i]
	}
	h.clear()
}
