package sign

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/big"
	"time"

	"meridian/dns/zone"
	"meridian/fleet"
)

// Role is what a key is for.
type Role string

// The roles: a KSK signs the DNSKEY set and is what the parent's DS points to,
// a ZSK signs all else, a CSK does both.
const (
	KSK Role = "ksk"
	ZSK Role = "zsk"
	CSK Role = "csk"
)

// ParseRole reads ksk, zsk or csk.
func ParseRole(s string) (Role, error) {
	switch r := Role(s); r {
	case KSK, ZSK, CSK:
		return r, nil
	}
	return "", fmt.Errorf("%q is not ksk, zsk or csk", s)
}

// secure says whether keys of the role are pointed to by the parent.
func (r Role) secure() bool { return r == KSK || r == CSK }

// signsZone says whether keys of the role sign the zone's data.
func (r Role) signsZone() bool { return r == ZSK || r == CSK }

// Algorithms that zones are signed with (RFC 6605, RFC 8080).
const (
	algP256    = 13
	algEd25519 = 15
)

// AlgorithmNumber gives the DNSSEC algorithm number of a policy's algorithm.
func AlgorithmNumber(a fleet.DNSSECAlgorithm) uint8 {
	if a == fleet.Ed25519 {
		return algEd25519
	}
	return algP256
}

// AlgorithmName gives the algorithm's name as the Spec writes it.
func AlgorithmName(a uint8) string {
	switch a {
	case algP256:
		return string(fleet.ECDSAP256)
	case algEd25519:
		return string(fleet.Ed25519)
	}
	return fmt.Sprintf("algorithm %d", a)
}

// Key is one key pair of a zone, and how far each of its parts has come in
// the world.
type Key struct {
	Role      Role      `json:"role"`
	Algorithm uint8     `json:"algorithm"`
	Public    []byte    `json:"public"`  // as in DNSKEY: 64 octets of P-256 (RFC 6605 section 4), 32 of Ed25519 (RFC 8080 section 3)
	Private   []byte    `json:"private"` // 32 octets: P-256 scalar or Ed25519 seed
	Created   time.Time `json:"created"`
	Retired   bool      `json:"retired,omitempty"` // on its way out
	Revoked   time.Time `json:"revoked,omitzero"`  // since when it is shown as revoked (RFC 5011), which changes its tag; zero: it is not
	DNSKEY    Phase     `json:"dnskey"`            // the key in the DNSKEY set, and for KSK and CSK its signature over that set
	RRSIG     Phase     `json:"rrsig"`             // its signatures over the zone's data; hidden for a KSK
	DS        Phase     `json:"ds"`                // the parent's DS; hidden for a ZSK
}

// String names the key without giving it away.
func (k Key) String() string {
	return fmt.Sprintf("%s %d (%s)", k.Role, k.Tag(), AlgorithmName(k.Algorithm))
}

// GoString hides the private key as String does.
func (k Key) GoString() string { return k.String() }

// Flags of DNSKEY (RFC 4034 section 2.1.1).
const (
	flagZone   = 0x0100
	flagSEP    = 0x0001
	flagRevoke = 0x0080
)

func (k *Key) flags() uint16 {
	flags := uint16(flagZone)
	if k.Role.secure() {
		flags |= flagSEP
	}
	if !k.Revoked.IsZero() {
		flags |= flagRevoke
	}
	return flags
}

// RData gives the key as DNSKEY RDATA (RFC 4034 section 2.1), which is that of
// CDNSKEY too.
func (k *Key) RData() []byte {
	out := binary.BigEndian.AppendUint16(nil, k.flags())
	return append(append(out, 3, k.Algorithm), k.Public...)
}

// Tag is the key tag (RFC 4034 appendix B).
func (k *Key) Tag() uint16 { return keyTag(k.RData()) }

func keyTag(rdata []byte) uint16 {
	var sum uint32
	for i, b := range rdata {
		if i&1 == 0 {
			sum += uint32(b) << 8
		} else {
			sum += uint32(b)
		}
	}
	return uint16(sum + sum>>16&0xffff)
}

// DS is a delegation signer (RFC 4034 section 5.1).
type DS struct {
	KeyTag     uint16 `json:"key_tag"`
	Algorithm  uint8  `json:"algorithm"`
	DigestType uint8  `json:"digest_type"`
	Digest     string `json:"digest"` // lower-case hexadecimal
}

// String writes the DS as its RDATA is written in a zone file.
func (d DS) String() string {
	return fmt.Sprintf("%d %d %d %s", d.KeyTag, d.Algorithm, d.DigestType, d.Digest)
}

// RData gives the DS in wire form.
func (d DS) RData() []byte {
	digest, _ := hex.DecodeString(d.Digest)
	return append([]byte{byte(d.KeyTag >> 8), byte(d.KeyTag), d.Algorithm, d.DigestType}, digest...)
}

// DSFor gives the key's DS in a zone, with a SHA-256 digest (RFC 4509), the
// one type that RFC 9904 asks for.
func (k *Key) DSFor(name fleet.Name) DS {
	sum := sha256.Sum256(append(zone.Wire(name), k.RData()...))
	return DS{k.Tag(), k.Algorithm, 2, hex.EncodeToString(sum[:])}
}

// NewKey draws a key of a role and algorithm (13 or 15) from rand, whose tag
// is none of those in use, so that a tag names one key.
func NewKey(role Role, algorithm uint8, now time.Time, rand io.Reader, inUse []Key) (Key, error) {
	for range 1000 {
		var seed [32]byte
		if _, err := io.ReadFull(rand, seed[:]); err != nil {
			return Key{}, fmt.Errorf("drawing a key: %w", err)
		}
		k, err := KeyFrom(role, algorithm, seed[:], now)
		if err != nil {
			continue // not a scalar of the curve: one draw in 2^32
		}
		if !tagUsed(&k, inUse) {
			return k, nil
		}
	}
	return Key{}, errors.New("drawing a key: the random source gives no usable key")
}

// tagUsed says whether the key's tag, or the one that it would have when
// revoked (RFC 5011), is that of another.
func tagUsed(k *Key, others []Key) bool {
	for i := range others {
		o := &others[i]
		plain, revoked := o.tags()
		mine, later := k.tags()
		if o.Algorithm == k.Algorithm && (plain == mine || plain == later || revoked == mine) {
			return true
		}
	}
	return false
}

// tags gives the key's tag before and after it is revoked.
func (k *Key) tags() (plain, revoked uint16) {
	rdata := k.RData()
	rdata[1] &^= flagRevoke
	plain = keyTag(rdata)
	rdata[1] |= flagRevoke
	return plain, keyTag(rdata)
}

// KeyFrom makes a key of its private part: the 32 octets of a P-256 scalar or
// of an Ed25519 seed.
func KeyFrom(role Role, algorithm uint8, private []byte, now time.Time) (Key, error) {
	k := Key{Role: role, Algorithm: algorithm, Private: append([]byte(nil), private...), Created: now.UTC()}
	switch algorithm {
	case algP256:
		ec, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), private)
		if err != nil {
			return Key{}, fmt.Errorf("private key of ecdsap256sha256: %w", err)
		}
		point, err := ec.PublicKey.Bytes()
		if err != nil {
			return Key{}, fmt.Errorf("private key of ecdsap256sha256: %w", err)
		}
		k.Public = point[1:] // without the octet that says "not compressed"
	case algEd25519:
		if len(private) != ed25519.SeedSize {
			return Key{}, errors.New("private key of ed25519: expected 32 octets")
		}
		k.Public = ed25519.NewKeyFromSeed(private).Public().(ed25519.PublicKey)
	default:
		return Key{}, fmt.Errorf("zones are signed with ecdsap256sha256 (13) and ed25519 (15), not with algorithm %d", algorithm)
	}
	return k, nil
}

// signer is a key ready to sign.
type signer struct {
	key *Key
	tag uint16
	ec  *ecdsa.PrivateKey
	ed  ed25519.PrivateKey
}

func newSigner(k *Key) (*signer, error) {
	s := &signer{key: k, tag: k.Tag()}
	var err error
	switch k.Algorithm {
	case algP256:
		s.ec, err = ecdsa.ParseRawPrivateKey(elliptic.P256(), k.Private)
	case algEd25519:
		if len(k.Private) != ed25519.SeedSize {
			return nil, fmt.Errorf("key %s: expected a private key of 32 octets", k)
		}
		s.ed = ed25519.NewKeyFromSeed(k.Private)
	default:
		err = fmt.Errorf("cannot sign with algorithm %d", k.Algorithm)
	}
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", k, err)
	}
	return s, nil
}

// sign gives the signature of data: r and s of 32 octets each (RFC 6605
// section 4), or that of Ed25519 (RFC 8080 section 4).
func (s *signer) sign(data []byte) ([]byte, error) {
	if s.ed != nil {
		return ed25519.Sign(s.ed, data), nil
	}
	sum := sha256.Sum256(data)
	der, err := s.ec.Sign(nil, sum[:], crypto.SHA256) // nil: deterministic, RFC 6979
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", s.key, err)
	}
	var rs struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(der, &rs); err != nil {
		return nil, fmt.Errorf("key %s: %w", s.key, err)
	}
	out := make([]byte, 64)
	rs.R.FillBytes(out[:32])
	rs.S.FillBytes(out[32:])
	return out, nil
}

// verify says whether a signature of data is the key's.
func (s *signer) verify(data, sig []byte) bool {
	if s.ed != nil {
		return ed25519.Verify(s.ed.Public().(ed25519.PublicKey), data, sig)
	}
	if len(sig) != 64 {
		return false
	}
	sum := sha256.Sum256(data)
	return ecdsa.Verify(&s.ec.PublicKey, sum[:], new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:]))
}
