package identity

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
)

// KeySize is the size of a fleet key in octets.
const KeySize = 32

// Key is a fleet key: the one secret that all nodes of a fleet share.
type Key [KeySize]byte

// String and GoString hide the key from messages and logs.
func (Key) String() string { return "(fleet key)" }

// GoString hides the key as String does.
func (Key) GoString() string { return "(fleet key)" }

// NewKey draws a key from rand.
func NewKey(rand io.Reader) (Key, error) {
	var k Key
	if _, err := io.ReadFull(rand, k[:]); err != nil {
		return Key{}, fmt.Errorf("fleet key: %w", err)
	}
	return k, nil
}

// Encode gives the key's text form, 64 hexadecimal digits and a line feed.
func (k Key) Encode() []byte { return append([]byte(hex.EncodeToString(k[:])), '\n') }

var errKey = errors.New("fleet key: expected 32 octets as 64 hexadecimal digits or as base64, such as gslb keygen writes")

// ParseKey reads a key's text form: 64 hexadecimal digits or base64 (standard
// or URL alphabet, padded or not); white space around it is ignored. The error
// does not repeat the text.
func ParseKey(text []byte) (Key, error) {
	s := string(bytes.TrimSpace(text))
	raw, err := hex.DecodeString(s)
	for _, enc := range []*base64.Encoding{base64.StdEncoding, base64.RawStdEncoding, base64.URLEncoding, base64.RawURLEncoding} {
		if err == nil && len(raw) == KeySize {
			break
		}
		raw, err = enc.DecodeString(s)
	}
	if err != nil || len(raw) != KeySize {
		return Key{}, errKey
	}
	k := Key(raw)
	if k == (Key{}) {
		return Key{}, errors.New("fleet key: is all zero")
	}
	return k, nil
}

// derive gives n octets bound to one purpose (HKDF-SHA256, RFC 5869).
func (k Key) derive(purpose string, n int) []byte {
	b, err := hkdf.Key(sha256.New, k[:], nil, "meridian/v1/"+purpose, n)
	if err != nil {
		panic("identity: HKDF of a fixed length cannot fail: " + err.Error())
	}
	return b
}
