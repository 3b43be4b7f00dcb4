package answer

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"meridian/dns/zone"
	"meridian/fleet"
)

const (
	fra, tyo, gru = "192.0.2.1", "192.0.2.2", "192.0.2.3"
)

func TestSteering(t *testing.T) {
	gone := now.Add(-time.Second)
	for _, c := range []struct {
		what, name string
		qtype      uint16
		subnet     string // empty: the resolver's own address, in Japan
		view       *fleet.View
		shifts     []fleet.Shift
		want       string
		scope      int // where subnet is given
	}{
		{"by Client Subnet; networks of no known place beside it get the same", "www.demo.test", dns.TypeA, "10.1.7.0/24", nil, nil, fra, 15},
		{"by Client Subnet: another block", "www.demo.test", dns.TypeA, "10.4.2.128/25", nil, nil, tyo, 25},
		{"siblings of one place are one block", "www.demo.test", dns.TypeA, "10.3.200.0/24", nil, nil, gru, 16},
		{"by the resolver's address", "www.demo.test", dns.TypeA, "", nil, nil, tyo, 0},
		{"IPv6 client", "www.demo.test", dns.TypeA, "2001:db8:100::/48", nil, nil, fra, 39},
		{"AAAA for an IPv4 client", "www.demo.test", dns.TypeAAAA, "10.2.0.0/16", nil, nil, "2001:db8::2", 16},
		{"AAAA: a region without one is passed over", "www.demo.test", dns.TypeAAAA, "10.3.0.0/16", nil, nil, "2001:db8::1", 16},
		{"a client of no known place takes the Spec's order", "www.demo.test", dns.TypeA, "203.0.113.0/24", nil, nil, fra, 1},
		{"the apex", "demo.test", dns.TypeA, "10.2.0.0/16", nil, nil, tyo, 16},
		{"a wildcard", "a.b.geo.demo.test", dns.TypeA, "10.2.0.0/16", nil, nil, tyo, 16},
		{"RFC 7871: the scope may be more than the source", "www.demo.test", dns.TypeA, "10.1.0.0/12", nil, nil, fra, 15},
		{"a dead region is left", "www.demo.test", dns.TypeA, "10.1.0.0/16", down("web", "fra"), nil, tyo, 15},
		{"all dead: fail open", "www.demo.test", dns.TypeA, "10.1.0.0/16", down("web", "fra", "tyo", "gru"), nil, fra, 15},
		{"anycast: the same for all, so scope 0", "any.demo.test", dns.TypeA, "10.1.0.0/16", nil, nil, "198.51.100.1", 0},
		{"failover: the same for all, so scope 0", "order.demo.test", dns.TypeA, "10.1.0.0/16", nil, nil, gru, 0},
		{"a shift", "www.demo.test", dns.TypeA, "10.1.0.0/16", nil, []fleet.Shift{{ID: "s", From: "fra", To: []string{"gru"}, Share: 1}}, gru, 15},
		{"a shift that has run out", "www.demo.test", dns.TypeA, "10.1.0.0/16", nil, []fleet.Shift{{ID: "s", From: "fra", Share: 1, Expires: gone}}, fra, 15},
		{"an alias to a steered name has its scope", "alias.demo.test", dns.TypeA, "10.1.0.0/16", nil, nil, fra, 15},
	} {
		p := newPlan(t, c.view, c.shifts...)
		var changes []func(*dns.Msg)
		if c.subnet != "" {
			changes = append(changes, subnetOf(c.subnet))
		}
		m := ask(t, p, c.name, c.qtype, changes...)
		if got := ipOf(m); got != c.want {
			t.Errorf("%s: %s, want %s", c.what, got, c.want)
		}
		if e := ecsOf(m); c.subnet != "" && (e == nil || int(e.SourceScope) != c.scope) {
			t.Errorf("%s: %v, want scope %d", c.what, e, c.scope)
		} else if c.subnet == "" && e != nil {
			t.Errorf("%s: Client Subnet in the response to a query without", c.what)
		}
	}
}

func TestTTLOfSteeredNames(t *testing.T) {
	p := newPlan(t, nil)
	if m := ask(t, p, "demo.test", dns.TypeA); m.Answer[0].Header().Ttl != 60 {
		t.Errorf("TTL %d, want the name's own 60", m.Answer[0].Header().Ttl)
	}
	if m := ask(t, p, "www.demo.test", dns.TypeA); m.Answer[0].Header().Ttl != 30 {
		t.Errorf("TTL %d, want dns.ttl.steered", m.Answer[0].Header().Ttl)
	}
}

// No address is served only where the policy says so; then it is NODATA.
func TestFailClosed(t *testing.T) {
	m := ask(t, newPlan(t, down("order", "gru", "fra")), "order.demo.test", dns.TypeA, subnetOf("10.1.0.0/16"))
	if m.Rcode != 0 || len(m.Answer) != 0 || len(m.Ns) != 1 || ecsOf(m).SourceScope != 0 {
		t.Errorf("%v", m)
	}
}

// An answer that depends on the client's slot holds for its /24 or /48 alone.
func TestSlicedAnswersHaveScopeOfASlice(t *testing.T) {
	p := newPlan(t, nil)
	seen := map[string]int{}
	for i := range 200 {
		m := ask(t, p, "split.demo.test", dns.TypeA, subnetOf(fmt.Sprintf("10.1.%d.0/24", i)))
		if s := ecsOf(m).SourceScope; s != 24 {
			t.Fatalf("scope %d, want 24", s)
		}
		seen[ipOf(m)]++
	}
	if seen[fra] < 60 || seen[tyo] < 60 {
		t.Errorf("weights 50 and 50 give %v", seen)
	}
	if s := ecsOf(ask(t, p, "split.demo.test", dns.TypeA, subnetOf("2001:db8:100::/56"))).SourceScope; s != 48 {
		t.Errorf("IPv6: scope %d, want 48", s)
	}
}

// RFC 7871 §7.2.1: family, source and address come back as sent, on every answer to a query with the option.
// RFC 7871 §7.4: what is delegated, not tailored, or absent for every client has scope 0.
// RFC 7871 §7.1.2: with a source of 0 the address of the client is not used.
// RFC 7871 §6: a length that does not fit the source, or bits set beyond it, are FORMERR.
// RFC 7871 §7.2.1: so is an option that is malformed otherwise, as one of an unknown family.
func TestRFC7871(t *testing.T) {
	p := newPlan(t, nil)
	t.Run("7.2.1 family, source and address come back, on every answer", func(t *testing.T) {
		for _, name := range []string{"www.demo.test", "mx1.demo.test", "nothing.demo.test", "a.child.demo.test", "elsewhere.example", "mail.demo.test"} {
			e := ecsOf(ask(t, p, name, dns.TypeA, subnetOf("10.1.7.0/24")))
			if e == nil || e.Family != 1 || e.SourceNetmask != 24 || e.Address.String() != "10.1.7.0" {
				t.Errorf("%s: %v", name, e)
			}
		}
	})
	t.Run("7.4 scope 0 for what is not tailored, absent or delegated", func(t *testing.T) {
		for _, name := range []string{"mx1.demo.test", "nothing.demo.test", "ent.demo.test", "a.child.demo.test"} {
			if e := ecsOf(ask(t, p, name, dns.TypeA, subnetOf("10.1.7.0/24"))); e.SourceScope != 0 {
				t.Errorf("%s: scope %d", name, e.SourceScope)
			}
		}
		if e := ecsOf(ask(t, p, "www.demo.test", dns.TypeTXT, subnetOf("10.1.7.0/24"))); e.SourceScope != 0 {
			t.Errorf("NODATA at a steered name: scope %d", e.SourceScope)
		}
	})
	t.Run("7.1.2 source 0 opts out: scope 0, and the resolver's own place", func(t *testing.T) {
		m := ask(t, p, "www.demo.test", dns.TypeA, subnetOf("0.0.0.0/0"))
		if e := ecsOf(m); e == nil || e.SourceScope != 0 || e.SourceNetmask != 0 || ipOf(m) != tyo {
			t.Errorf("%v %s", ecsOf(m), ipOf(m))
		}
	})
	t.Run("dig +subnet=0 sends family 0", func(t *testing.T) {
		m := send(t, p, withOption(t, "www.demo.test", 8, []byte{0, 0, 0, 0}), false)
		if m.Rcode != 0 || ipOf(m) != tyo {
			t.Errorf("%v", m)
		}
	})
	t.Run("FORMERR", func(t *testing.T) {
		for what, data := range map[string][]byte{
			"too short":                    {0, 1, 24},
			"7.2.1: unknown family":        {0, 3, 0, 0},
			"family 0 with a network":      {0, 0, 8, 0, 10},
			"source beyond the family":     {0, 1, 33, 0, 10, 1, 2, 3, 4},
			"IPv6 source beyond 128":       append([]byte{0, 2, 129, 0}, make([]byte, 17)...),
			"7.1.2: scope set in a query":  {0, 1, 24, 24, 10, 1, 2},
			"6: address too short":         {0, 1, 24, 0, 10, 1},
			"6: address too long":          {0, 1, 24, 0, 10, 1, 2, 0},
			"6: bits set beyond source":    {0, 1, 20, 0, 10, 1, 0x1f},
			"6: bits set beyond source /1": {0, 1, 1, 0, 0xc0},
		} {
			m := send(t, p, withOption(t, "www.demo.test", 8, data), false)
			if m.Rcode != dns.RcodeFormatError || len(m.Answer) != 0 || m.IsEdns0() == nil || ecsOf(m) != nil {
				t.Errorf("%s: %v", what, m)
			}
		}
	})
	t.Run("switched off it is an option like any unknown one", func(t *testing.T) {
		off, err := Compile(id, newWorld(t, spec+"dns: {ecs: false}\n"), newAtlas(), nil, now, nil)
		if err != nil {
			t.Fatal(err)
		}
		m := ask(t, off, "www.demo.test", dns.TypeA, subnetOf("10.1.0.0/16"))
		if ecsOf(m) != nil || ipOf(m) != tyo {
			t.Errorf("%v", m)
		}
	})
}

// withOption makes a query with one raw EDNS option.
func withOption(t testing.TB, name string, code uint16, data []byte) []byte {
	t.Helper()
	b := pack(t, query(name, dns.TypeA, edns))
	b = b[:len(b)-2] // the OPT's length
	b = binary.BigEndian.AppendUint16(b, uint16(4+len(data)))
	b = binary.BigEndian.AppendUint16(b, code)
	b = binary.BigEndian.AppendUint16(b, uint16(len(data)))
	return append(b, data...)
}

// RFC 7871 §7.2.1: what is tailored is disjoint, so that a resolver that keeps answers (§7.3), asked by clients in random order, never hands a client another answer than its own.
func TestRFC7871CacheNeverServesAWrongRegion(t *testing.T) {
	type cached struct {
		prefix netip.Prefix
		ip     string
	}
	for _, name := range []string{"www.demo.test", "split.demo.test", "order.demo.test"} {
		for seed := range uint64(5) {
			r := rand.New(rand.NewPCG(seed, 7))
			p := newPlan(t, nil)
			var cache []cached
			hits := 0
			for range 400 {
				client := netip.AddrFrom4([4]byte{10, byte(r.IntN(6)), byte(r.IntN(4)), byte(r.IntN(256))})
				source := netip.PrefixFrom(client, 32).Masked()
				own := ipOf(ask(t, p, name, dns.TypeA, subnetOf(source.String())))
				got := ""
				for _, c := range cache {
					if c.prefix.Contains(client) {
						if got != "" && got != c.ip {
							t.Fatalf("%s: two kept answers cover %s", name, client)
						}
						got = c.ip
					}
				}
				if got != "" {
					hits++
					if got != own {
						t.Fatalf("%s: %s gets %s from the cache, and %s of its own", name, client, got, own)
					}
					continue
				}
				m := ask(t, p, name, dns.TypeA, subnetOf(source.String()))
				cache = append(cache, cached{netip.PrefixFrom(client, int(ecsOf(m).SourceScope)).Masked(), ipOf(m)})
			}
			if hits == 0 {
				t.Errorf("%s: the cache never served", name)
			}
		}
	}
}

// A change of health takes over all else.
func TestWithView(t *testing.T) {
	p := newPlan(t, nil)
	q := p.WithView(down("web", "fra"), now)
	if q.table != p.table || ipOf(ask(t, q, "www.demo.test", dns.TypeA, subnetOf("10.1.0.0/16"))) != tyo {
		t.Error("the View did not change the answer, or changed too much")
	}
	if ipOf(ask(t, p, "www.demo.test", dns.TypeA, subnetOf("10.1.0.0/16"))) != fra {
		t.Error("the old plan has changed")
	}
}

// A View that changes no decision takes over the answers too.
func TestViewWithoutNews(t *testing.T) {
	v := down("web", "fra")
	p := newPlan(t, v)
	news := down("web", "fra")
	news.Revision++
	for k, d := range news.Verdicts {
		d.Latency, d.Detail = time.Millisecond, "slow"
		news.Verdicts[k] = d
	}
	q := p.WithView(news, now)
	if q.steering.states[0][kindA] != p.steering.states[0][kindA] || q.scene.Revision() != news.Revision {
		t.Error("latencies alone made all decisions anew, or the View was not taken")
	}
	if r := p.WithView(down("web", "tyo"), now); r.steering.states[0][kindA] == p.steering.states[0][kindA] {
		t.Error("a change of health made no decision anew")
	}
}

// What has not changed is taken over; what is wrong leaves the old plan alone.
func TestCompileTakesOver(t *testing.T) {
	source := newAtlas()
	w := newWorld(t, spec)
	p, err := Compile(id, w, source, nil, now, nil)
	if err != nil {
		t.Fatal(err)
	}
	again, err := Compile(id, newWorld(t, strings.Replace(spec, "answer: anycast", "answer: anycast, records: 2", 1)), source, nil, now, p)
	if err != nil || again.table != p.table || again.Zone("demo.test.") != p.Zone("demo.test.") {
		t.Errorf("a change of records compiled zones or classes anew: %v", err)
	}
	moved, err := Compile(id, newWorld(t, strings.Replace(spec, "latitude: 50.1", "latitude: -50.1", 1)), source, nil, now, p)
	if err != nil || moved.table == p.table {
		t.Errorf("a region that moved did not compile the classes anew: %v", err)
	}
	missing := &fleet.World{Snapshot: newWorld(t, strings.Replace(spec, "- zone: other.test\n  records: |", "- zone: other.test\n  file: other.zone\n- zone: another.test\n  records: |", 1)).Snapshot}
	if _, err := Compile(id, missing, source, nil, now, p); err == nil || !strings.Contains(err.Error(), "zone other.test.: its object is missing") {
		t.Errorf("a missing object: %v", err)
	}
	bad := &fleet.World{Snapshot: missing.Snapshot, Objects: map[fleet.ObjectKey]fleet.Object{
		{Kind: fleet.ObjectZone, ID: "other.test."}: {Data: []byte("x A nonsense"), File: "/etc/other.zone"}}}
	if _, err := Compile(id, bad, source, nil, now, p); err == nil || !strings.Contains(err.Error(), "/etc/other.zone:1: ") {
		t.Errorf("a bad object: %v", err)
	}
}

func TestExpires(t *testing.T) {
	p := newPlan(t, nil, fleet.Shift{ID: "a", From: "fra", Share: 1, Expires: now.Add(time.Minute)}, fleet.Shift{ID: "b", From: "fra", Share: 1})
	if got := p.Expires(now); !got.Equal(now.Add(time.Minute)) {
		t.Errorf("%v", got)
	}
	if got := p.Expires(now.Add(time.Hour)); !got.IsZero() {
		t.Errorf("%v", got)
	}
	q := p.WithView(nil, now)
	if ipOf(ask(t, q, "www.demo.test", dns.TypeA, subnetOf("10.1.0.0/16"))) == fra {
		t.Error("the shift has no effect")
	}
}

func TestZonesWithoutAFleet(t *testing.T) {
	z, err := zone.Load("demo.test.", []byte("@ 60 SOA a. b. 1 2 3 4 5\n@ 60 NS ns1\nns1 60 A 192.0.2.53\n"), "f")
	if err != nil {
		t.Fatal(err)
	}
	p := Zones(id, []*zone.Zone{z})
	if m := ask(t, p, "ns1.demo.test", dns.TypeA, subnetOf("10.1.0.0/16")); ipOf(m) != "192.0.2.53" || ecsOf(m).SourceScope != 0 {
		t.Errorf("%v", m)
	}
	if p.WithView(down("web", "fra"), now) != p {
		t.Error("a View changes zones without a fleet")
	}
}

func TestExplain(t *testing.T) {
	p := newPlan(t, down("web", "fra"))
	e, err := p.Explain("www.demo.test.", dns.TypeA, netip.MustParsePrefix("10.1.7.9/32"))
	if err != nil {
		t.Fatal(err)
	}
	want := `www.demo.test. A for 10.1.7.9/32: NOERROR
  www.demo.test. 30 IN A 192.0.2.2
zone       demo.test., serial 7
place      Germany, EU (class 1; test atlas)
scope      10.0.0.0/15
decision   service web by proximity: regional from tyo, TTL 30s
  policy   proximity: by distance from Germany, EU
  rank     fra 1: 156 km
  rank     tyo 2: 9178 km
  rank     gru 3: 9979 km
  down     fra down: timeout
  unknown  tyo no verdict: kept
  unknown  gru no verdict: kept
  chosen   tyo
`
	if got := e.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	plain, err := p.Explain("mx1.demo.test.", dns.TypeA, netip.MustParsePrefix("10.1.7.0/24"))
	if err != nil || plain.Steered || !strings.Contains(plain.String(), "the same answer for every client") {
		t.Errorf("%v %v", plain, err)
	}
	other, err := p.Explain("www.elsewhere.example.", dns.TypeA, netip.MustParsePrefix("10.1.7.0/24"))
	if err != nil || other.Rcode != "REFUSED" || !strings.Contains(other.String(), "none served here") {
		t.Errorf("%v %v", other, err)
	}
	if _, err := p.Explain("www.demo.test.", dns.TypeA, netip.Prefix{}); err == nil {
		t.Error("no client was accepted")
	}
}

// The decision that is explained is the one that was answered, for any client.
func TestExplainAgreesWithTheAnswer(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	p := newPlan(t, down("web", "gru"), fleet.Shift{ID: "s", From: "fra", Share: 0.3})
	vips := map[string]string{"fra": fra, "tyo": tyo, "gru": gru}
	for range 500 {
		client := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(r.IntN(6)), byte(r.IntN(256)), byte(r.IntN(256))}), 32)
		name := fleet.Name([]string{"www.demo.test.", "split.demo.test."}[r.IntN(2)])
		e, err := p.Explain(name, dns.TypeA, client)
		if err != nil {
			t.Fatal(err)
		}
		if len(e.Decision.Regions) != 1 || !strings.HasSuffix(e.Answer[0], " "+vips[e.Decision.Regions[0]]) {
			t.Fatalf("%s: answered %v, explained %v", client, e.Answer, e.Decision)
		}
	}
}

func TestSummary(t *testing.T) {
	p := newPlan(t, nil)
	at := map[string]Steering{}
	for _, s := range p.Summary("web") {
		at[s.Country] = s
	}
	for code, want := range map[string]string{"DE": "fra", "JP": "tyo", "BR": "gru", "GB": "fra", "AR": "gru", "KR": "tyo"} {
		if at[code].Region != want || at[code].Shares != nil {
			t.Errorf("%s goes to %+v, want %s", code, at[code], want)
		}
	}
	split := p.Summary("split")[0]
	if len(split.Shares) != 2 || split.Shares["fra"] < 0.35 || split.Shares["fra"] > 0.65 {
		t.Errorf("%+v", split)
	}
	if p.Summary("nothing") != nil {
		t.Error("a service that does not exist has a summary")
	}
}
