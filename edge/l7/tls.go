package l7

import (
	"crypto/tls"
	"errors"
	"strings"

	"meridian/fleet"
)

// tlsConfig asks the current generation for the certificate of each handshake,
// so that a new one serves at once and connections stay.
func (g *Gateway) tlsConfig(port uint16) *tls.Config {
	protocols := []string{"http/1.1"}
	if g.cfg.HTTP2 != nil {
		protocols = []string{"h2", "http/1.1"}
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: protocols,
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			return g.certificate(port, hello)
		},
	}
}

var errNoSnapshot = errors.New("no snapshot yet")

// certificate picks by server name: of the certificates for the name the first
// that the client can use (so an ECDSA one may stand before an RSA one). A
// client that names no server gets the first certificate of the Spec. A client
// that names one for which there is no certificate gets the first as well
// where a service takes any host, else the alert unrecognized_name (RFC 6066
// section 3), as HAProxy with strict-sni and nginx with ssl_reject_handshake:
// a certificate for another name would only move the error into the browser.
func (g *Gateway) certificate(port uint16, hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	gen := g.gen.Load()
	if gen == nil {
		return nil, errNoSnapshot
	}
	name := strings.ToLower(strings.TrimSuffix(hello.ServerName, "."))
	if list := gen.certs.Find(name); len(list) > 0 {
		for _, c := range list {
			if len(list) == 1 || hello.SupportsCertificate(c) == nil {
				return c, nil
			}
		}
		return list[0], nil
	}
	if name == "" || name == fleet.GatewayHost || gen.table.AnyHost(port) {
		return gen.certs.Default(), nil
	}
	return nil, nil // crypto/tls sends unrecognized_name
}
