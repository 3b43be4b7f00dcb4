//go:build ignore

// Makes what bench/dns.sh asks and what is asked: the zone in the forms that
// its servers read, a geo database, and files of queries with what their
// answers must be.
//
//	go run make.go DIR
//
// It is deterministic: the same files on every machine.
package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"log"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/maxmind/mmdbwriter"
	"github.com/maxmind/mmdbwriter/mmdbtype"
	"github.com/miekg/dns"
)

const (
	hosts    = 1000   // names with an A record
	aliases  = 100    // names with a CNAME record, each to a host
	networks = 200000 // IPv4 /24 in the geo database
	wide     = 20000  // IPv6 /48 in it
	asked    = 65536  // queries in a file; of varied subnets as many as there are networks
)

// site is one continent's answer for www, and a country there.
type site struct {
	continent, country, city string
	address                  netip.Addr
	lat, lon                 float64
}

var sites = []site{
	{"AF", "KE", "Nairobi", netip.MustParseAddr("198.51.100.1"), -1.3, 36.8},
	{"AN", "AQ", "McMurdo", netip.MustParseAddr("198.51.100.2"), -77.8, 166.7},
	{"AS", "JP", "Tokyo", netip.MustParseAddr("198.51.100.3"), 35.7, 139.7},
	{"EU", "DE", "Frankfurt", netip.MustParseAddr("198.51.100.4"), 50.1, 8.7},
	{"NA", "US", "Ashburn", netip.MustParseAddr("198.51.100.5"), 39.0, -77.5},
	{"OC", "AU", "Sydney", netip.MustParseAddr("198.51.100.6"), -33.9, 151.2},
	{"SA", "BR", "Sao Paulo", netip.MustParseAddr("198.51.100.7"), -23.6, -46.6},
}

// home is where the generator is: what www answers to queries without a subnet, at all servers.
var home = sites[3]

func main() {
	log.SetFlags(0)
	if len(os.Args) != 2 {
		log.Fatal("usage: make DIR")
	}
	dir := os.Args[1]
	r := rand.New(rand.NewPCG(1, 2))
	writeZones(dir)
	list := writeDatabase(filepath.Join(dir, "geo.mmdb"), r)
	writeMix(dir, r)
	writeSubnets(filepath.Join(dir, "subnet.q"), list, r)
}

func check(err error) {
	if err != nil {
		log.Fatal("make: ", err)
	}
}

func write(path, text string) { check(os.WriteFile(path, []byte(text), 0o644)) }

func host(i int) (name string, a netip.Addr) {
	return fmt.Sprintf("host%d", i), netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})
}

// writeZones writes the zone without www, with www as a plain name, with
// gdnsd's www, and as PowerDNS's geoip backend has it; and Knot's geo module's www.
func writeZones(dir string) {
	const top = "$ORIGIN example.test.\n$TTL 3600\n@ SOA ns1 admin 1 3600 600 86400 60\n@ NS ns1\n@ NS ns2\nns1 A 192.0.2.1\nns2 A 192.0.2.2\n"
	var names, yaml strings.Builder
	entry := func(name, kind string, content any) {
		fmt.Fprintf(&names, "%s %s %v\n", name, kind, content)
		if kind == "CNAME" {
			content = fmt.Sprint(content, ".example.test")
		}
		fmt.Fprintf(&yaml, "    %s.example.test: [ { %s: { content: %v, ttl: 3600 } } ]\n", name, strings.ToLower(kind), content)
	}
	for i := range hosts {
		name, a := host(i)
		entry(name, "A", a)
	}
	for i := range aliases {
		target, _ := host(i * 7)
		entry(fmt.Sprintf("alias%d", i), "CNAME", target)
	}
	write(filepath.Join(dir, "rest.zone"), top+names.String())
	write(filepath.Join(dir, "plain.zone"), top+names.String()+fmt.Sprintf("www 60 A %v\n", home.address))
	write(filepath.Join(dir, "gdnsd.zone"), top+names.String()+"www 60 DYNA geoip!www\n")

	var knot, places strings.Builder
	knot.WriteString("www.example.test:\n")
	for _, s := range sites {
		fmt.Fprintf(&knot, "  - geo: \"%s\"\n    A: %v\n", s.continent, s.address)
		fmt.Fprintf(&places, "    %s.place.example.test: [ { a: { content: %v, ttl: 60 } } ]\n", strings.ToLower(s.continent), s.address)
	}
	write(filepath.Join(dir, "knot.geo"), knot.String())
	write(filepath.Join(dir, "powerdns.yaml"), `domains:
- domain: example.test
  ttl: 60
  records:
    example.test:
    - soa: { content: ns1.example.test admin.example.test 1 3600 600 86400 60, ttl: 3600 }
    - ns: { content: ns1.example.test, ttl: 3600 }
    - ns: { content: ns2.example.test, ttl: 3600 }
    ns1.example.test: [ { a: { content: 192.0.2.1, ttl: 3600 } } ]
    ns2.example.test: [ { a: { content: 192.0.2.2, ttl: 3600 } } ]
`+yaml.String()+places.String()+"  services:\n    www.example.test: '%cn.place.example.test'\n")
}

// network is one of the geo database, and where it is.
type network struct {
	prefix netip.Prefix
	site   site
}

// writeDatabase writes a city database of random networks, and of those that
// the generator sends from. It gives the IPv4 networks of the former.
func writeDatabase(path string, r *rand.Rand) []network {
	w, err := mmdbwriter.New(mmdbwriter.Options{DatabaseType: "GeoLite2-City", Languages: []string{"en"}, RecordSize: 28, BuildEpoch: 1750000000,
		IncludeReservedNetworks: true, DisableIPv4Aliasing: true})
	check(err)
	records := map[string]mmdbtype.Map{}
	for _, s := range sites {
		records[s.continent] = s.record()
	}
	insert := func(p netip.Prefix, s site) {
		_, n, err := net.ParseCIDR(p.String())
		check(err)
		check(w.Insert(n, records[s.continent]))
	}
	var list []network
	for seen := map[uint32]bool{}; len(list) < networks; {
		a := uint32(1+r.IntN(222))<<24 | uint32(r.IntN(1<<16))<<8
		if first := a >> 24; seen[a] || first == 10 || first == 127 || a>>16 == 198<<8|51 {
			continue
		}
		seen[a] = true
		n := network{netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(a >> 24), byte(a >> 16), byte(a >> 8)}), 24), sites[r.IntN(len(sites))]}
		list = append(list, n)
		insert(n.prefix, n.site)
	}
	for range wide {
		var b [16]byte
		binary.BigEndian.PutUint64(b[:], 0x2400<<48|uint64(r.Uint32())<<16)
		insert(netip.PrefixFrom(netip.AddrFrom16(b), 48), sites[r.IntN(len(sites))])
	}
	for _, p := range []string{"127.0.0.0/8", "10.53.0.0/16"} {
		insert(netip.MustParsePrefix(p), home)
	}
	f, err := os.Create(path)
	check(err)
	_, err = w.WriteTo(f)
	check(err)
	check(f.Close())
	return list
}

func (s site) record() mmdbtype.Map {
	names := func(n string) mmdbtype.Map { return mmdbtype.Map{"en": mmdbtype.String(n)} }
	return mmdbtype.Map{
		"city":      mmdbtype.Map{"geoname_id": mmdbtype.Uint32(1), "names": names(s.city)},
		"continent": mmdbtype.Map{"code": mmdbtype.String(s.continent), "geoname_id": mmdbtype.Uint32(2), "names": names(s.continent)},
		"country":   mmdbtype.Map{"iso_code": mmdbtype.String(s.country), "geoname_id": mmdbtype.Uint32(3), "names": names(s.country)},
		"location": mmdbtype.Map{"latitude": mmdbtype.Float64(s.lat), "longitude": mmdbtype.Float64(s.lon),
			"accuracy_radius": mmdbtype.Uint16(100), "time_zone": mmdbtype.String("Etc/UTC")},
	}
}

// query is one query, and what its answer must be.
type query struct {
	name              string
	rcode, answer, ns uint8
	address           netip.Addr
	do, scope, signed bool
	fresh             bool // another name each time
	subnet            netip.Prefix
}

// Flags of a query in the file; see blast.c.
const (
	needsAddress = 1 << iota
	needsScope
	needsSignature
	fresh
)

// put writes a query as blast.c reads it.
func (q query) put(w *bufio.Writer) {
	m := new(dns.Msg)
	m.SetQuestion(q.name+".example.test.", dns.TypeA)
	m.Id, m.RecursionDesired = 0, false
	if q.do || q.subnet.IsValid() {
		m.SetEdns0(1232, q.do)
	}
	if q.subnet.IsValid() {
		opt := m.IsEdns0()
		opt.Option = append(opt.Option, &dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: 1, SourceNetmask: uint8(q.subnet.Bits()), Address: q.subnet.Addr().AsSlice()})
	}
	b, err := m.Pack()
	check(err)
	var flags uint8
	var address [4]byte
	if q.address.IsValid() {
		flags, address = flags|needsAddress, q.address.As4()
	}
	if q.scope {
		flags |= needsScope
	}
	if q.signed {
		flags |= needsSignature
	}
	if q.fresh {
		flags |= fresh
	}
	head := binary.LittleEndian.AppendUint16(nil, uint16(len(b)))
	head = binary.LittleEndian.AppendUint16(head, uint16(len(q.name)+len(".example.test.")+1+4))
	head = append(append(head, q.rcode, q.answer, q.ns, flags), address[:]...)
	_, err = w.Write(append(head, b...))
	check(err)
}

// writeMix writes the mix: 90 % names, 5 % that do not exist, 5 % www. The
// order is random, the shares are exact. mix.q asks without EDNS, do.q the
// same for DNSSEC, mix.txt as kxdpgun reads it.
func writeMix(dir string, r *rand.Rand) {
	list := make([]query, 0, asked)
	for i := range asked {
		switch {
		case i%20 == 0:
			list = append(list, query{name: fmt.Sprintf("none%08x", r.Uint32()), fresh: true, rcode: dns.RcodeNameError, ns: 1})
		case i%20 == 1:
			list = append(list, query{name: "www", answer: 1, address: home.address})
		default:
			k := r.IntN(hosts + aliases)
			if k < hosts {
				name, a := host(k)
				list = append(list, query{name: name, answer: 1, address: a})
			} else { // gdnsd gives the CNAME alone
				list = append(list, query{name: fmt.Sprintf("alias%d", k-hosts), answer: 1})
			}
		}
	}
	r.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	var text bytes.Buffer
	toFile(filepath.Join(dir, "mix.q"), func(w *bufio.Writer) {
		for _, q := range list {
			q.put(w)
			fmt.Fprintf(&text, "%s.example.test. A\n", q.name)
		}
	})
	write(filepath.Join(dir, "mix.txt"), text.String())
	toFile(filepath.Join(dir, "do.q"), func(w *bufio.Writer) {
		for _, q := range list {
			q.do, q.signed = true, true
			if q.rcode == 0 {
				q.answer = 2
			} else {
				q.ns = 4 // SOA, at least one NSEC, and their signatures
			}
			q.put(w)
		}
	})
}

// writeSubnets writes queries for www, each for another network.
func writeSubnets(path string, list []network, r *rand.Rand) {
	r.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	toFile(path, func(w *bufio.Writer) {
		for _, n := range list {
			query{name: "www", answer: 1, address: n.site.address, subnet: n.prefix, scope: true}.put(w)
		}
	})
}

func toFile(path string, f func(w *bufio.Writer)) {
	out, err := os.Create(path)
	check(err)
	w := bufio.NewWriter(out)
	f(w)
	check(w.Flush())
	check(out.Close())
}
