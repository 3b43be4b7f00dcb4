package synthetic_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"meridian/fleet"
	"meridian/health"
	"meridian/health/gossip"
	"meridian/internal/testkit"
	"meridian/probe"
	"meridian/synthetic"
)

// site is one region on a loopback address: its service, its nameserver, and
// its node with real probes and real gossip.
type site struct {
	health *health.Health
	web    *httptest.Server
	dns    *dns.Server
	cancel context.CancelFunc
	group  sync.WaitGroup
}

func (s *site) kill() {
	s.web.CloseClientConnections()
	s.web.Close()
	_ = s.dns.Shutdown()
	s.cancel()
	s.group.Wait()
}

func startSite(t *testing.T, w *fleet.World, region string, at netip.Addr, web, names, talk uint16) *site {
	t.Helper()
	s := &site{}
	l, err := net.Listen("tcp", netip.AddrPortFrom(at, web).String())
	if err != nil {
		t.Fatal(err)
	}
	s.web = httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	s.web.Listener.Close()
	s.web.Listener = l
	s.web.Start()
	pc, err := net.ListenPacket("udp", netip.AddrPortFrom(at, names).String())
	if err != nil {
		t.Fatal(err)
	}
	s.dns = &dns.Server{PacketConn: pc, Handler: dns.HandlerFunc(func(rw dns.ResponseWriter, q *dns.Msg) {
		a := new(dns.Msg).SetReply(q)
		a.Authoritative = true
		soa, _ := dns.NewRR("example.org. 300 IN SOA ns1 host 1 2 3 4 5")
		a.Answer = []dns.RR{soa}
		_ = rw.WriteMsg(a)
	})}
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	g, err := gossip.New(gossip.Config{Node: region + "-1", Region: region, Key: make([]byte, 32), Bind: netip.AddrPortFrom(at, talk), Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	s.health, err = health.New(health.Config{Node: region + "-1", Region: region, Roles: []fleet.Role{fleet.RoleDNS, fleet.RoleProbe}, Transport: g, Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	syn, err := synthetic.New(synthetic.Config{Node: region + "-1", Region: region, Prober: probe.New(probe.Config{}), Observer: s.health, Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	var ctx context.Context
	ctx, s.cancel = context.WithCancel(t.Context())
	for _, apply := range []func(*fleet.World) error{g.Apply, s.health.Apply, syn.Apply} {
		if err := apply(w); err != nil {
			t.Fatal(err)
		}
	}
	s.group.Go(func() { _ = s.dns.ActivateAndServe() })
	for _, run := range []func(context.Context) error{g.Run, s.health.Run, syn.Run} {
		s.group.Go(func() {
			if err := run(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	return s
}

// loopbackFleet is three regions whose VIP and node share one address each.
func loopbackFleet(t *testing.T, at func(i int) netip.Addr, web, names uint16) *fleet.World {
	t.Helper()
	var doc strings.Builder
	doc.WriteString("regions:\n")
	for i, r := range regionsOf(3) {
		fmt.Fprintf(&doc, "- {id: %s, location: {latitude: 50, longitude: 8}, vips: {v4: [%s]}}\n", r, at(i))
	}
	doc.WriteString("nodes:\n")
	for i, r := range regionsOf(3) {
		fmt.Fprintf(&doc, "- {name: %s-1, region: %s, roles: [dns, probe], addresses: {v4: %s}}\n", r, r, at(i))
	}
	fmt.Fprintf(&doc, "services:\n- {service: web, protocol: http, ports: [%d], hosts: [www.example.org], pools: [{id: app, endpoints: [{address: \"10.1.0.1:80\"}]}]}\n", web)
	fmt.Fprintf(&doc, "zones: [{zone: example.org, records: \"@ 300 IN SOA ns1 host 1 2 3 4 5\"}]\ndns: {listen: [\":%d\"]}\n", names)
	snap, err := fleet.Compile([]byte(doc.String()), 1)
	if err != nil {
		t.Fatal(err)
	}
	return &fleet.World{Snapshot: snap}
}

// The whole chain with nothing simulated: three regions on loopback, real
// checks, real gossip; one dies and comes back.
func TestRealRoomsOnLoopback(t *testing.T) {
	free := func() uint16 { return testkit.FreePort(t, "127.0.0.1") }
	web, names, talk := free(), free(), free()
	at := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{127, 79, byte(talk), byte(i + 1)}) }
	w := loopbackFleet(t, at, web, names)
	sites := map[string]*site{}
	boot := func(i int) {
		s := startSite(t, w, regionsOf(3)[i], at(i), web, names, talk)
		sites[regionsOf(3)[i]] = s
		t.Cleanup(s.cancel)
	}
	for i := range 3 {
		boot(i)
	}
	wait := func(what string, cond func(v *fleet.View) bool, at ...string) time.Duration {
		t.Helper()
		began := time.Now()
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for _, r := range at {
			for !cond(sites[r].health.View()) {
				if <-tick.C; time.Since(began) > 30*time.Second {
					t.Fatalf("%s waited in vain for %s; it has %+v", r, what, sites[r].health.View().Verdicts)
				}
			}
		}
		return time.Since(began)
	}
	allUp := func(v *fleet.View) bool {
		n := 0
		for target, is := range v.Verdicts {
			if is.State != fleet.Up || v.From("a", target).State != fleet.Up || v.From("b", target).State != fleet.Up || v.From("c", target).State != fleet.Up {
				return false
			}
			n++
		}
		return n == 6 // a service and the nameservers of three regions
	}
	wait("everything up from everywhere", allUp, "a", "b", "c")
	began := time.Now()
	sites["c"].kill()
	wait("c's service down", func(v *fleet.View) bool { return v.Get(serviceIn("c")).State == fleet.Down }, "a", "b")
	t.Logf("death and farewell to changed View on loopback: %s", time.Since(began))
	for _, r := range []string{"a", "b"} {
		if v := sites[r].health.View(); v.Get(serviceIn("a")).State != fleet.Up || v.Get(serviceIn("b")).State != fleet.Up || v.Get(serviceIn("c")).Cause != fleet.CauseRefused {
			t.Errorf("%s has %+v", r, v.Verdicts)
		}
	}
	boot(2)
	t.Logf("back up after %s", wait("c back", allUp, "a", "b", "c"))
	for _, s := range sites {
		s.kill()
	}
}
