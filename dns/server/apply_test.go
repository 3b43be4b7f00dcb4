package server

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"meridian/dns/answer"
	"meridian/dns/zone"
	"meridian/fleet"
	"meridian/internal/testkit"
)

// with gives a World whose Spec has more of dns.
func with(t testing.TB, more string, objects map[fleet.ObjectKey]fleet.Object) *fleet.World {
	t.Helper()
	w := world(t, strings.Replace(spec, "zones:", "dns: {"+more+"}\nzones:", 1))
	w.Objects = objects
	return w
}

// A server that cannot listen where the Spec says goes on trying, and takes
// another Spec that says otherwise.
func TestAnAddressThatIsTakenIsWaitedFor(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	var log testkit.Buffer
	s, err := New(Config{Logger: slog.New(slog.NewTextHandler(&log, nil)), Identity: answer.Identity{Node: "fra-1"}})
	if err != nil {
		t.Fatal(err)
	}
	apply := func(port uint16) {
		t.Helper()
		if err := s.Apply(with(t, fmt.Sprintf("listen: ['127.0.0.1:%d']", port), nil)); err != nil {
			t.Fatal(err)
		}
	}
	apply(netip.MustParseAddrPort(taken.Addr().String()).Port())
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	for !strings.Contains(log.String(), "cannot listen") {
		runtime.Gosched()
	}
	if s.Listening() {
		t.Error("the server listens where another does")
	}
	apply(testkit.FreePort(t, "127.0.0.1"))
	for !s.Listening() {
		runtime.Gosched()
	}
	if m := exchange1(t, "udp", s.Addrs()[0], "www.demo.test.", dns.TypeA); len(m.Answer) != 1 {
		t.Errorf("%v", m)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// A server that is ended while it waits for its address ends without an error.
func TestWaitingForAnAddressEnds(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	s, err := New(Config{Logger: slog.New(slog.DiscardHandler), DNS: fleet.DNS{Listen: []string{taken.Addr().String()}}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Run(ctx); err != nil {
		t.Error(err)
	}
	if s, err = New(Config{Logger: slog.New(slog.DiscardHandler), Listen: []netip.AddrPort{netip.MustParseAddrPort(taken.Addr().String())}}); err != nil {
		t.Fatal(err)
	}
	if err := s.Run(t.Context()); err == nil {
		t.Error("an address of the command line is waited for")
	}
}

// Listeners follow the Spec while the server runs; queries on those that stay
// go on.
func TestListenersFollowTheSpec(t *testing.T) {
	one, two := testkit.FreePort(t, "127.0.0.1"), testkit.FreePort(t, "127.0.0.1")
	s := start(t, func(c *Config) { c.Listen = nil; c.DNS.Listen = []string{fmt.Sprintf("127.0.0.1:%d", one)} })
	listen := func(addrs ...string) string { return "listen: ['" + strings.Join(addrs, "', '") + "']" }
	at := func(ip string, port uint16) string { return fmt.Sprintf("%s:%d", ip, port) }
	if err := s.Apply(with(t, listen(at("127.0.0.1", one)), nil)); err != nil {
		t.Fatal(err)
	}
	c := dialTCP(t, s)
	still := func(what string) {
		t.Helper()
		send(t, c, query("www.demo.test.", dns.TypeA, 1))
		if len(receive(t, c).Answer) != 1 {
			t.Errorf("%s: the connection is of no use", what)
		}
	}
	still("at first")
	if err := s.Apply(with(t, listen(at("127.0.0.1", one), at("127.0.0.2", two)), nil)); err != nil {
		t.Fatal(err)
	}
	still("with a second address")
	for _, network := range []string{"udp", "tcp"} {
		exchange1(t, network, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.2"), two), "www.demo.test.", dns.TypeA)
	}
	// An address that is taken: the error names the field, and all stays.
	taken, err := net.Listen("tcp", "127.0.0.3:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	before, plan := s.Addrs(), s.Plan()
	err = s.Apply(with(t, listen(at("127.0.0.1", one), at("127.0.0.4", two), taken.Addr().String()), nil))
	if err == nil || !strings.Contains(err.Error(), "dns.listen[2]: ") || !strings.Contains(err.Error(), "in use") {
		t.Errorf("%v", err)
	}
	if fmt.Sprint(s.Addrs()) != fmt.Sprint(before) || s.Plan() != plan {
		t.Errorf("a World that was refused has changed what is served: %v", s.Addrs())
	}
	if _, err := net.DialTimeout("tcp", at("127.0.0.4", two), time.Second); err == nil {
		t.Error("an address of a World that was refused is listened on")
	}
	still("after a World that was refused")
	// From one address to all of them at the same port, and back.
	queries := counter(t, s, "meridian_dns_queries_total tcp")
	if err := s.Apply(with(t, listen(at("0.0.0.0", one)), nil)); err != nil {
		t.Fatal(err)
	}
	exchange1(t, "udp", netip.AddrPortFrom(netip.MustParseAddr("127.0.0.9"), one), "www.demo.test.", dns.TypeA)
	closed(t, "an address that is not listened on any more", c)
	if _, err := net.DialTimeout("tcp", at("127.0.0.2", two), time.Second); err == nil {
		t.Error("an address that is not wanted any more is listened on")
	}
	if n := counter(t, s, "meridian_dns_queries_total tcp"); n < queries {
		t.Errorf("%v queries counted after %v", n, queries)
	}
	if err := s.Apply(with(t, listen(at("127.0.0.1", one)), nil)); err != nil {
		t.Fatal(err)
	}
	still2 := exchange1(t, "tcp", netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), one), "www.demo.test.", dns.TypeA)
	if len(still2.Answer) != 1 {
		t.Error(still2)
	}
}

// Two servers do not share an address by accident.
func TestAnAddressIsOneServers(t *testing.T) {
	s := start(t, nil)
	other, err := New(Config{Listen: s.Addrs(), Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Open(t.Context()); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("%v", err)
	}
}

// Certificates are swapped without a restart; one that cannot be used changes
// nothing.
func TestCertificateReplaced(t *testing.T) {
	s := start(t, nil)
	ca := testkit.NewAuthority(t)
	doc := strings.Replace(spec, "zones:", "certificates: [{id: ns, cert: 'file:a', key: 'file:b'}]\ndns: {tls: {listen: ['127.0.0.1:0'], certificate: ns}}\nzones:", 1)
	apply := func(pem []byte) error {
		w := world(t, doc)
		w.Objects = map[fleet.ObjectKey]fleet.Object{}
		if pem != nil {
			put(w.Objects, fleet.ObjectCertificate, "ns", pem)
		}
		return s.Apply(w)
	}
	shown := func() string {
		c, err := dialTLS(t, s, ca, func(c *tls.Config) { c.InsecureSkipVerify = true })
		if err != nil {
			t.Fatal(err)
		}
		return c.ConnectionState().PeerCertificates[0].DNSNames[0]
	}
	if err := apply(ca.Issue(t, "one.test")); err != nil {
		t.Fatal(err)
	}
	port := s.AddrsOf(TLS)[0]
	if got := shown(); got != "one.test" {
		t.Error(got)
	}
	if err := apply(ca.Issue(t, "two.test")); err != nil {
		t.Fatal(err)
	}
	if got := shown(); got != "two.test" || s.AddrsOf(TLS)[0] != port {
		t.Error(got)
	}
	for what, pem := range map[string][]byte{"": nil, "expected": []byte("nonsense")} {
		if err := apply(pem); err == nil || !strings.Contains(err.Error(), "dns.tls.certificate: ") {
			t.Errorf("%s: %v", what, err)
		}
		if got := shown(); got != "two.test" {
			t.Error(got)
		}
	}
}

// OnZone tells every change, in order.
func TestOnZone(t *testing.T) {
	s := start(t, nil)
	var told []string
	s.OnZone(func(old, new *zone.Zone) {
		serial := func(z *zone.Zone) string {
			if z == nil {
				return "none"
			}
			return fmt.Sprintf("%s %d", z.Name, z.Serial)
		}
		told = append(told, serial(old)+" -> "+serial(new))
	})
	load := func(serial int) *zone.Zone {
		z, err := zone.Load("a.test.", fmt.Appendf(nil, "@ 300 SOA a. b. %d 2 3 4 5\n@ 300 NS a.\n", serial), "")
		if err != nil {
			t.Fatal(err)
		}
		return z
	}
	if err := s.Apply(world(t, spec)); err != nil {
		t.Fatal(err)
	}
	s.SetZone(load(1))
	s.SetZone(load(2))
	if z := s.Zone("a.test."); z == nil || z.Serial != 2 {
		t.Errorf("served: %v", z)
	}
	s.SetUnavailable("a.test.")
	if r := exchange1(t, "udp", s.Addrs()[0], "a.test.", dns.TypeSOA); r.Rcode != dns.RcodeServerFailure {
		t.Errorf("without content: %v", r)
	}
	s.SetZone(load(3))
	s.RemoveZone("a.test.")
	s.RemoveZone("none.test.")
	if r := exchange1(t, "udp", s.Addrs()[0], "a.test.", dns.TypeSOA); r.Rcode != dns.RcodeRefused {
		t.Errorf("removed: %v", r)
	}
	want := "none -> demo.test. 7; none -> a.test. 1; a.test. 1 -> a.test. 2; a.test. 2 -> none; none -> a.test. 3; a.test. 3 -> none"
	if got := strings.Join(told, "; "); got != want {
		t.Errorf("told %s\nwant %s", got, want)
	}
}
