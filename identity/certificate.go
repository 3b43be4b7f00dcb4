package identity

import (
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"sync"
	"time"
)

const (
	// ServerName is in every node's certificate and is what clients verify:
	// which node they reach does not matter, that it belongs to the fleet does.
	ServerName = "node.meridian"

	leafLife = 365 * 24 * time.Hour
	// skew is how far a leaf's validity begins before it was minted, since the
	// clocks of two nodes may differ.
	skew = 24 * time.Hour
)

// newAuthority makes the fleet's CA certificate. All that goes into it is
// fixed or follows from the key, and Ed25519 signs without random octets
// (RFC 8032), so that every node makes the same certificate.
func newAuthority(key ed25519.PrivateKey) (*x509.Certificate, error) {
	t := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "Meridian fleet authority"},
		NotBefore:             time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC),
		NotAfter:              time.Date(2120, 1, 1, 0, 0, 0, 0, time.UTC),
		KeyUsage:              x509.KeyUsageCertSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}
	der, err := x509.CreateCertificate(nil, t, t, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("fleet authority: %w", err)
	}
	return x509.ParseCertificate(der)
}

// AuthorityPEM gives the fleet's CA certificate.
func (id *Identity) AuthorityPEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: id.ca.Raw})
}

// Leaf is one process's certificate, for both ends of mutual TLS.
type Leaf struct {
	TLS     tls.Certificate
	CertPEM []byte
	KeyPEM  []byte // secret; files that hold it are 0600
}

// Mint makes a certificate for the node, good for a year from now, with a new
// private key drawn from rand.
func (id *Identity) Mint(node string, now time.Time, rand io.Reader) (*Leaf, error) {
	if node == "" {
		return nil, errors.New("certificate: node name is empty")
	}
	seed := make([]byte, ed25519.SeedSize+16)
	if _, err := io.ReadFull(rand, seed); err != nil {
		return nil, fmt.Errorf("certificate key: %w", err)
	}
	key := ed25519.NewKeyFromSeed(seed[:ed25519.SeedSize])
	t := &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(append([]byte{1}, seed[ed25519.SeedSize:]...)),
		Subject:      pkix.Name{CommonName: node},
		DNSNames:     []string{ServerName},
		NotBefore:    now.Add(-skew),
		NotAfter:     now.Add(leafLife),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(nil, t, id.ca, key.Public(), id.caKey)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("certificate key: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	return &Leaf{
		TLS:     tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf},
		CertPEM: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		KeyPEM:  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}),
	}, nil
}

// Credentials gives the TLS configurations of one process. It mints the
// certificate at first use and again when half of its life is over, so that a
// process may run for years.
type Credentials struct {
	id   *Identity
	node string
	now  func() time.Time
	rand io.Reader

	mu   sync.Mutex // guards leaf
	leaf *Leaf
}

// Credentials makes the credentials of a node; now and rand are called on
// handshakes, from several goroutines, one at a time.
func (id *Identity) Credentials(node string, now func() time.Time, rand io.Reader) *Credentials {
	return &Credentials{id: id, node: node, now: now, rand: rand}
}

// Leaf gives the current certificate.
func (c *Credentials) Leaf() (*Leaf, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	if c.leaf != nil && now.Before(c.leaf.TLS.Leaf.NotAfter.Add(-leafLife/2)) && now.After(c.leaf.TLS.Leaf.NotBefore) {
		return c.leaf, nil
	}
	leaf, err := c.id.Mint(c.node, now, c.rand)
	if err != nil {
		return nil, err
	}
	c.leaf = leaf
	return leaf, nil
}

func (c *Credentials) certificate() (*tls.Certificate, error) {
	l, err := c.Leaf()
	if err != nil {
		return nil, err
	}
	return &l.TLS, nil
}

func (c *Credentials) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(c.id.ca)
	return p
}

// Server gives the configuration of a listener that lets only nodes of the
// fleet in (TLS 1.3).
func (c *Credentials) Server() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS13,
		ClientAuth:     tls.RequireAndVerifyClientCert,
		ClientCAs:      c.pool(),
		Time:           c.now,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.certificate() },
	}
}

// Client gives the configuration of a dialer that talks only to nodes of the
// fleet (TLS 1.3).
func (c *Credentials) Client() *tls.Config {
	return &tls.Config{
		MinVersion:           tls.VersionTLS13,
		ServerName:           ServerName,
		RootCAs:              c.pool(),
		Time:                 c.now,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return c.certificate() },
	}
}

// Peer gives the node name in the certificate that the peer proved to hold;
// empty where it showed none.
func Peer(cs tls.ConnectionState) string {
	if len(cs.VerifiedChains) == 0 || len(cs.PeerCertificates) == 0 {
		return ""
	}
	return cs.PeerCertificates[0].Subject.CommonName
}
