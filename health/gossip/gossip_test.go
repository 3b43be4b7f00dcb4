package gossip

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"

	"meridian/fleet"
	"meridian/health"
	"meridian/internal/testkit"
)

var _ health.Transport = (*Gossip)(nil)

// member is one real memberlist instance on a loopback address of its own.
type member struct {
	*Gossip
	t      *testing.T
	cancel context.CancelFunc
	ended  chan error

	mu     sync.Mutex
	frames map[string]int // frames received, by text
	merged []string
}

func (m *member) got(frame string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.frames[frame] > 0
}

// site gives the addresses of one test: 127.77.N.1 and up, with a port that
// is free on all of them.
type site struct {
	t    *testing.T
	port uint16
	net  byte
	spec *fleet.World
}

func newSite(t *testing.T, nodes int) *site {
	t.Helper()
	port := testkit.FreePort(t, "127.0.0.1")
	s := &site{t: t, port: port, net: byte(port)}
	var doc strings.Builder
	doc.WriteString("regions: [{id: r, location: {latitude: 50, longitude: 8}}]\nnodes:\n")
	for i := range nodes {
		fmt.Fprintf(&doc, "- {name: n%d, region: r, roles: [dns], addresses: {v4: %s}}\n", i, s.addr(i))
	}
	snap, err := fleet.Compile([]byte(doc.String()), 1)
	if err != nil {
		t.Fatal(err)
	}
	s.spec = &fleet.World{Snapshot: snap}
	return s
}

func (s *site) addr(i int) netip.Addr { return netip.AddrFrom4([4]byte{127, 77, s.net, byte(i + 1)}) }

func (s *site) start(i int, change func(*Config)) *member {
	s.t.Helper()
	m := &member{t: s.t, ended: make(chan error, 1), frames: map[string]int{}}
	cfg := Config{Node: fmt.Sprintf("n%d", i), Region: "r", Label: "test", Key: bytes.Repeat([]byte{7}, 32),
		Bind: netip.AddrPortFrom(s.addr(i), s.port), Logger: slog.New(slog.NewTextHandler(io.Discard, nil))}
	if change != nil {
		change(&cfg)
	}
	var err error
	if m.Gossip, err = New(cfg); err != nil {
		s.t.Fatal(err)
	}
	m.Receive(func(b []byte) {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.frames[string(b)]++
	})
	m.Exchange(func() []byte { return []byte("state of " + cfg.Node) }, func(b []byte) {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.merged = append(m.merged, string(b))
	})
	ctx, cancel := context.WithCancel(s.t.Context())
	m.cancel = cancel
	go func() { m.ended <- m.Run(ctx) }()
	s.t.Cleanup(m.stop)
	return m
}

func (m *member) stop() {
	m.cancel()
	if err, ok := <-m.ended; ok {
		close(m.ended)
		if err != nil {
			m.t.Errorf("%s: %v", m.cfg.Node, err)
		}
	}
}

// bare starts node i as memberlist alone, which can end without a farewell.
func (s *site) bare(i int) *memberlist.Memberlist {
	s.t.Helper()
	g, err := New(Config{Node: fmt.Sprintf("n%d", i), Region: "r", Label: "test", Key: bytes.Repeat([]byte{7}, 32),
		Bind: netip.AddrPortFrom(s.addr(i), s.port), Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		s.t.Fatal(err)
	}
	m, err := memberlist.Create(g.config(s.addr(i)))
	if err != nil {
		s.t.Fatal(err)
	}
	return m
}

// until waits for a condition on real sockets, a few seconds at most.
func until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(20 * time.Second)
	for !cond() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

func TestMembersFindEachOtherByTheSnapshot(t *testing.T) {
	s := newSite(t, 3)
	var all []*member
	for i := range 3 {
		m := s.start(i, nil)
		if err := m.Apply(s.spec); err != nil {
			t.Fatal(err)
		}
		all = append(all, m)
	}
	for _, m := range all {
		until(t, "three members", func() bool { return len(m.Members()) == 3 })
	}
	all[0].Broadcast([]byte("hello"))
	for _, m := range all[1:] {
		until(t, "the frame", func() bool { all[0].Broadcast([]byte("hello")); return m.got("hello") })
	}
	if all[0].got("hello") {
		t.Error("the sender got its own frame")
	}
	until(t, "an exchange of state", func() bool {
		all[0].mu.Lock()
		defer all[0].mu.Unlock()
		return slices.Contains(all[0].merged, "state of n1") || slices.Contains(all[0].merged, "state of n2")
	})
}

func TestMembersFindEachOtherByHand(t *testing.T) {
	s := newSite(t, 2)
	a := s.start(0, nil)
	b := s.start(1, func(c *Config) { c.Join = []string{s.addr(0).String()} })
	for _, m := range []*member{a, b} {
		until(t, "two members", func() bool { return len(m.Members()) == 2 })
	}
}

// Both programs of one node, at one address with a port each.
func TestTwoProgramsOfOneNode(t *testing.T) {
	s := newSite(t, 2)
	gslb := s.start(0, func(c *Config) { c.Program = "gslb" })
	edge := s.start(0, func(c *Config) {
		c.Program, c.Bind = "edge", netip.AddrPortFrom(s.addr(0), s.port+1)
		c.Join = []string{netip.AddrPortFrom(s.addr(0), s.port).String()}
	})
	other := s.start(1, func(c *Config) { c.Program = "gslb" })
	all := []*member{gslb, edge, other}
	for _, m := range all {
		if err := m.Apply(s.spec); err != nil {
			t.Fatal(err)
		}
	}
	for _, m := range all {
		until(t, "three members", func() bool { return len(m.Members()) == 3 })
	}
	until(t, "a frame from each to each", func() bool {
		ok := true
		for _, m := range all {
			m.Broadcast([]byte(m.name()))
			for _, o := range all {
				ok = ok && (o == m || m.got(o.name()))
			}
		}
		return ok
	})
}

func TestAddressFromTheSnapshot(t *testing.T) {
	s := newSite(t, 1)
	m := s.start(0, func(c *Config) { c.Bind = netip.AddrPortFrom(netip.Addr{}, s.port) })
	if m.Members() != nil {
		t.Error("it joined before it knew its address")
	}
	if err := m.Apply(s.spec); err != nil {
		t.Fatal(err)
	}
	until(t, "itself", func() bool { return len(m.Members()) == 1 })
	if n := m.list.Load().LocalNode(); n.Addr.String() != s.addr(0).String() {
		t.Errorf("it tells the others %s", n.Addr)
	}
}

func TestAnotherKeyOrLabelIsRefused(t *testing.T) {
	s := newSite(t, 4)
	a := s.start(0, nil)
	friend := s.start(3, nil)
	key := s.start(1, func(c *Config) { c.Key = bytes.Repeat([]byte{8}, 32) })
	label := s.start(2, func(c *Config) { c.Label = "another" })
	for _, m := range []*member{a, key, label, friend} {
		if err := m.Apply(s.spec); err != nil {
			t.Fatal(err)
		}
	}
	// Strangers keep sending frames while a member with the right key gets through.
	until(t, "refused attempts to join", func() bool {
		key.Broadcast([]byte("forged"))
		label.Broadcast([]byte("strayed"))
		return counted(t, key, "failed") >= 2 && counted(t, label, "failed") >= 2
	})
	until(t, "the frame of a member after theirs", func() bool { friend.Broadcast([]byte("true")); return a.got("true") })
	if a.got("forged") || a.got("strayed") || slices.Contains(a.Members(), "n1") || slices.Contains(a.Members(), "n2") {
		t.Errorf("a stranger got in: members %v", a.Members())
	}
}

func TestDeadMemberReturns(t *testing.T) {
	s := newSite(t, 3)
	var all []*member
	for i := range 2 {
		m := s.start(i, nil)
		if err := m.Apply(s.spec); err != nil {
			t.Fatal(err)
		}
		all = append(all, m)
	}
	victim := s.bare(2)
	until(t, "three members", func() bool { return len(all[0].Members()) == 3 && len(all[1].Members()) == 3 })
	if err := victim.Shutdown(); err != nil {
		t.Fatal(err)
	}
	again := s.start(2, nil)
	if err := again.Apply(s.spec); err != nil {
		t.Fatal(err)
	}
	// Frames reach it at once, although the others may still take it for its
	// former self or for dead.
	until(t, "frames to and from the returned member", func() bool {
		all[0].Broadcast([]byte("to"))
		again.Broadcast([]byte("from"))
		return again.got("to") && all[0].got("from") && all[1].got("from")
	})
	until(t, "three members again", func() bool { return len(all[0].Members()) == 3 && len(again.Members()) == 3 })
}

func TestFarewell(t *testing.T) {
	s := newSite(t, 2)
	a, b := s.start(0, nil), s.start(1, nil)
	for _, m := range []*member{a, b} {
		if err := m.Apply(s.spec); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "two members", func() bool { return len(a.Members()) == 2 && len(b.Members()) == 2 })
	b.stop()
	until(t, "one member", func() bool { return len(a.Members()) == 1 })
}

func TestConfigIsChecked(t *testing.T) {
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	key := make([]byte, 32)
	at := netip.MustParseAddrPort("127.0.0.1:7946")
	for want, cfg := range map[string]Config{
		"node name is missing":      {Key: key, Bind: at, Logger: log},
		"key of 16 octets":          {Node: "a", Key: key[:16], Bind: at, Logger: log},
		"bind: port is missing":     {Node: "a", Key: key, Logger: log},
		"label of 300 octets":       {Node: "a", Key: key, Bind: at, Logger: log, Label: strings.Repeat("x", 300)},
		"gossip: logger is missing": {Node: "a", Key: key, Bind: at},
	} {
		if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

func TestLogLevels(t *testing.T) {
	var out bytes.Buffer
	w := newLogWriter(slog.New(slog.NewTextHandler(&out, nil)))
	for _, l := range []string{"[ERR] memberlist: no luck\n", "[DEBUG] memberlist: chatter\n", "", "plain\n"} {
		if _, err := w.Write([]byte(l)); err != nil {
			t.Fatal(err)
		}
	}
	for range 100 {
		_, _ = w.Write([]byte("[ERR] memberlist: flood\n"))
	}
	if s := out.String(); !strings.Contains(s, `level=WARN msg="gossip: no luck"`) || strings.Contains(s, "chatter") || strings.Count(s, "flood") > 25 {
		t.Errorf("got %s", s)
	}
}
