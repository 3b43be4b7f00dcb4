package l7

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"

	"meridian/fleet"
)

// trust is how the endpoints of a pool are verified. The zero trust is for
// plain pools.
type trust struct {
	id     [sha256.Size]byte // equal for equal trust
	config *tls.Config
	pem    []byte // authorities, for checks
}

// trust reads what the pool's tls says.
func (b *builder) trust(p *fleet.Pool) (trust, error) {
	if p.TLS == nil {
		return trust{}, nil
	}
	t := trust{config: &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}, InsecureSkipVerify: p.TLS.Insecure,
		ClientSessionCache: tls.NewLRUClientSessionCache(64),
	}}
	if p.TLS.CA != "" {
		obj, ok := b.world.Objects[fleet.ObjectKey{Kind: fleet.ObjectCA, ID: p.TLS.CA}]
		if !ok {
			return trust{}, fmt.Errorf("the authorities %.60q are not among the objects", p.TLS.CA)
		}
		t.pem = bytes.Clone(obj.Data)
		t.config.RootCAs = x509.NewCertPool()
		if !t.config.RootCAs.AppendCertsFromPEM(t.pem) {
			return trust{}, fmt.Errorf("the authorities %.60q hold no certificate in PEM", p.TLS.CA)
		}
	}
	own, text, err := endpointCertificate(b.world, p.TLS)
	if err != nil {
		return trust{}, err
	}
	if own != nil {
		t.config.Certificates = []tls.Certificate{*own}
	}
	t.id = sha256.Sum256(fmt.Appendf(nil, "%t %x %x", p.TLS.Insecure, t.pem, text))
	return t, nil
}
