package l7

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"time"

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

// connectError says that no connection came about, so that nothing of the
// request was sent.
type connectError struct{ err error }

func (e *connectError) Error() string { return "connect: " + e.err.Error() }
func (e *connectError) Unwrap() error { return e.err }

// newTransport makes the connection pool of one endpoint. Each endpoint has
// its own: they share no lock, and one that goes takes its connections along.
// Whatever host a request names, the connection goes to the endpoint.
func newTransport(key upstreamKey, trust trust) *http.Transport {
	d := &dialer{address: key.target.Endpoint, limit: key.connect, tls: trust.config}
	// Without MPTCP, whose sockets cost more and which endpoints in a
	// data centre gain nothing from.
	d.net.SetMultipathTCP(false)
	return &http.Transport{
		DialContext:            d.plain,
		DialTLSContext:         d.secure,
		DisableCompression:     true, // bodies pass as they are
		MaxIdleConns:           256,
		MaxIdleConnsPerHost:    256,
		IdleConnTimeout:        60 * time.Second,
		ExpectContinueTimeout:  time.Second,
		MaxResponseHeaderBytes: 256 << 10,
		WriteBufferSize:        4 << 10,
		ReadBufferSize:         4 << 10,
	}
}

// dialer connects to one endpoint.
type dialer struct {
	net     net.Dialer
	address string
	limit   time.Duration // for connecting, TLS included; 0 for none
	tls     *tls.Config
}

func (d *dialer) plain(ctx context.Context, _, _ string) (net.Conn, error) {
	ctx, cancel := d.bounded(ctx)
	defer cancel()
	c, err := d.net.DialContext(ctx, "tcp", d.address)
	if err != nil {
		return nil, &connectError{err}
	}
	return c, nil
}

// secure also makes the TLS handshake; the server name is the host in addr.
func (d *dialer) secure(ctx context.Context, _, addr string) (net.Conn, error) {
	ctx, cancel := d.bounded(ctx)
	defer cancel()
	raw, err := d.net.DialContext(ctx, "tcp", d.address)
	if err != nil {
		return nil, &connectError{err}
	}
	config := d.tls.Clone()
	config.ServerName, _, _ = net.SplitHostPort(addr)
	c := tls.Client(raw, config)
	if err := c.HandshakeContext(ctx); err != nil {
		raw.Close()
		return nil, &connectError{err}
	}
	return c, nil
}

func (d *dialer) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if d.limit == 0 {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, d.limit)
}
