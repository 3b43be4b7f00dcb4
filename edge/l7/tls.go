package l7

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"sync"
	"time"

	"meridian/edge/l7/route"
	"meridian/edge/l7/wire"
	"meridian/fleet"
)

// secure is what a generation needs for handshakes. It is immutable, but for
// the ticket keys in its configurations.
type secure struct {
	certs      *route.Certificates
	challenges challenges
	ech        []tls.EncryptedClientHelloKey // the newest first
	auth       []*clientAuth                 // by index in Spec.Services; nil where clients are asked for no certificate
	ports      map[uint16]*portTLS
}

// portTLS is how handshakes at one port go.
type portTLS struct {
	plain *profileTLS         // with services that ask their clients for no certificate
	asks  map[int]*profileTLS // with those that do, by index in Spec.Services
}

// profileTLS is one configuration and its ticket keys.
type profileTLS struct {
	config *tls.Config
	quic   *tls.Config // the same for HTTP/3
	scope  string      // of its ticket keys: a session of one scope is none of another
	keys   tickets
}

// secure compiles the World's part in handshakes; what has not changed is taken
// over from old, which may be nil.
func (g *Gateway) secure(w *fleet.World, old *secure) (*secure, error) {
	spec := w.Snapshot.Spec
	s := &secure{auth: make([]*clientAuth, len(spec.Services)), ports: map[uint16]*portTLS{}}
	var had *route.Certificates
	if old != nil {
		had = old.certs
	}
	var err error
	if s.certs, err = route.Recompile(w, had); err != nil {
		return nil, err
	}
	if s.challenges, err = readChallenges(w); err != nil {
		return nil, err
	}
	if s.ech, err = readECH(w); err != nil {
		return nil, err
	}
	for i := range spec.Services {
		svc := &spec.Services[i]
		if svc.Protocol != fleet.HTTPS {
			continue
		}
		if s.auth[i], err = readClientAuth(w, svc); err != nil {
			return nil, err
		}
		for _, port := range svc.Ports {
			at := s.ports[port]
			if at == nil {
				at = &portTLS{plain: newProfile(g.baseConfig(port), ""), asks: map[int]*profileTLS{}}
				s.ports[port] = at
			}
			if s.auth[i] != nil {
				at.asks[i] = g.asking(port, s.auth[i])
			}
		}
	}
	return s, nil
}

// newProfile makes the configuration for QUIC of that for TCP.
func newProfile(config *tls.Config, scope string) *profileTLS {
	return &profileTLS{config: config, quic: forQUIC(config), scope: scope}
}

// forQUIC is a configuration that agrees on HTTP/3.
func forQUIC(c *tls.Config) *tls.Config {
	c = c.Clone()
	c.NextProtos, c.MinVersion = []string{"h3"}, tls.VersionTLS13
	return c
}

// baseConfig is what all configurations of a port have.
func (g *Gateway) baseConfig(port uint16) *tls.Config {
	protocols := []string{"http/1.1"}
	if g.cfg.HTTP2 != nil {
		protocols = []string{"h2", "http/1.1"}
	}
	return &tls.Config{
		MinVersion:                  tls.VersionTLS12,
		NextProtos:                  protocols,
		GetEncryptedClientHelloKeys: g.echKeys, // whoever is chosen says what to try again with
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			return g.certificate(port, hello)
		},
	}
}

// tlsConfig is what a listener's handshakes begin with. It asks the current
// generation how each goes on, so that what is new serves at once and
// connections stay.
func (g *Gateway) tlsConfig(port uint16, quic bool) *tls.Config {
	c := g.baseConfig(port)
	if quic {
		c = forQUIC(c)
	}
	c.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		gen := g.gen.Load()
		if gen == nil {
			return nil, errNoSnapshot
		}
		name := serverName(hello)
		if c := gen.tls.challenges.config(name, hello.SupportedProtos); c != nil {
			return c, nil
		}
		p := gen.profile(port, name)
		if p == nil {
			return nil, nil
		}
		if g.cfg.TicketKey != nil {
			p.keys.install(p, g.cfg.TicketKey, p.scope, g.wall().UnixNano()/int64(g.cfg.TicketPeriod))
		}
		if quic {
			return p.quic, nil
		}
		return p.config, nil
	}
	return c
}

// serverName gives the name that a client asks for, in lower case, without a
// final dot.
func serverName(hello *tls.ClientHelloInfo) string {
	return strings.ToLower(strings.TrimSuffix(hello.ServerName, "."))
}

// profile gives how handshakes for a server name go: as the service asks that
// has the name. It is nil where the port has no https service any more.
func (gen *generation) profile(port uint16, name string) *profileTLS {
	at := gen.tls.ports[port]
	if at == nil || len(at.asks) == 0 {
		return at.any()
	}
	m, _ := gen.table.Find(port, name, "/", &wire.Head{})
	if p := at.asks[m.Service]; p != nil {
		return p
	}
	return at.plain
}

func (at *portTLS) any() *profileTLS {
	if at == nil {
		return nil
	}
	return at.plain
}

var errNoSnapshot = errors.New("no snapshot yet")

// certificate picks by server name: of the certificates for the name the first
// that the client can use (so an ECDSA one may stand before an RSA one). A
// client that names no server gets the first certificate of the Spec. A client
// that names one for which there is no certificate gets the first as well
// where a service takes any host, else the alert unrecognized_name (RFC 6066
// section 3), as HAProxy with strict-sni and nginx with ssl_reject_handshake:
// a certificate for another name would only move the error into the browser.
// Layer 4's checks get one of the gateway's own as long as there is none.
func (g *Gateway) certificate(port uint16, hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	gen := g.gen.Load()
	if gen == nil {
		return nil, errNoSnapshot
	}
	name := serverName(hello)
	list := gen.tls.certs.Find(name)
	if len(list) == 0 && name != "" && g.cfg.Demand != nil {
		if list = g.demand(hello.Context(), name); len(list) == 0 {
			gen = g.gen.Load()
		}
	}
	for _, c := range list {
		if len(list) == 1 || hello.SupportsCertificate(c) == nil {
			return c, nil
		}
	}
	if len(list) > 0 {
		return list[0], nil
	}
	if name == fleet.GatewayHost && gen.tls.certs.Default() == nil {
		return g.own()
	}
	if name == "" || name == fleet.GatewayHost || gen.table.AnyHost(port) {
		return gen.tls.certs.Default(), nil
	}
	return nil, nil // crypto/tls sends unrecognized_name
}

// ownCertificate makes the certificate that layer 4's checks get where the
// fleet has none yet. Nobody verifies it.
func ownCertificate(now time.Time) func() (*tls.Certificate, error) {
	return sync.OnceValues(func() (*tls.Certificate, error) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, fmt.Errorf("own certificate: %w", err)
		}
		t := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: fleet.GatewayHost}, DNSNames: []string{fleet.GatewayHost},
			NotBefore: now.Add(-24 * time.Hour), NotAfter: now.AddDate(10, 0, 0), KeyUsage: x509.KeyUsageDigitalSignature}
		der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
		if err != nil {
			return nil, fmt.Errorf("own certificate: %w", err)
		}
		return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
	})
}
