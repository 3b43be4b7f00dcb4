package tsig

import (
	"crypto/hmac"
	"encoding/binary"
	"fmt"
	"time"

	"meridian/dns/zone"
)

// Error says why a request's signature was refused and holds what the answer
// needs to tell it.
type Error struct {
	Code Code
	rec  record
	key  *Key // nil where the answer goes out unsigned
	now  uint64
}

func (e *Error) Error() string { return "TSIG: " + e.Code.String() }

// Answer completes the answer to a request that was refused (RFC 8945 section
// 5.3.2): NOTAUTH with an empty MAC where key or MAC were wrong, signed where
// the time or the MAC's length was; FORMERR without a record.
// msg is an answer without records whose RCODE is set here.
func (e *Error) Answer(msg []byte) []byte {
	const notAuth = 9
	if e.Code == FormErr {
		msg[3] = msg[3]&0xf0 | byte(FormErr)
		return msg
	}
	msg[3] = msg[3]&0xf0 | notAuth
	r := record{name: e.rec.name, algorithm: e.rec.algorithm, time: e.rec.time, fudge: Fudge, code: e.Code, id: e.rec.id}
	if e.key == nil {
		return r.attach(msg)
	}
	if e.Code == BadTime {
		r.other = appendTime(nil, e.now)
	}
	s := newSum(e.key, e.rec.mac)
	r.digest(&s, msg, false)
	r.mac = s.h.Sum(nil)
	return r.attach(msg)
}

// Session is the server's side of one exchange whose request was verified: it
// signs the answer, or the messages of a transfer in order. It is not safe for
// concurrent use.
type Session struct {
	Key *Key
	id  uint16 // original ID of the request
	sum sum
	n   int // messages signed
}

// Check verifies a request and gives it without its TSIG record, with the ID
// that it came with, which the answer's header has to have. The error is
// ErrUnsigned, or an *Error.
func (keys Keys) Check(msg []byte, now time.Time) (*Session, []byte, error) {
	r, err := find(msg)
	if err == ErrUnsigned {
		return nil, nil, err
	}
	if err != nil {
		return nil, nil, &Error{Code: FormErr}
	}
	fail := func(c Code, k *Key) (*Session, []byte, error) {
		return nil, nil, &Error{Code: c, rec: r, key: k, now: seconds(now)}
	}
	key := keys[zone.Text(r.name)]
	if key == nil || string(key.algorithm) != string(r.algorithm) {
		return fail(BadKey, nil)
	}
	size := key.hash().Size()
	if len(r.mac) > size || len(r.mac) < max(10, size/2) {
		return fail(FormErr, nil)
	}
	plain := r.strip(msg)
	s := newSum(key, nil)
	r.digest(&s, plain, false)
	if !hmac.Equal(s.h.Sum(nil)[:len(r.mac)], r.mac) {
		return fail(BadSig, nil)
	}
	if !within(r, now) {
		return fail(BadTime, key)
	}
	if len(r.mac) < size && len(r.mac) < minMAC {
		return fail(BadTrunc, key)
	}
	return &Session{Key: key, id: r.id, sum: newSum(key, r.mac)}, plain, nil
}

func within(r record, now time.Time) bool {
	d := int64(seconds(now)) - int64(r.time)
	return -int64(r.fudge) <= d && d <= int64(r.fudge)
}

// Sign gives a message with its TSIG record. From the second message on the
// signature covers the message and the times alone.
func (s *Session) Sign(msg []byte, now time.Time) []byte {
	r := record{name: s.Key.name, algorithm: s.Key.algorithm, time: seconds(now), fudge: Fudge, id: s.id}
	r.digest(&s.sum, msg, s.n > 0)
	r.mac = s.sum.h.Sum(nil)
	s.sum.reset(r.mac)
	s.n++
	return r.attach(msg)
}

// Client is the client's side of one exchange: it verifies the answer, or the
// messages of a transfer in order. It is not safe for concurrent use.
type Client struct {
	key      *Key
	sum      sum
	n        int // messages seen
	unsigned int // messages since the last signature
}

// Request signs a request.
func (k *Key) Request(msg []byte, now time.Time) ([]byte, *Client) {
	r := record{name: k.name, algorithm: k.algorithm, time: seconds(now), fudge: Fudge, id: binary.BigEndian.Uint16(msg)}
	s := newSum(k, nil)
	r.digest(&s, msg, false)
	r.mac = s.h.Sum(nil)
	return r.attach(msg), &Client{key: k, sum: newSum(k, r.mac)}
}

// Verify checks the next message and gives it without its TSIG record. The
// first message must be signed, and later ones at least one in a hundred
// (RFC 8945 section 5.3.1); Done says whether the last one was.
func (c *Client) Verify(msg []byte, now time.Time) ([]byte, error) {
	r, err := find(msg)
	if err == ErrUnsigned && c.n > 0 {
		if c.unsigned++; c.unsigned > maxUnsigned {
			return nil, fmt.Errorf("TSIG: more than %d messages without a signature", maxUnsigned)
		}
		c.n++
		c.sum.h.Write(msg)
		return msg, nil
	}
	if err != nil {
		return nil, fmt.Errorf("TSIG: %w", err)
	}
	if string(r.name) != string(c.key.name) || string(r.algorithm) != string(c.key.algorithm) {
		return nil, fmt.Errorf("TSIG: the answer is signed with another key")
	}
	if len(r.mac) == 0 && r.code != 0 {
		return nil, fmt.Errorf("TSIG: the server says %s to key %s", r.code, c.key.Name)
	}
	size := c.key.hash().Size()
	if len(r.mac) > size || len(r.mac) < max(minMAC, size/2) {
		return nil, fmt.Errorf("TSIG: a MAC of %d octets", len(r.mac))
	}
	plain := r.strip(msg)
	r.digest(&c.sum, plain, c.n > 0)
	if !hmac.Equal(c.sum.h.Sum(nil)[:len(r.mac)], r.mac) {
		return nil, fmt.Errorf("TSIG: the answer's signature is wrong")
	}
	if r.code != 0 {
		return nil, fmt.Errorf("TSIG: the server says %s to key %s", r.code, c.key.Name)
	}
	if !within(r, now) {
		return nil, fmt.Errorf("TSIG: the answer was signed at %s, and it is %s", time.Unix(int64(r.time), 0).UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	c.n++
	c.unsigned = 0
	c.sum.reset(r.mac)
	return plain, nil
}

// Done says what is wrong with a transfer that ends here: its last message
// must be signed.
func (c *Client) Done() error {
	if c.unsigned > 0 || c.n == 0 {
		return fmt.Errorf("TSIG: the last message is not signed")
	}
	return nil
}
