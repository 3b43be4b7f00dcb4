package identity

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
)

// Identity is all that follows from one fleet key. It is immutable and safe
// for concurrent use.
type Identity struct {
	gossip   []byte
	flow     []byte
	cookie   []byte
	quic     [16]byte
	reset    []byte
	token    [32]byte
	syn      []byte
	affinity []byte
	why      []byte
	ticket   []byte
	hop      []byte
	fleet    string
	seal     cipher.AEAD
	ca       *x509.Certificate
	caKey    ed25519.PrivateKey
}

// New derives a fleet's keys and its certificate authority. The same key gives
// the same authority, octet for octet, on every node.
func New(k Key) (*Identity, error) {
	block, err := aes.NewCipher(k.derive("seal", 32))
	if err != nil {
		return nil, fmt.Errorf("sealing key: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("sealing key: %w", err)
	}
	id := &Identity{
		gossip:   k.derive("gossip", 32),
		flow:     k.derive("flow", 32),
		cookie:   k.derive("cookie", 32),
		quic:     [16]byte(k.derive("quic", 16)),
		reset:    k.derive("quic-reset", 32),
		token:    [32]byte(k.derive("quic-token", 32)),
		syn:      k.derive("syn-cookie", 32),
		affinity: k.derive("endpoint-affinity", 32),
		why:      k.derive("edge-why", 32),
		ticket:   k.derive("ticket", 32),
		hop:      k.derive("hop", 32),
		fleet:    hex.EncodeToString(k.derive("fleet-id", 16)),
		seal:     aead,
		caKey:    ed25519.NewKeyFromSeed(k.derive("authority", ed25519.SeedSize)),
	}
	if id.ca, err = newAuthority(id.caKey); err != nil {
		return nil, err
	}
	return id, nil
}

// String hides the keys from messages and logs.
func (id *Identity) String() string { return "(identity of fleet " + id.fleet + ")" }

// FleetID names the key without giving it away: 32 hexadecimal digits. Two
// nodes have the same key exactly when their FleetIDs are equal.
func (id *Identity) FleetID() string { return id.fleet }

// GossipKey gives the 32 octets that encrypt gossip (AES-256).
func (id *Identity) GossipKey() []byte { return append([]byte(nil), id.gossip...) }

// FlowKey gives the secret of layer 4's flow hash: 16 octets, the same on all
// balancers of a region, so that a flow that moves from one to another keeps
// its gateway.
func (id *Identity) FlowKey(region string) [16]byte {
	mac := hmac.New(sha256.New, id.flow)
	mac.Write([]byte(region))
	return [16]byte(mac.Sum(nil))
}

// HopKey signs what one region's gateway passes on to another's: 32 octets.
func (id *Identity) HopKey() []byte { return append([]byte(nil), id.hop...) }

// QUICKey gives the key of the connection ids that the fleet's gateways give
// out: 16 octets (AES-128).
func (id *Identity) QUICKey() [16]byte { return id.quic }

// QUICResetKey gives the key of the stateless resets of a node (RFC 9000 section
// 10.3.2): 32 octets, the same in all its processes. No two nodes have the same,
// or packets sent astray to one would end connections with another.
func (id *Identity) QUICResetKey(node string) [32]byte {
	mac := hmac.New(sha256.New, id.reset)
	mac.Write([]byte(node))
	return [32]byte(mac.Sum(nil))
}

// QUICTokenKey gives the key of the tokens by which QUIC clients prove that
// they are where they say (RFC 9000 section 8.1.3): 32 octets, the same on all
// nodes.
func (id *Identity) QUICTokenKey() [32]byte { return id.token }

// AffinityKey gives the secret of the cookies by which gateways know which
// endpoint a client is held to: 32 octets, the same on all of them.
func (id *Identity) AffinityKey() []byte { return append([]byte(nil), id.affinity...) }

// WhyKey gives the key of the tokens by which callers ask gateways what became of
// their requests (edge/l7/why): 32 octets, the same on all of them.
func (id *Identity) WhyKey() []byte { return append([]byte(nil), id.why...) }

// TicketKey gives the key of the TLS session tickets of an epoch, counted from
// 1970 in units of the caller's, among handshakes of one scope: the same on all
// gateways, so that a session begun at one resumes at another.
func (id *Identity) TicketKey(scope string, epoch int64) [32]byte {
	mac := hmac.New(sha256.New, id.ticket)
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(epoch))
	mac.Write(b[:])
	mac.Write([]byte(scope))
	return [32]byte(mac.Sum(nil))
}

// ErrSealed is returned for sealed octets that were changed, cut, bound to
// something else or sealed under another fleet key.
var ErrSealed = errors.New("sealed data was changed, or sealed under another fleet key")

// Seal encrypts plain (AES-256-GCM) and binds it to what it is stored as, so
// that it opens under that name only. The nonce is drawn from rand; under one
// key no more than 2^32 should be drawn (NIST SP 800-38D section 8.3).
func (id *Identity) Seal(rand io.Reader, plain []byte, as string) ([]byte, error) {
	nonce := make([]byte, id.seal.NonceSize(), id.seal.NonceSize()+len(plain)+id.seal.Overhead())
	if _, err := io.ReadFull(rand, nonce); err != nil {
		return nil, fmt.Errorf("sealing nonce: %w", err)
	}
	return id.seal.Seal(nonce, nonce, plain, []byte(as)), nil
}

// Open decrypts what Seal gave for the same name.
func (id *Identity) Open(sealed []byte, as string) ([]byte, error) {
	n := id.seal.NonceSize()
	if len(sealed) < n {
		return nil, ErrSealed
	}
	plain, err := id.seal.Open(nil, sealed[:n], sealed[n:], []byte(as))
	if err != nil {
		return nil, ErrSealed
	}
	return plain, nil
}

// CookieSecret gives the secret of the DNS cookies that the fleet's
// nameservers make on a day, counted from 1970 (RFC 9018 section 5): the same
// on all of them, so that a client may go from one to another.
func (id *Identity) CookieSecret(day int64) [16]byte {
	mac := hmac.New(sha256.New, id.cookie)
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(day))
	mac.Write(b[:])
	return [16]byte(mac.Sum(nil))
}

// SYNCookieKey gives the key of the SYN cookies that the nodes of a region make
// and take in an epoch, counted from 1970 in units of the caller's, in a
// generation of the Spec's: the same on all of them, so that a gateway knows what
// a balancer has answered.
func (id *Identity) SYNCookieKey(region string, generation int, epoch int64) [16]byte {
	mac := hmac.New(sha256.New, id.syn)
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], uint64(epoch))
	binary.BigEndian.PutUint64(b[8:], uint64(generation))
	mac.Write(b[:])
	mac.Write([]byte(region))
	return [16]byte(mac.Sum(nil))
}
