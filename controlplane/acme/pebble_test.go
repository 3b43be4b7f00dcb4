package acme

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"meridian/internal/testkit"
)

// pebble is the ACME test server behind a proxy that can break it.
type pebble struct {
	t      testing.TB
	url    string // of the directory
	ca     []byte // that the directory's own certificate is of
	manage string
	broken atomic.Bool
	client *http.Client

	replacing atomic.Int64 // orders that say which certificate they replace
}

// newPebble runs Pebble, which asks the rig's nameserver and gateways.
func newPebble(r *rig, retryAfter string, change ...func(map[string]any)) *pebble {
	t := r.t
	t.Helper()
	program := testkit.Program(t, "pebble")
	dir := t.TempDir()
	authority := testkit.NewAuthority(t)
	pair := authority.Issue(t, "127.0.0.1")
	var cert, key bytes.Buffer
	for b, rest := pem.Decode(pair); b != nil; b, rest = pem.Decode(rest) {
		if b.Type == "CERTIFICATE" {
			_ = pem.Encode(&cert, b)
		} else {
			_ = pem.Encode(&key, b)
		}
	}
	listen, manage := testkit.FreePort(t, "127.0.0.1"), testkit.FreePort(t, "127.0.0.1")
	write := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	settings := map[string]any{
		"listenAddress": fmt.Sprintf("127.0.0.1:%d", listen), "managementListenAddress": fmt.Sprintf("127.0.0.1:%d", manage),
		"certificate": write("cert.pem", cert.Bytes()), "privateKey": write("key.pem", key.Bytes()),
		"httpPort": r.ports[80], "tlsPort": r.ports[443], "keyAlgorithm": "ecdsa", "retryAfter": map[string]int{"authz": 1, "order": 1},
		"profiles": map[string]any{"default": map[string]any{"description": "default", "validityPeriod": 7776000}}}
	for _, f := range change {
		f(settings)
	}
	cfg, _ := json.Marshal(map[string]any{"pebble": settings})
	r.until("the nameserver", func() bool { return len(r.dns.Addrs()) > 0 })
	if r.asked == "" {
		r.asked = r.dns.Addrs()[0].String()
	}
	cmd := exec.Command(program, "-config", write("config.json", cfg), "-dnsserver", r.asked)
	cmd.Env = append(os.Environ(), "PEBBLE_VA_NOSLEEP=1", "PEBBLE_WFE_NONCEREJECT=5", "PEBBLE_AUTHZREUSE=0")
	out := new(testkit.Buffer)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("pebble:\n%s", tail(out.String(), 6000))
		}
	})
	p := &pebble{t: t, manage: fmt.Sprintf("https://127.0.0.1:%d", manage),
		client: &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: authority.Pool}}}}
	t.Cleanup(p.client.CloseIdleConnections)
	p.proxy(fmt.Sprintf("https://127.0.0.1:%d", listen), authority.Pool, retryAfter)
	r.until("Pebble", func() bool {
		res, err := p.client.Get(fmt.Sprintf("https://127.0.0.1:%d/dir", listen))
		if err == nil {
			res.Body.Close()
		}
		return err == nil
	})
	return p
}

func tail(s string, n int) string { return s[max(0, len(s)-n):] }

// proxy stands between; it makes renewal information run out soon.
func (p *pebble) proxy(to string, roots *x509.CertPool, retryAfter string) {
	u, _ := url.Parse(to)
	rp := &httputil.ReverseProxy{
		Rewrite: func(pr *httputil.ProxyRequest) {
			pr.SetURL(u)
			pr.Out.Host = pr.In.Host // so that the directory names the proxy
		},
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}},
		ModifyResponse: func(res *http.Response) error {
			if strings.Contains(res.Request.URL.Path, "renewalInfo") && retryAfter != "" {
				res.Header.Set("Retry-After", retryAfter)
			}
			return nil
		},
	}
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if p.broken.Load() {
			http.Error(w, "broken", http.StatusInternalServerError)
			return
		}
		body, _ := io.ReadAll(q.Body)
		q.Body = io.NopCloser(bytes.NewReader(body))
		var signed struct{ Payload string }
		_ = json.Unmarshal(body, &signed)
		if said, _ := base64.RawURLEncoding.DecodeString(signed.Payload); bytes.Contains(said, []byte(`"replaces":`)) {
			p.replacing.Add(1)
		}
		rp.ServeHTTP(w, q)
	}))
	p.t.Cleanup(s.Close)
	p.t.Cleanup(rp.Transport.(*http.Transport).CloseIdleConnections)
	p.url = s.URL + "/dir"
	p.ca = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
}

// roots gives the authority that Pebble issues under.
func (p *pebble) roots() *x509.CertPool {
	p.t.Helper()
	pool := x509.NewCertPool()
	res, err := p.client.Get(p.manage + "/roots/0")
	if err != nil {
		p.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil || !pool.AppendCertsFromPEM(b) {
		p.t.Fatalf("root: %v", err)
	}
	return pool
}

// renewNow has Pebble say that a certificate is to be renewed at once.
func (p *pebble) renewNow(c *x509.Certificate) {
	p.t.Helper()
	ago := func(d time.Duration) string { return time.Now().Add(-d).UTC().Format(time.RFC3339) }
	info := fmt.Sprintf(`{"suggestedWindow":{"start":%q,"end":%q}}`, ago(2*time.Hour), ago(time.Hour))
	body, _ := json.Marshal(map[string]string{"Certificate": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})), "ARIResponse": info})
	res, err := p.client.Post(p.manage+"/set-renewal-info/", "application/json", bytes.NewReader(body))
	if err != nil || res.StatusCode != http.StatusOK {
		p.t.Fatalf("renewal info: %v, %v", res, err)
	}
	res.Body.Close()
}
