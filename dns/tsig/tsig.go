// Package tsig signs DNS messages with shared secrets and verifies them
// (RFC 8945): requests, their answers, and transfers of many messages.
//
// Pure floor: it imports fleet and dns/zone; the time is an argument. It works
// on messages in wire form, since a signature covers octets and not what they
// mean.
package tsig

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"time"

	"meridian/dns/zone"
	"meridian/fleet"
)

// Fudge is how far two clocks may differ (RFC 8945 section 10 recommends 300
// seconds).
const Fudge = 300

// maxUnsigned is how many messages of a transfer may come without a signature
// between two that have one (RFC 8945 section 5.3.1).
const maxUnsigned = 99

// minMAC is the least length of a truncated MAC that we take, in octets: 128
// bits. What is shorter and yet allowed by RFC 8945 section 5.2.2.1 is
// answered BADTRUNC.
const minMAC = 16

const (
	typeTSIG = 250
	classANY = 255
	header   = 12
)

// Key is one shared secret. It is immutable.
type Key struct {
	Name      fleet.Name
	Algorithm fleet.TSIGAlgorithm

	name, algorithm []byte // wire form, lower case
	secret          []byte
	hash            func() hash.Hash
}

var hashes = map[fleet.TSIGAlgorithm]func() hash.Hash{
	"hmac-sha256": sha256.New,
	"hmac-sha384": sha512.New384,
	"hmac-sha512": sha512.New,
	"hmac-sha224": sha256.New224,
	"hmac-sha1":   sha1.New,
}

// NewKey makes a key of its text in base64, in which white space is ignored.
func NewKey(name fleet.Name, algorithm fleet.TSIGAlgorithm, text []byte) (*Key, error) {
	h := hashes[algorithm]
	if h == nil {
		return nil, fmt.Errorf("key %s: algorithm %q is unknown", name, algorithm)
	}
	secret, err := base64.StdEncoding.DecodeString(string(bytes.Join(bytes.Fields(text), nil)))
	if err != nil {
		return nil, fmt.Errorf("key %s: the secret is not base64", name)
	}
	if len(secret) == 0 {
		return nil, fmt.Errorf("key %s: the secret is empty", name)
	}
	return &Key{Name: name, Algorithm: algorithm, name: zone.Wire(name), algorithm: zone.Wire(fleet.Name(algorithm) + "."), secret: secret, hash: h}, nil
}

// Keys are the keys of a nameserver by name.
type Keys map[fleet.Name]*Key

// Load gives the keys of a World, whose secrets are objects.
func Load(w *fleet.World) (Keys, error) {
	keys := Keys{}
	var errs []error
	for i, k := range w.Snapshot.Spec.DNS.Keys {
		o, ok := w.Objects[fleet.ObjectKey{Kind: fleet.ObjectSecret, ID: string(k.Secret)}]
		if !ok {
			errs = append(errs, fmt.Errorf("dns.keys[%d]: secret %s is missing", i, k.Secret))
			continue
		}
		key, err := NewKey(k.Name, k.Algorithm, o.Data)
		if err != nil {
			errs = append(errs, fmt.Errorf("dns.keys[%d]: %w", i, err))
			continue
		}
		keys[k.Name] = key
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return keys, nil
}

// Code is a TSIG error (RFC 8945 section 3), or FORMERR.
type Code uint16

// The codes.
const (
	FormErr  Code = 1
	BadSig   Code = 16
	BadKey   Code = 17
	BadTime  Code = 18
	BadTrunc Code = 22
)

func (c Code) String() string {
	switch c {
	case FormErr:
		return "FORMERR"
	case BadSig:
		return "BADSIG"
	case BadKey:
		return "BADKEY"
	case BadTime:
		return "BADTIME"
	case BadTrunc:
		return "BADTRUNC"
	}
	return fmt.Sprintf("TSIG error %d", uint16(c))
}

// ErrUnsigned says that a message has no TSIG record.
var ErrUnsigned = errors.New("the message is not signed")

// record is the TSIG record of a message.
type record struct {
	at              int    // where it begins
	name, algorithm []byte // wire form, lower case
	time            uint64 // seconds since 1970
	fudge           uint16
	mac             []byte
	id              uint16 // of the request as its client signed it, in answers too (RFC 8945 section 4.2)
	code            Code
	other           []byte
}

var errForm = errors.New("no well-formed message with a TSIG record at its end")

// find reads the TSIG record, which is the last of the additional section
// (RFC 8945 section 5.2).
func find(msg []byte) (record, error) {
	at, last, err := walk(msg)
	if err != nil {
		return record{}, err
	}
	if last < 0 || at != len(msg) {
		if last >= 0 {
			return record{}, errForm
		}
		return record{}, ErrUnsigned
	}
	return parse(msg, last)
}

// walk goes over all records: where they end, and where the TSIG record
// begins, or -1. One that is not the last is malformed.
func walk(msg []byte) (end, tsig int, err error) {
	if len(msg) < header {
		return 0, -1, errForm
	}
	at := header
	for range binary.BigEndian.Uint16(msg[4:]) {
		if at = skipName(msg, at); at < 0 || at+4 > len(msg) {
			return 0, -1, errForm
		}
		at += 4
	}
	records := 0
	for i := 6; i < header; i += 2 {
		records += int(binary.BigEndian.Uint16(msg[i:]))
	}
	additional := records - int(binary.BigEndian.Uint16(msg[10:]))
	for i := range records {
		begin := at
		if at = skipName(msg, at); at < 0 || at+10 > len(msg) {
			return 0, -1, errForm
		}
		rtype := binary.BigEndian.Uint16(msg[at:])
		if at += 10 + int(binary.BigEndian.Uint16(msg[at+8:])); at > len(msg) {
			return 0, -1, errForm
		}
		if rtype == typeTSIG {
			if i < records-1 || i < additional {
				return 0, -1, errForm
			}
			return at, begin, nil
		}
	}
	return at, -1, nil
}

func skipName(msg []byte, at int) int {
	for at < len(msg) {
		switch n := int(msg[at]); {
		case n == 0:
			return at + 1
		case n >= 0xc0:
			if at+2 > len(msg) {
				return -1
			}
			return at + 2
		case n > 63:
			return -1
		default:
			at += 1 + n
		}
	}
	return -1
}

// readName gives a name in wire form and lower case and where it ends.
func readName(msg []byte, at int) (name []byte, end int) {
	end = -1
	for at < len(msg) {
		switch n := int(msg[at]); {
		case n >= 0xc0:
			if at+2 > len(msg) {
				return nil, -1
			}
			to := n&0x3f<<8 | int(msg[at+1])
			if end < 0 {
				end = at + 2
			}
			if to >= at { // a pointer leads back (RFC 1035 section 4.1.4)
				return nil, -1
			}
			at = to
		case n > 63 || at+1+n > len(msg) || len(name)+1+n > 255:
			return nil, -1
		default:
			name = append(name, msg[at])
			for _, c := range msg[at+1 : at+1+n] {
				name = append(name, zone.Lower(c))
			}
			at += 1 + n
			if n == 0 {
				if end < 0 {
					end = at
				}
				return name, end
			}
		}
	}
	return nil, -1
}

func parse(msg []byte, at int) (record, error) {
	r := record{at: at}
	name, at := readName(msg, at)
	if at < 0 || binary.BigEndian.Uint16(msg[at+2:]) != classANY || binary.BigEndian.Uint32(msg[at+4:]) != 0 {
		return record{}, errForm
	}
	r.name = name
	end := at + 10 + int(binary.BigEndian.Uint16(msg[at+8:]))
	if r.algorithm, at = readName(msg[:end], at+10); at < 0 || at+10 > end {
		return record{}, errForm
	}
	r.time = uint64(binary.BigEndian.Uint16(msg[at:]))<<32 | uint64(binary.BigEndian.Uint32(msg[at+2:]))
	r.fudge = binary.BigEndian.Uint16(msg[at+6:])
	n := int(binary.BigEndian.Uint16(msg[at+8:]))
	if at += 10; at+n+6 > end {
		return record{}, errForm
	}
	r.mac = msg[at : at+n]
	at += n
	r.id, r.code = binary.BigEndian.Uint16(msg[at:]), Code(binary.BigEndian.Uint16(msg[at+2:]))
	r.other = msg[at+6 : end]
	if len(r.other) != int(binary.BigEndian.Uint16(msg[at+4:])) {
		return record{}, errForm
	}
	return r, nil
}

// strip gives the message without the record.
func (r *record) strip(msg []byte) []byte {
	out := bytes.Clone(msg[:r.at])
	binary.BigEndian.PutUint16(out[10:], binary.BigEndian.Uint16(out[10:])-1)
	return out
}

// digest adds a message without its record, and the record's variables, to a
// sum. What was signed has the original ID: a forwarder on the way gives the
// message another (RFC 8945 sections 4.3.2 and 5.5).
func (r *record) digest(s *sum, msg []byte, timers bool) {
	s.h.Write(binary.BigEndian.AppendUint16(nil, r.id))
	s.h.Write(msg[2:])
	s.h.Write(r.variables(timers))
}

// variables are what the signature covers besides the message (RFC 8945
// section 4.3.3), or in later messages of a transfer the times alone.
func (r *record) variables(timers bool) []byte {
	var b []byte
	if !timers {
		b = append(b, r.name...)
		b = binary.BigEndian.AppendUint16(b, classANY)
		b = binary.BigEndian.AppendUint32(b, 0)
		b = append(b, r.algorithm...)
	}
	b = appendTime(b, r.time)
	b = binary.BigEndian.AppendUint16(b, r.fudge)
	if !timers {
		b = binary.BigEndian.AppendUint16(b, uint16(r.code))
		b = binary.BigEndian.AppendUint16(b, uint16(len(r.other)))
		b = append(b, r.other...)
	}
	return b
}

func appendTime(b []byte, t uint64) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(t>>32))
	return binary.BigEndian.AppendUint32(b, uint32(t))
}

// attach appends the record to a message.
func (r *record) attach(msg []byte) []byte {
	out := append(msg[:len(msg):len(msg)], r.name...)
	out = binary.BigEndian.AppendUint16(out, typeTSIG)
	out = binary.BigEndian.AppendUint16(out, classANY)
	out = binary.BigEndian.AppendUint32(out, 0)
	out = binary.BigEndian.AppendUint16(out, uint16(len(r.algorithm)+16+len(r.mac)+len(r.other)))
	out = append(out, r.algorithm...)
	out = appendTime(out, r.time)
	out = binary.BigEndian.AppendUint16(out, r.fudge)
	out = binary.BigEndian.AppendUint16(out, uint16(len(r.mac)))
	out = append(out, r.mac...)
	out = binary.BigEndian.AppendUint16(out, r.id)
	out = binary.BigEndian.AppendUint16(out, uint16(r.code))
	out = binary.BigEndian.AppendUint16(out, uint16(len(r.other)))
	out = append(out, r.other...)
	binary.BigEndian.PutUint16(out[10:], binary.BigEndian.Uint16(out[10:])+1)
	return out
}

// Size is how many octets a signature with the key adds to a message.
func (k *Key) Size() int {
	return len(k.name) + 10 + len(k.algorithm) + 16 + k.hash().Size()
}

// sum is a MAC in the making: the MAC before it, then messages.
type sum struct {
	key   *Key
	prior []byte // MAC of the message before
	h     hash.Hash
}

func newSum(k *Key, prior []byte) sum {
	s := sum{key: k, prior: prior}
	s.reset(prior)
	return s
}

func (s *sum) reset(prior []byte) {
	s.prior, s.h = prior, hmac.New(s.key.hash, s.key.secret)
	if prior != nil {
		s.h.Write(binary.BigEndian.AppendUint16(nil, uint16(len(prior))))
		s.h.Write(prior)
	}
}

func seconds(t time.Time) uint64 { return uint64(max(t.Unix(), 0)) }
