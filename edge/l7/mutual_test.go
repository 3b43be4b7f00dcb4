package l7

import (
	"bufio"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"meridian/edge/l7/hop"
	"meridian/fleet"
	"meridian/internal/testkit"
)

// mutualSpec is a fleet with three https services at one port: www asks for a
// certificate, may takes one, open asks for none.
func mutualSpec(endpoint, ca string) string {
	service := func(name, host, auth string) string {
		return fmt.Sprintf("- {service: %s, protocol: https, ports: [443], hosts: [%s]%s, pools: [{id: main, endpoints: [{address: %q}]}]}\n", name, host, auth, endpoint)
	}
	return "regions: [{id: fra, location: {latitude: 50, longitude: 8}, vips: {v4: [192.0.2.1]}}]\n" +
		"nodes: [{name: n1, region: fra, roles: [l7], addresses: {v4: 10.0.0.1}}]\nservices:\n" +
		service("must", "must.demo.test", ", client_auth: {ca: "+ca+"}") + service("may", "may.demo.test", ", client_auth: {ca: "+ca+", mode: optional}") +
		service("open", "open.demo.test", "") + "certificates: [{id: c1, cert: \"file:c1.pem\", key: \"file:c1.key\"}]\n"
}

// mutualRig is a gateway on that Spec; what endpoints are told of the client's
// certificate comes back as the answer.
func mutualRig(t *testing.T, authority *testkit.Authority, change ...func(*Config)) (*rig, *x509.CertPool) {
	t.Helper()
	at := backend(t, "", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s|%s|%s", r.Header.Get("X-Client-Cert-Subject"), r.Header.Get("X-Client-Cert-Sha256"), r.Header.Get("Client-Cert"))
	})
	add := func(ref string, a *testkit.Authority) func(*rig) {
		return func(r *rig) {
			key := fleet.ObjectKey{Kind: fleet.ObjectCA, ID: ref}
			r.objects[key] = fleet.Object{Key: key, Data: a.PEM}
		}
	}
	r := newRig(t, httpsSpec("", at), change...)
	pool := r.certificate("c1", "*.demo.test")
	add("file:clients.pem", authority)(r)
	if err := r.apply(mutualSpec(at, "file:clients.pem")); err != nil {
		t.Fatal(err)
	}
	return r, pool
}

// visit sends one request for a host over a connection for a name.
func visit(r *rig, cfg *tls.Config, name, host string) (status int, body string, err error) {
	cfg = cfg.Clone()
	cfg.ServerName = name
	c, err := tls.Dial("tcp", r.addr("192.0.2.1:443"), cfg)
	if err != nil {
		return 0, "", err
	}
	defer c.Close()
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: "+host+"\r\nConnection: close\r\nX-Client-Cert-Subject: CN=admin\r\n"+
		"X_Client_Cert_Sha256: 00\r\nClient-Cert: :AA==:\r\n\r\n"); err != nil {
		return 0, "", err
	}
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return res.StatusCode, string(b), err
}

func TestClientsAreAskedForCertificatesByServerName(t *testing.T) {
	authority, stranger := testkit.NewAuthority(t), testkit.NewAuthority(t)
	r, pool := mutualRig(t, authority)
	cfg := func(pem []byte) *tls.Config {
		c := &tls.Config{RootCAs: pool}
		if pem != nil {
			pair, err := tls.X509KeyPair(pem, pem)
			if err != nil {
				t.Fatal(err)
			}
			// Shown whatever authorities the server names.
			c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
		}
		return c
	}
	good := authority.Issue(t, "alice")
	pair, _ := tls.X509KeyPair(good, good)
	sum := sha256.Sum256(pair.Leaf.Raw)
	alice := "CN=alice|" + hex.EncodeToString(sum[:]) + "|"
	for _, c := range []struct {
		what, name, host string
		pem              []byte
		status           int // 0: no connection
		body             string
	}{
		{"none where one is required", "must.demo.test", "must.demo.test", nil, 0, ""},
		{"one where one is required", "must.demo.test", "must.demo.test", good, 200, alice},
		{"a stranger's", "must.demo.test", "must.demo.test", stranger.Issue(t, "mallory"), 0, ""},
		{"none where one is optional", "may.demo.test", "may.demo.test", nil, 200, "||"},
		{"one where one is optional", "may.demo.test", "may.demo.test", good, 200, alice},
		{"a stranger's where one is optional", "may.demo.test", "may.demo.test", stranger.Issue(t, "mallory"), 0, ""},
		{"none where none is asked for, and what the client says of one", "open.demo.test", "open.demo.test", good, 200, "||"},
		{"a request for another host over a connection without one", "open.demo.test", "must.demo.test", good, 421, ""},
		{"over one where it is optional and not shown", "may.demo.test", "must.demo.test", nil, 421, ""},
		{"over one where it was shown", "may.demo.test", "must.demo.test", good, 200, alice},
	} {
		status, body, err := visit(r, cfg(c.pem), c.name, c.host)
		if status != c.status || c.status == 200 && body != c.body || (err == nil) != (c.status != 0) {
			t.Errorf("%s: %d %q, %v", c.what, status, body, err)
		}
	}
}

// A session that began without a certificate, or for other authorities, opens
// no service that asks for one.
func TestASessionOfOneServiceIsNoneOfAnother(t *testing.T) {
	authority := testkit.NewAuthority(t)
	r, pool := mutualRig(t, authority, func(c *Config) {
		c.TicketKey = func(scope string, epoch int64) [32]byte { return sha256.Sum256([]byte(fmt.Sprint(scope, epoch))) }
	})
	cache := &oneSession{}
	cfg := &tls.Config{RootCAs: pool, ClientSessionCache: cache}
	if status, _, err := visit(r, cfg, "open.demo.test", "open.demo.test"); status != 200 {
		t.Fatal(status, err)
	}
	if cache.state == nil {
		t.Fatal("no ticket has come")
	}
	if status, _, err := visit(r, cfg, "must.demo.test", "must.demo.test"); err == nil {
		t.Errorf("resumed at a service that asks for a certificate: %d", status)
	}
}

// oneSession gives one session for every name.
type oneSession struct{ state *tls.ClientSessionState }

func (s *oneSession) Get(string) (*tls.ClientSessionState, bool) { return s.state, s.state != nil }
func (s *oneSession) Put(_ string, cs *tls.ClientSessionState) {
	if cs != nil {
		s.state = cs
	}
}

// Endpoints that ask for it are shown the pool's certificate, by requests and
// by checks.
func TestEndpointsAreShownTheGatewaysCertificate(t *testing.T) {
	authority := testkit.NewAuthority(t)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, r.TLS.PeerCertificates[0].Subject.CommonName)
	}))
	pem := authority.Issue(t, "endpoint.test", "127.0.0.1")
	pair, err := tls.X509KeyPair(pem, pem)
	if err != nil {
		t.Fatal(err)
	}
	server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: authority.Pool}
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // of gateways before they have the certificate
	server.StartTLS()
	t.Cleanup(server.Close)
	at := server.Listener.Addr().String()
	r := newRig(t, httpSpec("", backend(t, "x", nil)))
	key := fleet.ObjectKey{Kind: fleet.ObjectCA, ID: "file:ca.pem"}
	r.objects[key] = fleet.Object{Key: key, Data: authority.PEM}
	own := fleet.ObjectKey{Kind: fleet.ObjectCertificate, ID: "gw"}
	r.objects[own] = fleet.Object{Key: own, Data: authority.Issue(t, "gateway.test")}
	spec := strings.Replace(httpSpec("", at), "- id: main\n", "- id: main\n    tls: {server_name: endpoint.test, ca: \"file:ca.pem\", certificate: gw}\n", 1) +
		"certificates: [{id: gw, cert: \"file:gw.pem\", key: \"file:gw.key\"}]\n"
	if err := r.apply(spec); err != nil {
		t.Fatal(err)
	}
	r.waitState(at, fleet.Up)
	if status, body := get(t, r.client("192.0.2.1:80", nil), "http://www.demo.test/"); status != 200 || body != "gateway.test" {
		t.Errorf("%d %q", status, body)
	}
}

// Another region's gateway would be shown no certificate of the client's: requests of
// services that ask for one stay.
func TestRequestsWithCertificatesStayInTheirRegion(t *testing.T) {
	r, _ := mutualRig(t, testkit.NewAuthority(t))
	at := dead(t)
	r.g.cfg.HopKey = hop.Key("the fleet's")
	spec := strings.Replace(mutualSpec(at, "file:clients.pem"), "regions: [", "regions: [{id: nyc, location: {latitude: 40, longitude: -74}, vips: {v4: [192.0.2.2]}}, ", 1)
	if err := r.apply(spec); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]int{"must": 0, "may": 0, "open": 1} {
		if n := len(r.g.gen.Load().service(name).pools[0].next); n != want {
			t.Errorf("%s: other regions at %d ports", name, n)
		}
	}
}
