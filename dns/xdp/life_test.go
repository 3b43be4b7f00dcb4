package xdp

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"meridian/dns/answer"
	"meridian/dns/server"
	"meridian/dns/zone"
	"meridian/fleet"
	"meridian/geo"
	"meridian/internal/testkit"
	"meridian/internal/testkit/netns"
)

// site is a nameserver with a Path in a namespace, and a client in another.
type site struct {
	*testing.T
	server  *server.Server
	path    *Path
	ns      *netns.NS
	client  *netns.NS
	tap     *countingTap
	calls   atomic.Int64                // of Serve that are done
	off     atomic.Bool                 // the sockets must see all queries
	served  atomic.Pointer[answer.Plan] // that the last such call was about
	swapped atomic.Uint64
}

// countingTap takes all queries while it is on.
type countingTap struct {
	on    atomic.Bool
	taken atomic.Int64
}

func (c *countingTap) Share() float64 {
	if c.on.Load() {
		return 1
	}
	return 0
}

func (c *countingTap) Take(query, answer []byte, client netip.AddrPort, t server.Transport, at time.Time) {
	if len(answer) > len(query) && query[0] == answer[0] && client.Addr() == netip.MustParseAddr(siteClient4) && t == server.UDP {
		c.taken.Add(1)
	}
}

const (
	siteServer4, siteClient4 = "192.0.2.53", "192.0.2.100"
	siteServer6, siteClient6 = "2001:db8:53::53", "2001:db8:53::100"
)

// inside has a Path's calls made in a namespace.
type inside struct {
	*Path
	site *site
}

func (i inside) Serve(s *server.Serving) error {
	defer i.site.calls.Add(1)
	if i.site.off.Load() {
		s.Off = "as the test says"
	}
	err := i.site.ns.Enter(func() error { return i.Path.Serve(s) })
	i.mu.Lock()
	i.site.swapped.Store(i.Path.swaps)
	i.mu.Unlock()
	i.site.served.Store(s.Plan)
	return err
}

func (i inside) Close() error { return i.site.ns.Enter(i.Path.Close) }

func newSite(t *testing.T, doc string, mode Mode) *site {
	t.Helper()
	return newSiteOf(t, newWorld(t, doc), newAtlas(), Config{Device: "eth0", Mode: mode}, false)
}

// newSiteOf serves a World. With off, all queries are the sockets'.
func newSiteOf(t *testing.T, w *fleet.World, source geo.Source, cfg Config, off bool) *site {
	t.Helper()
	testkit.Root(t)
	s := &site{T: t, tap: new(countingTap)}
	s.off.Store(off)
	var err error
	if s.ns, err = netns.New("server"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.ns.Close() })
	if s.client, err = netns.New("client"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.client.Close() })
	prefix := netip.MustParsePrefix
	s.must(netns.Veth(
		netns.End{NS: s.ns, Dev: "eth0", Addrs: []netip.Prefix{prefix(siteServer4 + "/24"), prefix(siteServer6 + "/64")}},
		netns.End{NS: s.client, Dev: "eth0", Addrs: []netip.Prefix{prefix(siteClient4 + "/24"), prefix(siteClient6 + "/64"), prefix("10.2.0.1/24"), prefix("10.53.0.1/24")}}, 1500))
	s.must(s.ns.AddRoute(prefix("10.2.0.0/24"), netip.MustParseAddr(siteClient4)))
	s.must(s.ns.AddRoute(prefix("10.53.0.0/24"), netip.MustParseAddr(siteClient4)))
	pass, err := s.client.PassXDP("eth0")
	s.must(err)
	t.Cleanup(func() { pass.Close() })
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if s.path, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	s.server, err = server.New(server.Config{Identity: id, Geo: source, Logger: slog.New(slog.DiscardHandler), Fast: inside{s.path, s}, Tap: s.tap,
		Listen: []netip.AddrPort{netip.MustParseAddrPort("[::]:53")}})
	s.must(err)
	s.must(s.server.Apply(w))
	ctx, cancel := context.WithCancel(context.Background())
	s.must(s.ns.Enter(func() error { return s.server.Open(ctx) }))
	done := make(chan error)
	go func() { done <- s.server.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	s.eventually("attached", func() bool { return off || s.mode() != "" })
	return s
}

func (s *site) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s *site) mode() Mode {
	m, _ := s.path.Attached()
	return m
}

// swaps is how many images have been taken into use by the calls of Serve that
// are done.
func (s *site) swaps() uint64 { return s.swapped.Load() }

// eventually polls until the deadline of anything that ought to come about.
func (s *site) eventually(what string, is func() bool) {
	s.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.After(patience); ; {
		if is() {
			return
		}
		select {
		case <-tick.C:
		case <-end:
			s.Fatalf("not %s", what)
		}
	}
}

// dial opens a socket of the client's.
func (s *site) dial(to string) *net.UDPConn {
	s.Helper()
	var c *net.UDPConn
	s.must(s.client.Do(func() (err error) {
		c, err = net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(to), 53)))
		return err
	}))
	s.Cleanup(func() { c.Close() })
	return c
}

// patience is how long anything may take on a machine that does much else: what
// is lost does not come however long one waits.
const patience = 30 * time.Second

// ask sends a query and gives the answer.
func ask(c *net.UDPConn, q []byte) ([]byte, error) {
	if _, err := c.Write(q); err != nil {
		return nil, err
	}
	if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	out := make([]byte, 4096)
	n, err := c.Read(out)
	return out[:n], err
}

// answered is how many queries the kernel has answered.
func (s *site) answered() uint64 { return s.path.Answered().Queries }

// On a real device, natively and generically, over both families: the kernel
// answers, octet for octet, and what it passes on is answered too.
func TestDevice(t *testing.T) {
	for _, mode := range []Mode{Native, Generic} {
		t.Run(string(mode), func(t *testing.T) {
			s := newSite(t, spec, mode)
			if s.mode() != mode {
				t.Fatalf("attached in mode %q", s.mode())
			}
			var w answer.Worker
			want := make([]byte, answer.MaxStream)
			for _, to := range []string{siteServer4, siteServer6} {
				c := s.dial(to)
				for _, q := range []struct {
					kernel bool
					query  []byte
				}{
					{true, withOptions("mx1.demo.test", zone.TypeA, false)},
					{true, withOptions("www.demo.test", zone.TypeA, false, ecs4(10, 2, 3)...)},
					{true, withOptions("no.demo.test", zone.TypeA, true)},
					{false, withOptions("demo.test", 255, false)},
					{false, withOptions("elsewhere.example", zone.TypeA, false)},
				} {
					before := s.answered()
					got, err := ask(c, q.query)
					s.must(err)
					from := c.LocalAddr().(*net.UDPAddr).AddrPort()
					n, _ := s.server.Plan().Answer(&w, q.query, answer.Client{Addr: from.Addr().Unmap(), Port: from.Port()}, want)
					if string(got) != string(want[:n]) {
						t.Errorf("%x: answered\n%x, expected\n%x", q.query, got, want[:n])
					}
					if kernel := s.answered() > before; kernel != q.kernel {
						cs, _ := s.path.kernel.counters()
						t.Errorf("%x: answered in the kernel: %v %v", q.query, kernel, cs)
					}
				}
			}
		})
	}
}

// Where there is no such device, or the kernel refuses, the sockets answer all,
// and it is said why.
func TestFallback(t *testing.T) {
	testkit.Root(t)
	var text strings.Builder
	path, err := New(Config{Device: "none", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	d, err := server.New(server.Config{Identity: id, Geo: newAtlas(), Logger: slog.New(slog.NewTextHandler(&text, nil)), Fast: path,
		Listen: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Apply(newWorld(t, spec)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	if err := d.Open(ctx); err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() { done <- d.Run(ctx) }()
	c, err := net.Dial("udp", d.Addrs()[0].String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got, err := ask(c.(*net.UDPConn), withOptions("mx1.demo.test", zone.TypeA, false)); err != nil || len(got) < 40 {
		t.Errorf("%x, %v", got, err)
	}
	for tick := time.NewTicker(5 * time.Millisecond); ; <-tick.C {
		path.mu.Lock()
		fails := path.fails
		path.mu.Unlock()
		if fails > 0 {
			break
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if !strings.Contains(text.String(), "device none") {
		t.Errorf("the log says only\n%s", text.String())
	}
}

// What the kernel answers is seen by those who look at recent queries, by the
// query log and in the counters, through a change of images.
func TestSeen(t *testing.T) {
	s := newSite(t, spec, Native)
	s.tap.on.Store(true)
	was := s.calls.Load()
	s.eventually("told so", func() bool { return s.calls.Load() > was+1 })
	for round := range 2 {
		c := s.dial(siteServer4)
		for range 10 {
			_, err := ask(c, withOptions("mx1.demo.test", zone.TypeA, false))
			s.must(err)
		}
		s.eventually("taken", func() bool { return s.tap.taken.Load() == int64(10*(round+1)) })
		a := s.path.Answered()
		if want := uint64(10 * (round + 1)); a.Queries != want || a.Types[zone.TypeA] != want || a.Rcodes[0] != want || a.Zones["demo.test."] != want {
			t.Errorf("round %d: counted %+v", round, a)
		}
		recent := s.server.Recent(server.RecentFilter{Name: "mx1.demo.test"})
		if len(recent) < 10 || recent[0].Type != "A" || recent[0].Rcode != "NOERROR" || recent[0].Client != c.LocalAddr().(*net.UDPAddr).AddrPort() {
			t.Errorf("round %d: recent queries %+v", round, recent)
		}
		was := s.swaps()
		s.must(s.server.Apply(newWorld(t, strings.Replace(spec, "[192.0.2.3]", fmt.Sprintf("[192.0.2.%d]", 4+round), 1)))) // of a region
		s.eventually("swapped", func() bool { return s.swaps() > was })
	}
}

// dig and kdig, with all that they send by themselves, are answered in the
// kernel.
func TestDigAndKdig(t *testing.T) {
	dig, kdig := testkit.Program(t, "dig"), testkit.Program(t, "kdig")
	s := newSite(t, spec, Auto)
	for _, c := range []struct {
		want string
		args []string
	}{
		{"192.0.2.25", []string{dig, "@" + siteServer4, "MX1.demo.test", "+short", "+tries=1"}},
		{"192.0.2.25", []string{dig, "@" + siteServer6, "mx1.Demo.test", "+short", "+tries=1", "+dnssec"}},
		{"192.0.2.2", []string{kdig, "@" + siteServer4, "www.demo.test", "+short", "+retry=0", "+subnet=10.2.3.0/24"}},
		{"CLIENT-SUBNET: 10.3.1.0/24/16", []string{kdig, "@" + siteServer4, "www.demo.test", "+retry=0", "+subnet=10.3.1.0/24"}},
		{"NXDOMAIN", []string{dig, "@" + siteServer4, "nothing.demo.test", "+tries=1"}},
		{"(good)", []string{dig, "@" + siteServer4, "demo.test", "NS", "+tries=1"}}, // of dig's cookie
	} {
		before := s.answered()
		if out := s.output(c.args...); !strings.Contains(out, c.want) {
			t.Errorf("%v: %q is not in\n%s", c.args[1:], c.want, out)
		}
		if s.answered() == before {
			t.Errorf("%v: not answered in the kernel", c.args[1:])
		}
	}
}

// output runs a program at the client and gives what it writes.
func (s *site) output(args ...string) string {
	s.Helper()
	f, err := os.Create(filepath.Join(s.TempDir(), "out"))
	s.must(err)
	defer f.Close()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = f, f
	s.must(s.client.Start(cmd))
	s.must(cmd.Wait())
	out, err := os.ReadFile(f.Name())
	s.must(err)
	return string(out)
}

// A zone that changes is answered as it is now at once: by the sockets, until
// the kernel has its new answers.
func TestChangedZonesAreNotAnsweredAsTheyWere(t *testing.T) {
	s := newSite(t, spec, Native)
	c := s.dial(siteServer4)
	q := withOptions("mx1.demo.test", zone.TypeA, false)
	for i := range 20 {
		z, err := zone.Load("demo.test.", fmt.Appendf(nil, "$TTL 300\n@ SOA ns1 admin %d 3600 600 86400 60\n@ NS ns1\nns1 A 192.0.2.53\nmx1 A 192.0.2.%d\n", i, 100+i), "")
		s.must(err)
		s.server.SetZone(z)
		s.eventually("told", func() bool { return s.served.Load() == s.server.Plan() })
		got, err := ask(c, q)
		s.must(err)
		if got[len(got)-12] != byte(100+i) {
			t.Fatalf("change %d: answered %x", i, got)
		}
	}
	s.eventually("answered in the kernel again", func() bool {
		before := s.answered()
		_, err := ask(c, q)
		s.must(err)
		return s.answered() > before
	})
}
