package l7

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"strings"

	"meridian/edge/l7/wire"
	"meridian/fleet"
)

// clientAuth is which certificates the clients of a service show.
type clientAuth struct {
	mode  tls.ClientAuthType
	cas   *x509.CertPool
	roots map[string]bool // the same, as their octets
	scope string          // equal for those that take the same
}

// readClientAuth reads what a service asks of its clients; nil for nothing.
func readClientAuth(w *fleet.World, svc *fleet.Service) (*clientAuth, error) {
	a := svc.ClientAuth
	if a == nil {
		return nil, nil
	}
	obj, ok := w.Objects[fleet.ObjectKey{Kind: fleet.ObjectCA, ID: a.CA}]
	if !ok {
		return nil, fmt.Errorf("service %q: the authorities %.60q are not among the objects", svc.Service, a.CA)
	}
	out := &clientAuth{mode: tls.RequireAndVerifyClientCert, cas: x509.NewCertPool(), roots: map[string]bool{},
		scope: "client " + hex.EncodeToString(fingerprint(append([]byte(a.Mode+"\n"), obj.Data...)))}
	if a.Mode == fleet.AuthOptional {
		out.mode = tls.VerifyClientCertIfGiven
	}
	for b, rest := pem.Decode(obj.Data); b != nil; b, rest = pem.Decode(rest) {
		root, err := x509.ParseCertificate(b.Bytes)
		if err != nil {
			return nil, fmt.Errorf("service %q: client_auth.ca: %w", svc.Service, err)
		}
		out.cas.AddCert(root)
		out.roots[string(root.Raw)] = true
	}
	if len(out.roots) == 0 {
		return nil, fmt.Errorf("service %q: the authorities %.60q hold no certificate in PEM", svc.Service, a.CA)
	}
	return out, nil
}

// asking is the configuration of a port that asks clients for certificates.
func (g *Gateway) asking(port uint16, a *clientAuth) *profileTLS {
	c := g.baseConfig(port)
	c.ClientAuth, c.ClientCAs = a.mode, a.cas
	c.SessionTicketsDisabled = g.cfg.TicketKey == nil // else one of Go's own keys would serve all profiles
	return newProfile(c, a.scope)
}

func fingerprint(b []byte) []byte {
	sum := sha256.Sum256(b)
	return sum[:]
}

// clientSubject and clientHash tell an endpoint whose certificate was verified:
// its subject as RFC 2253 writes it, and the SHA-256 of the certificate in hex.
const (
	clientSubject = "X-Client-Cert-Subject"
	clientHash    = "X-Client-Cert-Sha256"
)

// admits says whether the connection that a request for a service came by was
// made as the service asks: its handshake may have been for another name, and
// before the authorities were changed. cs is nil for one without TLS. Where it
// does not, the answer is 421 (RFC 9110 section 15.5.20).
func (gen *generation) admits(service int, cs *tls.ConnectionState) bool {
	a := gen.tls.auth[service]
	switch {
	case a == nil:
		return true
	case cs == nil:
		return false
	case len(cs.VerifiedChains) == 0: // as the handshake of this service may end too
		return a.mode == tls.VerifyClientCertIfGiven && len(cs.PeerCertificates) == 0
	}
	for _, chain := range cs.VerifiedChains {
		if a.roots[string(chain[len(chain)-1].Raw)] {
			return true
		}
	}
	return false
}

// tellClientCert adds what an endpoint is told of the certificate that a client
// of the service has proved to hold.
func (gen *generation) tellClientCert(h *wire.Head, service int, cs *tls.ConnectionState) {
	if cs == nil || len(cs.VerifiedChains) == 0 || gen.tls.auth[service] == nil {
		return
	}
	leaf := cs.VerifiedChains[0][0]
	h.Add(clientSubject, leaf.Subject.String())
	h.Add(clientHash, hex.EncodeToString(fingerprint(leaf.Raw)))
}

// endpointCertificate gives the certificate that the pool's endpoints are
// shown, nil for none, and its PEM for checks.
func endpointCertificate(w *fleet.World, p *fleet.PoolTLS) (*tls.Certificate, []byte, error) {
	if p.Certificate == "" {
		return nil, nil, nil
	}
	obj, ok := w.Objects[fleet.ObjectKey{Kind: fleet.ObjectCertificate, ID: p.Certificate}]
	if !ok {
		return nil, nil, fmt.Errorf("certificate %q is not among the objects", p.Certificate)
	}
	pair, err := tls.X509KeyPair(obj.Data, obj.Data)
	if err != nil {
		return nil, nil, fmt.Errorf("certificate %q: %s", p.Certificate, strings.TrimPrefix(err.Error(), "tls: "))
	}
	return &pair, obj.Data, nil
}
