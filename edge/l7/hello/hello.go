package hello

import (
	"bytes"
	"encoding/binary"
	"errors"
)

// Limits of a ClientHello. Those of today take 0.3 to 2 KiB, some 12 KiB with the
// largest key shares that have a number.
const (
	// MaxOctets is how many octets of a connection a Reader looks at; a reader's
	// buffer of so many holds every hello that it takes.
	MaxOctets = 24 << 10
	// maxMessage bounds the handshake message itself.
	maxMessage = 16 << 10
)

// What a Reader may say other than that it has a Hello.
var (
	// ErrMore asks for more octets.
	ErrMore = errors.New("the ClientHello goes on")
	// ErrNotTLS says that the client speaks something else.
	ErrNotTLS = errors.New("not a TLS client")
	// ErrMalformed says that it begins as TLS and is not well formed.
	ErrMalformed = errors.New("the ClientHello is malformed")
	// ErrTooLarge says that it is beyond the limits.
	ErrTooLarge = errors.New("the ClientHello is too large")
)

// Hello is what a ClientHello (RFC 8446 section 4.1.2) says in the clear.
type Hello struct {
	// ServerName is the host_name of its server_name (RFC 6066 section 3) as it
	// was sent; empty where there is none. With ECH it is the public name.
	ServerName string
	// Encrypted says that an encrypted ClientHello goes with it (RFC 9849), whose
	// own name only the holder of the key can read. Clients also send random octets
	// in its place.
	Encrypted bool
}

// Reader reads one connection's first octets. The zero Reader is ready; it is for
// one goroutine.
type Reader struct {
	at      int    // where the next record begins
	message []byte // the handshake message, as far as its records have come
}

// Read is given all that has come of a connection, each time more of it. Its error
// is one of this package's.
func (r *Reader) Read(octets []byte) (Hello, error) {
	for {
		if n := r.missing(); n == 0 {
			return parse(r.message[4:])
		} else if n < 0 {
			return Hello{}, ErrTooLarge
		}
		if err := r.record(octets); err != nil {
			return Hello{}, err
		}
		if len(r.message) > 0 && r.message[0] != typeClientHello {
			return Hello{}, ErrMalformed
		}
	}
}

const (
	recordHandshake = 22
	recordHeader    = 5
	maxRecord       = 1 << 14 // RFC 8446 section 5.1
	typeClientHello = 1
	extServerName   = 0
	extECH          = 0xfe0d
)

// missing is how many octets of the message have not come, a guess while its
// length has not; below 0: it is too long.
func (r *Reader) missing() int {
	if len(r.message) < 4 {
		return 4 - len(r.message)
	}
	n := int(r.message[1])<<16 | int(r.message[2])<<8 | int(r.message[3])
	if n > maxMessage {
		return -1
	}
	return max(4+n-len(r.message), 0)
}

// record takes the next record (RFC 8446 section 5.1), once it is complete.
func (r *Reader) record(octets []byte) error {
	rest := octets[min(r.at, len(octets)):]
	if !plausible(rest) {
		if r.at > 0 {
			return ErrMalformed // another record amidst the message (RFC 8446 section 5.1)
		}
		return ErrNotTLS
	}
	if len(rest) < recordHeader {
		return more(octets)
	}
	n := int(binary.BigEndian.Uint16(rest[3:]))
	if n == 0 || n > maxRecord {
		return ErrMalformed
	}
	if len(rest) < recordHeader+n {
		return more(octets)
	}
	r.at += recordHeader + n
	r.message = append(r.message, rest[recordHeader:recordHeader+n]...)
	return nil
}

// plausible looks at what has come of a record's header.
func plausible(b []byte) bool {
	return (len(b) < 1 || b[0] == recordHandshake) && (len(b) < 2 || b[1] == 3)
}

func more(octets []byte) error {
	if len(octets) >= MaxOctets {
		return ErrTooLarge
	}
	return ErrMore
}

// cursor takes a message apart; a read beyond the end makes it bad.
type cursor struct {
	b   []byte
	bad bool
}

func (c *cursor) take(n int) []byte {
	if n > len(c.b) {
		c.bad, c.b = true, nil
		return nil
	}
	out := c.b[:n]
	c.b = c.b[n:]
	return out
}

// number reads one of n octets.
func (c *cursor) number(n int) int {
	v := 0
	for _, o := range c.take(n) {
		v = v<<8 | int(o)
	}
	return v
}

// vector reads one with a length of n octets before it.
func (c *cursor) vector(n int) cursor {
	b := c.take(c.number(n))
	return cursor{b: b, bad: c.bad}
}

// parse reads the body of a ClientHello. What could be read in two ways is
// refused: an extension that comes twice, more than one name, octets left over.
func parse(body []byte) (Hello, error) {
	c := cursor{b: body}
	c.take(2 + 32) // legacy_version, random
	session, suites, compression := c.vector(1), c.vector(2), c.vector(1)
	if c.bad || len(session.b) > 32 || len(suites.b) < 2 || len(suites.b)%2 != 0 || len(compression.b) == 0 {
		return Hello{}, ErrMalformed
	}
	if len(c.b) == 0 {
		return Hello{}, nil // TLS 1.2 and before may have no extensions
	}
	list := c.vector(2)
	if c.bad || len(c.b) != 0 {
		return Hello{}, ErrMalformed
	}
	var h Hello
	named := false
	for len(list.b) > 0 {
		kind, data := list.number(2), list.vector(2)
		if list.bad {
			return Hello{}, ErrMalformed
		}
		switch kind {
		case extServerName:
			if named || !h.name(data) {
				return Hello{}, ErrMalformed
			}
			named = true
		case extECH:
			if h.Encrypted || len(data.b) == 0 || data.b[0] != 0 { // 0: outer
				return Hello{}, ErrMalformed
			}
			h.Encrypted = true
		}
	}
	return h, nil
}

// name reads server_name; a list of one host_name is all that clients send.
func (h *Hello) name(c cursor) bool {
	list := c.vector(2)
	if c.bad || len(c.b) != 0 {
		return false
	}
	kind, name := list.number(1), list.vector(2)
	if list.bad || len(list.b) != 0 || kind != 0 || len(name.b) == 0 || len(name.b) > 255 || bytes.IndexByte(name.b, 0) >= 0 {
		return false
	}
	h.ServerName = string(name.b)
	return true
}
