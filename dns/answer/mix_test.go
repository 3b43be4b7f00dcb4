package answer

import (
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"meridian/dns/sign"
	"meridian/dns/zone"
	"meridian/fleet"
	"meridian/geo/mmdb"
)

// The mix that nameservers are compared by: a zone of 1,000 addresses and 100
// aliases, and one steered name.
func mixSpec() string {
	var b strings.Builder
	b.WriteString("regions:\n")
	for i, at := range []string{"50.1, longitude: 8.7", "35.7, longitude: 139.7", "-23.5, longitude: -46.6", "38.9, longitude: -77.4", "-33.9, longitude: 151.2"} {
		fmt.Fprintf(&b, "- {id: r%d, location: {latitude: %s}, vips: {v4: [192.0.2.%d], v6: [\"2001:db8::%d\"]}}\n", i, at, i+1, i+1)
	}
	b.WriteString("services:\n- {service: web, protocol: http, ports: [80], pools: [{id: main, endpoints: [{address: \"10.0.0.1:80\"}]}]}\n" +
		"zones:\n- zone: example.test\n  records: |\n    $TTL 300\n    @ SOA ns1 hostmaster 7 3600 600 86400 60\n    @ NS ns1\n    ns1 A 192.0.2.53\n" +
		"    $GENERATE 0-999 h$ A 192.0.2.7\n    $GENERATE 0-99 c$ CNAME h$\n  steered: [{name: www, service: web}]\n")
	return b.String()
}

// mixPlan is a plan that serves it; with denial the zone is signed.
func mixPlan(t testing.TB, denial string) *Plan {
	t.Helper()
	doc := mixSpec()
	if denial != "" {
		doc = "dns: {dnssec: [{policy: p, denial: " + denial + "}]}\n" + strings.Replace(doc, "  records:", "  dnssec: p\n  records:", 1)
	}
	w := newWorld(t, doc)
	if denial != "" {
		w.Zones = signedZones(t, w.Snapshot, "example.test.", "p")
	}
	source, err := mmdb.Default()
	if err != nil {
		t.Fatal(err)
	}
	p, err := Compile(id, w, source, nil, now, nil)
	if err != nil {
		t.Fatal(err)
	}
	return p.Settle()
}

// signedZones signs a zone of the Spec, every variant of its steered names
// among it, as the control plane does.
func signedZones(t testing.TB, s *fleet.Snapshot, name fleet.Name, policyName string) *fleet.Zones {
	t.Helper()
	spec := s.Spec.Zone(name)
	base, err := zone.Load(spec.Zone, []byte(spec.Records), "")
	if err != nil {
		t.Fatal(err)
	}
	policy := s.Spec.DNSSECPolicy(policyName)
	state, _, _, err := sign.Step(sign.State{}, spec.Zone, policy, now, sign.Facts{}, rand.NewChaCha8(sha256.Sum256([]byte("keys"))))
	if err != nil {
		t.Fatal(err)
	}
	o := sign.Options{State: &state, Policy: policy, Serial: 2, Now: now}
	list, err := Variants(&fleet.World{Snapshot: s}, spec)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range list {
		o.Variants = append(o.Variants, sign.Variants{Owner: zone.Wire(v.Name), Type: v.Type, Empty: v.Empty, Sets: v.Sets})
	}
	signed, _, err := sign.Sign(base, &o)
	if err != nil {
		t.Fatal(err)
	}
	key := fleet.ObjectKey{Kind: fleet.ObjectZone, ID: string(spec.Zone)}
	return new(fleet.Zones).With([]fleet.Object{{Key: key, Data: signed.Encode(), Version: "signed"}}, nil)
}

// mixQueries gives n queries: 90 % names, 5 % that do not exist, 5 % the
// steered one. With only, all are the steered one with a network each.
func mixQueries(t testing.TB, n int, only bool, changes ...func(*dns.Msg)) [][]byte {
	t.Helper()
	r := rand.New(rand.NewPCG(1, 2))
	out := make([][]byte, n)
	for i := range out {
		name, change := "www", changes
		if only {
			net := netip.AddrFrom4([4]byte{byte(1 + r.IntN(223)), byte(r.Uint32()), byte(r.Uint32()), 0})
			change = append(changes[:len(changes):len(changes)], subnetOf(netip.PrefixFrom(net, 24).String()))
		} else if d := r.IntN(100); d < 82 {
			name = fmt.Sprintf("h%d", r.IntN(1000))
		} else if d < 90 {
			name = fmt.Sprintf("c%d", r.IntN(100))
		} else if d < 95 {
			name = fmt.Sprintf("nx%d", r.IntN(1000000))
		}
		out[i] = pack(t, query(name+".example.test", dns.TypeA, change...))
	}
	return out
}

func withDO(m *dns.Msg) { m.SetEdns0(1232, true) }

// mixes are the loads of bench/dns.sh: n queries each, by the denial of the zone
// that they are asked of.
func mixes(t testing.TB, n int) map[string]struct {
	denial  string
	queries [][]byte
} {
	type mix = struct {
		denial  string
		queries [][]byte
	}
	return map[string]mix{
		"plain":  {"", mixQueries(t, n, false)},
		"subnet": {"", mixQueries(t, 8*n, true)},
		"nsec":   {"nsec", mixQueries(t, n, false, withDO)},
		"nsec3":  {"nsec3", mixQueries(t, n, false, withDO)},
	}
}

func TestTheMixDoesNotAllocate(t *testing.T) {
	for name, m := range mixes(t, 128) {
		p := mixPlan(t, m.denial)
		out := make([]byte, PayloadUDP)
		var w Worker
		i := 0
		if n := testing.AllocsPerRun(len(m.queries), func() {
			if n, o := p.Answer(&w, m.queries[i%len(m.queries)], Client{Addr: resolver}, out); n == 0 || o.Rcode != NoError && o.Rcode != NXDomain {
				t.Errorf("%s: %d octets, rcode %d", name, n, o.Rcode)
			}
			i++
		}); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// BenchmarkMix answers the queries that bench/dns.sh asks, without sockets.
func BenchmarkMix(b *testing.B) {
	for name, m := range mixes(b, 8192) {
		b.Run(name, func(b *testing.B) {
			p := mixPlan(b, m.denial)
			out := make([]byte, PayloadUDP)
			var w Worker
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if p.Reply(&w, m.queries[i&(len(m.queries)-1)], &Client{Addr: resolver}, out) == 0 {
					b.Fatal("no answer")
				}
			}
		})
	}
}
