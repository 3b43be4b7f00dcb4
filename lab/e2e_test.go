//go:build linux

package lab

import (
	"context"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/miekg/dns"

	"meridian/internal/testkit"
)

// buildPrograms builds gslb and edge once for a test.
func buildPrograms(t *testing.T) Programs {
	t.Helper()
	dir := t.TempDir()
	p := Programs{Gslb: filepath.Join(dir, "gslb"), Edge: filepath.Join(dir, "edge")}
	for out, pkg := range map[string]string{p.Gslb: "meridian/cmd/gslb", p.Edge: "meridian/cmd/edge"} {
		if text, err := exec.CommandContext(t.Context(), "go", "build", "-o", out, pkg).CombinedOutput(); err != nil {
			t.Fatalf("build %s: %v\n%s", pkg, err, text)
		}
	}
	return p
}

// serving starts a lab, gives it its Spec and clients, and waits until it has
// settled.
func serving(t *testing.T, top *Topology) (*Lab, *tally) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "lab")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := Start(top, dir, buildPrograms(t), slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			showLogs(t, dir)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := l.configure(t.Context()); err != nil {
		t.Fatal(err)
	}
	seen := newTally()
	stop, err := l.load(seen)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	ctx, cancel := context.WithTimeout(t.Context(), settleWithin)
	defer cancel()
	if err := l.settled(ctx, seen); err != nil {
		t.Fatal(err)
	}
	return l, seen
}

// The whole path, of both families: client, DNS, core with ECMP, XDP,
// decapsulation, gateway, backend; and around a region that dies.
func TestClientsAreServedByTheNearestLiveRegion(t *testing.T) {
	testkit.Root(t)
	top := World()
	l, seen := serving(t, top)
	servedBy := func(city, region string) {
		t.Helper()
		for i := range top.Cities {
			if top.Cities[i].ID != city {
				continue
			}
			c, err := newClient(l, &top.Cities[i])
			if err != nil {
				t.Fatal(err)
			}
			for _, q := range top.questions() {
				r := c.get(t.Context(), q)
				if r.err != nil || r.region != region {
					t.Errorf("%s asks for %s %s: %s served by %q, %v", city, q.name, dns.TypeToString[q.qtype], r.address, r.region, r.err)
				}
				regional := slices.Contains(top.Region(region).VIPs.All(), r.address)
				if anycast := slices.Contains(top.Anycast.All(), r.address); regional != (q.name == RegionalName) || anycast == regional {
					t.Errorf("%s asks for %s: answer %s", city, q.name, r.address)
				}
			}
		}
	}
	servedBy("berlin", "fra")
	servedBy("tokyo", "nrt") // where the tiers stand on separate nodes
	servedBy("sao-paulo", "iad")

	s := &scenario{lab: l, say: t.Logf, seen: seen}
	seen.reset()
	if err := s.loseOne(t.Context(), top.Region("fra")); err != nil {
		t.Fatal(err)
	}
	n := seen.counts()
	t.Logf("DNS %+v, BGP %+v, config %+v, requests %+v", s.out.DNS, s.out.BGP, s.out.Config, n)
	if n.OtherRegions > 0 {
		t.Errorf("%d requests of clients near other regions failed: %v", n.OtherRegions, n.Failures)
	}
	servedBy("berlin", "fra")
}

// signed asks a nameserver for a steered name, as a validator does, and
// verifies what it answers by the zone's keys.
func signed(t *testing.T, top *Topology, region string) {
	t.Helper()
	r := top.Region(region)
	v4, _ := top.Addr(r, r.Of(Gslb)[0])
	server := netip.AddrPortFrom(v4, top.DNSPort).String()
	ask := func(name string, qtype uint16) []dns.RR {
		m := new(dns.Msg).SetQuestion(name, qtype).SetEdns0(1232, true)
		c := dns.Client{Net: "tcp"}
		in, _, err := c.ExchangeContext(t.Context(), m, server)
		if err != nil {
			t.Fatalf("%s: %v", region, err)
		}
		return in.Answer
	}
	keys := map[uint16]*dns.DNSKEY{}
	for _, rr := range ask(zoneName+".", dns.TypeDNSKEY) {
		if k, ok := rr.(*dns.DNSKEY); ok {
			keys[k.KeyTag()] = k
		}
	}
	var set []dns.RR
	var sig *dns.RRSIG
	for _, rr := range ask(RegionalName+".", dns.TypeA) {
		if s, ok := rr.(*dns.RRSIG); ok {
			sig = s
		} else {
			set = append(set, rr)
		}
	}
	if sig == nil || len(set) == 0 || keys[sig.KeyTag] == nil {
		t.Fatalf("%s: %d records, signature %v, %d keys", region, len(set), sig, len(keys))
	}
	if err := sig.Verify(keys[sig.KeyTag], set); err != nil || !sig.ValidityPeriod(time.Now()) {
		t.Errorf("%s: %v: %v", region, set, err)
	}
}

// The same without rights: on loopback, DNS and gateways only. What is steered
// stays signed throughout.
func TestLoopbackFormSurvivesALostRegion(t *testing.T) {
	top := Home()
	l, seen := serving(t, top)
	for i := range top.Regions {
		signed(t, top, top.Regions[i].ID)
	}
	s := &scenario{lab: l, seen: seen}
	s.say = func(format string, args ...any) {
		t.Logf(format, args...)
		for i := range top.Regions {
			if id := top.Regions[i].ID; l.Alive(id) {
				signed(t, top, id)
			}
		}
	}
	seen.reset()
	if err := s.regionLoss(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if n := s.out.Requests; n.OtherRegions > 0 || s.out.DNS.N != 2 || s.out.BGP.N != 0 {
		t.Errorf("%+v", s.out)
	}
}
