package acme

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"time"

	"github.com/caddyserver/certmagic"
)

// internal is the fleet's own authority, for trials. Its root is made once for
// the fleet and kept sealed in the store.
type internal struct {
	storage *storage
	fleet   string
	life    time.Duration // of the certificates
	now     func() time.Time
}

const (
	rootKey  = "internal/root.pem"
	rootLife = 10 * 365 * 24 * time.Hour
	rootSkew = time.Hour // clients' clocks may be behind
)

// IssuerKey implements certmagic.Issuer.
func (i *internal) IssuerKey() string { return "internal" }

// Issue implements certmagic.Issuer. The chain ends with the root, so that who
// tries the fleet can see what to trust.
func (i *internal) Issue(ctx context.Context, csr *x509.CertificateRequest) (*certmagic.IssuedCertificate, error) {
	root, key, err := i.root(ctx)
	if err != nil {
		return nil, err
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, fmt.Errorf("certificate request: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("serial number: %w", err)
	}
	now := i.now()
	t := &x509.Certificate{SerialNumber: serial, DNSNames: csr.DNSNames, NotBefore: now.Add(-min(rootSkew, i.life/20)), NotAfter: now.Add(i.life),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, t, root, csr.PublicKey, key)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	var chain bytes.Buffer
	for _, c := range [][]byte{der, root.Raw} {
		if err := pem.Encode(&chain, &pem.Block{Type: "CERTIFICATE", Bytes: c}); err != nil {
			return nil, fmt.Errorf("certificate: %w", err)
		}
	}
	return &certmagic.IssuedCertificate{Certificate: chain.Bytes()}, nil
}

// root gives the authority's certificate and key, which it makes at first.
func (i *internal) root(ctx context.Context) (*x509.Certificate, crypto.Signer, error) {
	if err := i.storage.Lock(ctx, rootKey); err != nil {
		return nil, nil, fmt.Errorf("internal authority: %w", err)
	}
	defer func() { _ = i.storage.Unlock(ctx, rootKey) }()
	b, err := i.storage.Load(ctx, rootKey)
	if errors.Is(err, fs.ErrNotExist) {
		b, err = i.found(ctx)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("internal authority: %w", err)
	}
	cert, err := firstCertificate(b)
	if err != nil {
		return nil, nil, fmt.Errorf("internal authority: %w", err)
	}
	_, rest := pem.Decode(b)
	key, err := certmagic.PEMDecodePrivateKey(rest)
	if err != nil {
		return nil, nil, fmt.Errorf("internal authority: %w", err)
	}
	return cert, key, nil
}

// found makes the authority.
func (i *internal) found(ctx context.Context) ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	now := i.now()
	t := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Meridian internal authority of " + i.fleet},
		NotBefore: now.Add(-rootSkew), NotAfter: now.Add(rootLife), KeyUsage: x509.KeyUsageCertSign, BasicConstraintsValid: true, IsCA: true, MaxPathLenZero: true}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return nil, err
	}
	text, err := certmagic.PEMEncodePrivateKey(key)
	if err != nil {
		return nil, err
	}
	b := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), text...)
	return b, i.storage.Store(ctx, rootKey, b)
}

// firstCertificate reads the first certificate of a chain in PEM.
func firstCertificate(chain []byte) (*x509.Certificate, error) {
	b, _ := pem.Decode(chain)
	if b == nil || b.Type != "CERTIFICATE" {
		return nil, errors.New("holds no certificate in PEM")
	}
	return x509.ParseCertificate(b.Bytes)
}
