package probe

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"meridian/fleet"
)

// maxBody is how much of a body is looked at, in octets.
const maxBody = 5120

// request makes one HTTP/1.1 GET on a connection of its own. Redirects are
// answers like any other. expiry is when the first certificate of the chain
// runs out, also where the request fails for it.
func (p *Prober) request(ctx context.Context, pr *fleet.Probe) (expiry time.Time, err error) {
	path, query, _ := strings.Cut(pr.Path, "?")
	req, err := newRequest(ctx, pr, http.MethodGet, url.URL{Path: path, RawQuery: query}, nil)
	if err != nil {
		return expiry, err
	}
	err = p.roundTrip(req, pr, "http/1.1", &expiry, func(resp *http.Response) error { return expect(resp, &pr.Expect) })
	return expiry, err
}

// roundTrip sends a request on a connection of its own, over TLS where its
// scheme is https, and has the response judged.
func (p *Prober) roundTrip(req *http.Request, pr *fleet.Probe, alpn string, expiry *time.Time, judge func(*http.Response) error) (err error) {
	tr := &http.Transport{
		DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: 64 << 10, Protocols: new(http.Protocols),
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return p.dial(ctx, network, pr.Address.String())
		},
	}
	defer tr.CloseIdleConnections()
	secure := req.URL.Scheme == "https"
	tr.Protocols.SetHTTP1(alpn == "http/1.1")
	tr.Protocols.SetHTTP2(alpn == "h2" && secure)
	tr.Protocols.SetUnencryptedHTTP2(alpn == "h2" && !secure)
	if secure {
		if tr.TLSClientConfig, err = p.tlsConfig(pr, alpn, expiry); err != nil {
			return err
		}
	}
	resp, err := tr.RoundTrip(req)
	if err == nil {
		defer resp.Body.Close()
		err = judge(resp)
	}
	// The transport may tell of the closed connection where the reason is that
	// time ran out.
	if cause := context.Cause(req.Context()); err != nil && cause != nil {
		err = cause
	}
	return err
}

// newRequest makes a request to the probe's host by the probe's scheme: where
// it connects to is for roundTrip to say.
func newRequest(ctx context.Context, pr *fleet.Probe, method string, u url.URL, body io.Reader) (*http.Request, error) {
	u.Scheme, u.Host = "http", pr.Host
	if pr.Check == "https" || pr.Check == "grpcs" {
		u.Scheme = "https"
	}
	if u.Host == "" {
		u.Host = pr.Address.String()
	}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), body)
	if err != nil {
		return nil, failf(fleet.CauseOther, "%s", err)
	}
	req.Header.Set("User-Agent", "meridian-probe")
	return req, nil
}

// expect holds a response against what a healthy one is; without a word on
// the status, 2xx is.
func expect(resp *http.Response, want *fleet.Expect) error {
	status := want.Status
	if len(status) == 0 {
		status = []string{"2xx"}
	}
	ok := false
	for _, s := range status {
		lo, hi, err := fleet.ParseStatus(s)
		ok = ok || err == nil && lo <= resp.StatusCode && resp.StatusCode <= hi
	}
	if !ok {
		return failf(fleet.CauseStatus, "status %d, expected %s", resp.StatusCode, strings.Join(status, " or "))
	}
	if want.Body == "" {
		return nil
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if strings.Contains(string(body), want.Body) {
		return nil
	}
	if err != nil {
		return err
	}
	return failf(fleet.CauseBody, "the body's first %d octets do not hold the text expected", len(body))
}

// tlsConfig verifies the peer against the probe's authorities. A probe
// without a name verifies the chain and its dates alone. Verification stands
// in a callback so that the chain's expiry is noted whatever comes of it.
func (p *Prober) tlsConfig(pr *fleet.Probe, alpn string, expiry *time.Time) (*tls.Config, error) {
	name := pr.TLSName
	if name == "" {
		name = pr.Host
	}
	if h, _, err := net.SplitHostPort(name); err == nil {
		name = h
	}
	var roots *x509.CertPool // nil: the system's
	if len(pr.CA) > 0 && !pr.Insecure {
		var err error
		if roots, err = p.pool(pr.CA); err != nil {
			return nil, err
		}
	}
	var own []tls.Certificate
	if len(pr.Certificate) > 0 {
		pair, err := tls.X509KeyPair(pr.Certificate, pr.Certificate)
		if err != nil {
			return nil, failf(fleet.CauseTLS, "own certificate: %s", strings.TrimPrefix(err.Error(), "tls: "))
		}
		own = append(own, pair)
	}
	return &tls.Config{
		Certificates: own,
		ServerName:   name, MinVersion: tls.VersionTLS12, NextProtos: []string{alpn},
		InsecureSkipVerify: true, // VerifyConnection does it
		VerifyConnection: func(cs tls.ConnectionState) error {
			*expiry = earliest(cs.PeerCertificates)
			if pr.Insecure {
				return nil
			}
			return verify(cs.PeerCertificates, roots, name)
		},
	}, nil
}

func earliest(chain []*x509.Certificate) (t time.Time) {
	for _, c := range chain {
		if t.IsZero() || c.NotAfter.Before(t) {
			t = c.NotAfter
		}
	}
	return t
}

func verify(chain []*x509.Certificate, roots *x509.CertPool, name string) error {
	if len(chain) == 0 {
		return failf(fleet.CauseTLS, "the peer showed no certificate")
	}
	opts := x509.VerifyOptions{Roots: roots, DNSName: name, Intermediates: x509.NewCertPool()}
	for _, c := range chain[1:] {
		opts.Intermediates.AddCert(c)
	}
	if _, err := chain[0].Verify(opts); err != nil {
		return &tls.CertificateVerificationError{UnverifiedCertificates: chain, Err: err}
	}
	return nil
}

// maxPools bounds the cache of authorities; a fleet uses a handful.
const maxPools = 64

func (p *Prober) pool(pem []byte) (*x509.CertPool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if pool, ok := p.pools[string(pem)]; ok {
		return pool, nil
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, failf(fleet.CauseTLS, "the probe's authorities hold no certificate in PEM")
	}
	if len(p.pools) >= maxPools {
		clear(p.pools)
	}
	p.pools[string(pem)] = pool
	return pool, nil
}
