package quic

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"meridian/dns/server"
	"meridian/dns/zone"
	"meridian/fleet"
	"meridian/internal/testkit"
)

// every serves on every transport.
func every(c *server.Config) {
	c.Listen = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}
	c.DNS.TLS = &fleet.DNSListener{Listen: []string{"127.0.0.1:0"}, Certificate: "ns"}
}

// transports are kdig's words for each of ours.
var transports = []struct {
	at    server.Transport
	flags []string
}{
	{server.UDP, nil}, {server.TCP, []string{"+tcp"}}, {server.TLS, []string{"+tls"}}, {server.QUIC, []string{"+quic"}},
	{server.HTTPS, []string{"+https"}}, {server.HTTPS, []string{"+https", "+https-get"}},
}

// kdig gives the sections of an answer.
func kdig(t *testing.T, s *server.Server, at server.Transport, args ...string) string {
	t.Helper()
	a := s.AddrsOf(at)[0]
	args = append([]string{"@" + a.Addr().String(), "-p", fmt.Sprint(a.Port()), "+retry=0", "+time=5", "+nostats", "+noedns"}, args...)
	out, err := exec.Command(testkit.Program(t, "kdig"), args...).CombinedOutput()
	if err != nil {
		t.Errorf("kdig %v: %v\n%s", args, err, out)
	}
	var kept []string
	for line := range strings.Lines(string(out)) {
		if strings.HasPrefix(line, ";; TLS session") || strings.HasPrefix(line, ";; QUIC session") || strings.HasPrefix(line, ";; HTTP session") {
			continue
		}
		if status, _, ok := strings.Cut(line, "; id: "); ok {
			line = status + "\n"
		}
		kept = append(kept, line)
	}
	return strings.Join(kept, "")
}

// The same answer by every transport, as kdig sees it.
func TestKdigByEveryTransport(t *testing.T) {
	s, _ := start(t, every)
	for _, q := range [][]string{
		{"www.demo.test", "A"}, {"demo.test", "SOA"}, {"www.demo.test", "HTTPS"}, {"demo.test", "TYPE65280"},
		{"none.demo.test", "AAAA"}, {"elsewhere.example", "A"}, {"id.server", "TXT", "CH"},
	} {
		var want string
		for i, tr := range transports {
			got := kdig(t, s, tr.at, slices.Concat(tr.flags, q)...)
			if i == 0 {
				want = got
			}
			if got != want || got == "" {
				t.Errorf("%v %v gives\n%s\nand not\n%s", q, tr.flags, got, want)
			}
		}
	}
}

// A PROXY header before each, as kdig writes it.
func TestKdigBehindAProxy(t *testing.T) {
	s, _ := start(t, func(c *server.Config) {
		every(c)
		c.DNS.Proxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	})
	for _, flags := range [][]string{nil, {"+tcp"}} {
		out := kdig(t, s, server.UDP, slices.Concat(flags, []string{"+proxy=203.0.113.9#4444-192.0.2.53#53", "www.demo.test", "A"})...)
		if !strings.Contains(out, "192.0.2.1") {
			t.Errorf("%v: %s", flags, out)
		}
	}
	for _, r := range s.Recent(server.RecentFilter{}) {
		if r.Client.String() != "203.0.113.9:4444" {
			t.Errorf("%s: the client is %s", r.Transport, r.Client)
		}
	}
}

// Chromium resolves through DNS over HTTPS alone (secure mode) and fetches a
// page by a name that only we know.
func TestChromiumResolvesByHTTPS(t *testing.T) {
	chromium := testkit.Program(t, "chromium")
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "<p>the page of "+r.Host+"</p>")
	}))
	defer page.Close()
	s, _ := start(t, nil)
	z, err := zone.Load("only-here.test.", []byte("$TTL 300\n@ SOA ns1 admin 1 3600 600 86400 60\n@ NS ns1\nns1 A 192.0.2.53\npage A 127.0.0.1\n"), "")
	if err != nil {
		t.Fatal(err)
	}
	s.SetZone(z)
	profile := t.TempDir()
	state := fmt.Sprintf(`{"dns_over_https":{"mode":"secure","templates":"https://%s/dns-query"}}`, s.AddrsOf(server.HTTPS)[0])
	if err := os.WriteFile(filepath.Join(profile, "Local State"), []byte(state), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, port, _ := strings.Cut(strings.TrimPrefix(page.URL, "http://"), ":")
	out, err := exec.CommandContext(ctx, chromium, "--headless=new", "--no-sandbox", "--disable-gpu", "--user-data-dir="+profile,
		"--ignore-certificate-errors", "--dump-dom", "http://page.only-here.test:"+port+"/").Output()
	if want := "the page of page.only-here.test:" + port; err != nil || !strings.Contains(string(out), want) {
		t.Errorf("%v: no %q in %s", err, want, out)
	}
	if got := s.Recent(server.RecentFilter{Name: "page.only-here.test"}); len(got) == 0 || got[len(got)-1].Transport != "https" {
		t.Errorf("queries: %+v", got)
	}
}
