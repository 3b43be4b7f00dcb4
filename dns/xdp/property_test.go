package xdp

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"meridian/dns/zone"
	"meridian/fleet"
	"meridian/geo"
)

// Properties of dns/answer, held over the wire: with the sockets answering and
// with the kernel.

// steerings are of every policy, and of every manner of answering; the services
// s0, s1, ... have them.
var steerings = []string{
	`{}`,
	`{records: 2, rotate: client}`,
	`{answer: anycast}`,
	`{policy: failover, regions: [gru, fra], all_down: fail_closed}`,
	`{policy: weighted, weights: {fra: 50, tyo: 50, gru: 0}}`,
	`{policy: geo, geo: [{countries: [JP], regions: [gru]}, {continents: [EU], regions: [tyo, fra]}], unmapped: [iad]}`,
	`{policy: subnet, subnet_map: offices, subnets: [{prefixes: [10.64.0.0/11, 10.3.0.7/32], regions: [fra]}]}`,
	`{policy: all, regions: [tyo, gru, iad]}`,
	`{policy: failover, regions: [eu, us], groups: [{group: eu, policy: weighted, regions: [fra, tyo], weights: {fra: 3, tyo: 1}, min_healthy: 1}, {group: us, regions: [iad, gru]}]}`,
	`{policy: geo, geo: [{continents: [EU], regions: [split]}], groups: [{group: split, policy: weighted, regions: [fra, iad], weights: {fra: 1, iad: 1}}], regions: [split, tyo, gru]}`,
	`{demand: {fra: 60, tyo: 30, gru: 40, iad: 90}, all_down: fallback, fallback: [iad]}`,
}

func everySteering() string {
	var b strings.Builder
	b.WriteString(`
regions:
- {id: fra, location: {latitude: 50.1, longitude: 8.7}, vips: {v4: [192.0.2.1], v6: ["2001:db8::1"]}}
- {id: tyo, location: {latitude: 35.7, longitude: 139.7}, vips: {v4: [192.0.2.2], v6: ["2001:db8::2"]}}
- {id: gru, location: {latitude: -23.5, longitude: -46.6}, vips: {v4: [192.0.2.3]}, capacity: 50}
- {id: iad, location: {latitude: 39, longitude: -77.5}, vips: {v4: [192.0.2.4], v6: ["2001:db8::4"]}}
anycast: {v4: [198.51.100.1], v6: ["2001:db8:f::1"]}
subnet_maps:
- {map: offices, subnets: [{prefixes: [10.0.0.0/9, "2001:db8:100::/44"], regions: [iad]}, {prefixes: [10.64.0.0/10], regions: [tyo]}, {prefixes: [10.64.3.128/25, 192.168.0.0/16], regions: [gru]}]}
services:
`)
	for i, s := range steerings {
		fmt.Fprintf(&b, "- {service: s%d, protocol: http, ports: [80], pools: [{id: main, endpoints: [{address: \"10.0.0.1:80\"}]}], steering: %s}\n", i, s)
	}
	b.WriteString("zones:\n- zone: p.test\n  records: |\n    $TTL 300\n    @ SOA ns1 a 1 1 1 1 60\n    @ NS ns1\n    ns1 A 192.0.2.53\n  steered:\n")
	for i := range steerings {
		fmt.Fprintf(&b, "  - {name: p%d, service: s%d, https: {second: %v}}\n", i, i, i%2 == 0)
	}
	return b.String()
}

// randomPlaces draws networks of all sizes of both families, side by side.
func randomPlaces(r *rand.Rand) (geo.Source, []netip.Prefix) {
	var a atlas
	var prefixes []netip.Prefix
	add := func(p netip.Prefix) {
		c, _ := geo.FindCountry([]string{"DE", "JP", "BR", "US", "FR", "ZA"}[r.IntN(6)])
		a = append(a, struct {
			prefix netip.Prefix
			place  geo.Place
		}{p, c.Place()})
		prefixes = append(prefixes, p)
	}
	for at, n := uint64(0x0a000000), 0; n < 40; n++ {
		bits := 9 + r.IntN(24)
		size := uint64(1) << (32 - bits)
		at = (at + size - 1) &^ (size - 1)
		add(netip.PrefixFrom(netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, uint32(at)))), bits))
		at += size * uint64(1+r.IntN(3))
	}
	for at, n := uint64(0x20010db8_00000000), 0; n < 20; n++ {
		bits := 33 + r.IntN(28)
		size := uint64(1) << (64 - bits)
		at = (at + size - 1) &^ (size - 1)
		add(netip.PrefixFrom(netip.AddrFrom16([16]byte(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, at), 0))), bits))
		at += size * uint64(1+r.IntN(3))
	}
	return &a, prefixes
}

// edges are the addresses at which answers may change, and those before and
// behind.
func edges(prefixes []netip.Prefix) []netip.Addr {
	var out []netip.Addr
	for _, p := range append(prefixes, netip.MustParsePrefix("10.64.0.0/11"), netip.MustParsePrefix("10.64.3.128/25"), netip.MustParsePrefix("10.3.0.7/32"),
		netip.MustParsePrefix("192.168.0.0/16"), netip.MustParsePrefix("2001:db8:100::/44")) {
		first, last := p.Masked().Addr(), p.Masked().Addr().AsSlice()
		for i := p.Bits(); i < len(last)*8; i++ {
			last[i/8] |= 0x80 >> (i % 8)
		}
		for _, a := range []netip.Addr{first.Prev(), first, addrOf(last), addrOf(last).Next()} {
			if a.IsValid() && a.Is4() == first.Is4() {
				out = append(out, a)
			}
		}
	}
	return out
}

// subnet makes a Client Subnet option of a whole address.
func subnet(a netip.Addr) []byte {
	family := byte(1)
	if a.Is6() {
		family = 2
	}
	return cat([]byte{0, 8}, be16(4+a.BitLen()/8), []byte{0, family, byte(a.BitLen()), 0}, a.AsSlice())
}

// tailored is an answer for one address: its records, and the block of addresses
// that it is for.
type tailored struct {
	records string
	block   netip.Prefix
}

// tailor asks for a name on behalf of each address.
func (s *site) tailor(c net.Conn, name string, rtype uint16, at []netip.Addr) []tailored {
	s.Helper()
	queries, out := make([][]byte, len(at)), make([]tailored, len(at))
	for i, a := range at {
		queries[i] = withOptions(name, rtype, false, subnet(a)...)
	}
	s.must(exchange(c, queries, func(int) {}, func(i int, got []byte) error {
		var m dns.Msg
		if err := m.Unpack(got); err != nil {
			return err
		}
		var text []string
		for _, rr := range m.Answer {
			text = append(text, rr.String())
		}
		opt := m.IsEdns0()
		if opt == nil || len(opt.Option) != 1 {
			return fmt.Errorf("no Client Subnet in\n%v", &m)
		}
		scope := int(opt.Option[0].(*dns.EDNS0_SUBNET).SourceScope)
		out[i] = tailored{strings.Join(text, "\n"), netip.PrefixFrom(at[i], scope).Masked()}
		return nil
	}))
	return out
}

// Blocks that answers are tailored for are disjoint, and whoever lies in one
// gets its answer, by whatever policy and health (RFC 7871 section 7.2.1).
func TestPartitionsOverTheWire(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 7))
	source, prefixes := randomPlaces(r)
	at := edges(prefixes)
	for range 100 {
		at = append(at, netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, 0x0a000000|r.Uint32()>>8))))
	}
	bothWays(t, func(t *testing.T, off bool) *site {
		return newSiteOf(t, newWorld(t, everySteering()), source, Config{Device: "eth0", Mode: Native}, off)
	}, func(s *site) {
		c := s.dialFrom("", siteServer4)
		asked, before := 0, s.answered()
		for _, v := range []*fleet.View{nil, down("s0", "fra")} {
			s.server.SetView(v)
			s.eventually("settled", func() bool { return s.server.Plan().Settled() && s.served.Load() == s.server.Plan() })
			for i := range steerings {
				for _, rtype := range []uint16{zone.TypeA, zone.TypeAAAA, zone.TypeHTTPS} {
					name := fmt.Sprintf("p%d.p.test", i)
					disjoint(s.T, name, s.tailor(c, name, rtype, at))
					asked += len(at)
				}
			}
		}
		s.Logf("%d of %d queries answered in the kernel", s.answered()-before, asked)
		if !s.off.Load() && s.answered()-before < uint64(asked)*99/100 {
			s.Errorf("only %d of %d answered in the kernel", s.answered()-before, asked)
		}
	})
}

// disjoint says where two answers contradict one another.
func disjoint(t *testing.T, name string, list []tailored) {
	t.Helper()
	slices.SortFunc(list, func(a, b tailored) int { // so that a block stands before those in it
		if c := a.block.Addr().Compare(b.block.Addr()); c != 0 {
			return c
		}
		return a.block.Bits() - b.block.Bits()
	})
	for i := range list[1:] {
		a, b := list[i], list[i+1]
		if a.block == b.block && a.records != b.records {
			t.Fatalf("%s: %s is answered\n%s\nand\n%s", name, a.block, a.records, b.records)
		}
		if a.block != b.block && a.block.Overlaps(b.block) {
			t.Fatalf("%s: the blocks %s and %s overlap", name, a.block, b.block)
		}
	}
}

// A share of the networks goes to each region by its weight, each network all
// the time to the same, and what is tailored for it is for it alone.
func TestSharesOverTheWire(t *testing.T) {
	bothWays(t, func(t *testing.T, off bool) *site {
		return newSiteOf(t, newWorld(t, spec), newAtlas(), Config{Device: "eth0", Mode: Native}, off)
	}, func(s *site) {
		var at []netip.Addr
		for i := range 1024 {
			at = append(at, netip.AddrFrom4([4]byte{10, 1, byte(i >> 2), byte(i)}))
		}
		c := s.dialFrom("", siteServer4)
		list := s.tailor(c, "split.demo.test", zone.TypeA, at)
		by := map[string]int{}
		for i, one := range list {
			by[one.records]++
			if one.block.Bits() != 24 {
				s.Fatalf("%s gets an answer for %s", at[i], one.block)
			}
		}
		if !slices.Equal(s.tailor(c, "split.demo.test", zone.TypeA, at), list) {
			s.Error("asked again, another answer")
		}
		disjoint(s.T, "split.demo.test", list)
		for records, n := range by {
			if len(by) != 2 || n < 400 {
				s.Errorf("weights 50 and 50 give %d of 1024 to %s", n, records)
			}
		}
	})
}

// What dns/answer says to whatever query goes out octet for octet, and the same
// each time.
func TestAnswersOverTheWire(t *testing.T) {
	worlds := map[string]func(t *testing.T) *fleet.World{"plain": func(t *testing.T) *fleet.World { return newWorld(t, spec) }}
	for _, policy := range []string{"nsec", "nsec3"} {
		worlds[policy] = func(t *testing.T) *fleet.World {
			w := newWorld(t, strings.ReplaceAll(signedSpec, "POLICY", policy))
			signWorld(t, w, policy)
			return w
		}
	}
	for name, world := range worlds {
		t.Run(name, func(t *testing.T) {
			bothWays(t, func(t *testing.T, off bool) *site {
				return newSiteOf(t, world(t), newAtlas(), Config{Device: "eth0", Mode: Native}, off)
			}, func(s *site) {
				a := newAsker(s.server.Plan(), 31)
				var queries [][]byte
				for i := range many() / 15 {
					q := a.query()
					if i%4 == 0 {
						q = a.mutate(q)
					}
					queries = append(queries, q)
				}
				queries = s.answerable(queries)
				four, six := net.Conn(s.dialFrom("", siteServer4)), s.dialFrom("", siteServer6)
				if s.mode() != "" {
					four = s.cable("", siteServer4)
				}
				for _, c := range []net.Conn{four, six} {
					share := s.asks(c, queries)
					s.Logf("%.0f %% of %d queries of all kinds answered in the kernel", 100*share, len(queries))
				}
			})
		})
	}
}
