package conformance

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// query is one question of the corpus and how it is asked.
type query struct {
	zone string
	name string // as sent, its case mixed where the mode says so
	qt   uint16
	mode mode
}

// mode is how a question is asked.
type mode struct {
	name string
	tcp  bool
	size uint16 // 0: without EDNS
	do   bool
	rd   bool
	ad   bool
	cd   bool
	fold bool // mix the case of the name
}

var modes = []mode{
	{name: "udp"},
	{name: "udp-rd", rd: true},
	{name: "udp-ad-cd", ad: true, cd: true, size: 1232},
	{name: "udp-fold", fold: true},
	{name: "udp512", size: 512},
	{name: "udp1232", size: 1232},
	{name: "udp4096", size: 4096},
	{name: "udp100", size: 100},
	{name: "udp512-do", size: 512, do: true},
	{name: "udp1232-do", size: 1232, do: true},
	{name: "udp4096-do-cd", size: 4096, do: true, cd: true},
	{name: "udp1232-do-fold", size: 1232, do: true, fold: true},
	{name: "tcp", tcp: true},
	{name: "tcp-do", tcp: true, size: 4096, do: true},
}

// limit is the size of the largest response in octets.
func (m mode) limit() int {
	switch {
	case m.tcp:
		return 65535
	case m.size == 0:
		return 512
	}
	return min(max(int(m.size), 512), payload)
}

// secure are the modes that ask for signatures.
var secure = slices.DeleteFunc(slices.Clone(modes), func(m mode) bool { return !m.do })

// key names a query in differences.txt and in failures.
func (q query) key() string {
	return fmt.Sprintf("%s %s %s", strings.ToLower(q.name), dns.Type(q.qt), q.mode.name)
}

// wire is the query as sent, with that id.
func (q query) wire(id uint16) []byte {
	m := new(dns.Msg).SetQuestion(q.name, q.qt)
	m.Id, m.RecursionDesired, m.AuthenticatedData, m.CheckingDisabled = id, q.mode.rd, q.mode.ad, q.mode.cd
	if q.mode.size > 0 {
		m.SetEdns0(q.mode.size, q.mode.do)
	}
	out, err := m.Pack()
	if err != nil {
		panic(fmt.Sprintf("corpus: %s: %v", q.key(), err))
	}
	return out
}

// templates reads the kinds of zone in a folder of testdata.
func templates(t testing.TB, folder string) map[string]string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", folder, "*.zone"))
	if err != nil || len(files) == 0 {
		t.Fatal("no templates: ", err)
	}
	out := map[string]string{}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		out[strings.TrimSuffix(filepath.Base(f), ".zone")] = string(text)
	}
	return out
}

// otherTypes are asked of names that need not have them.
var otherTypes = []uint16{
	dns.TypeA, dns.TypeAAAA, dns.TypeNS, dns.TypeSOA, dns.TypeCNAME, dns.TypeDNAME, dns.TypeMX, dns.TypeTXT, dns.TypeSRV,
	dns.TypeHTTPS, dns.TypeDS, dns.TypeANY, dns.TypeRRSIG, dns.TypeNSEC, dns.TypeNSEC3, dns.TypeDNSKEY, dns.TypeNSEC3PARAM, 65400, 65432,
}

// ask derives the queries for a zone from its text: for each name there its
// own types and some others; names above, below and beside it; and what the
// text itself asks for. Signed zones are asked with DO. The same text gives
// the same queries.
func ask(zone, text string, signed bool) []query {
	h := fnv.New64a()
	h.Write([]byte(zone))
	rnd := rand.New(rand.NewPCG(h.Sum64(), 1))
	have := map[string][]uint16{}
	var names []string
	note := func(name string, types ...uint16) {
		if name = dns.CanonicalName(name); have[name] == nil {
			names, have[name] = append(names, name), []uint16{0}
		}
		for _, t := range types {
			if !slices.Contains(have[name], t) {
				have[name] = append(have[name], t)
			}
		}
	}
	p := dns.NewZoneParser(strings.NewReader(text), zone, "")
	for rr, ok := p.Next(); ok; rr, ok = p.Next() {
		note(rr.Header().Name, rr.Header().Rrtype)
	}
	if err := p.Err(); err != nil {
		panic(fmt.Sprintf("corpus: %s: %v", zone, err))
	}
	for _, name := range slices.Clone(names) {
		for up := name; dns.IsSubDomain(zone, up) && up != zone; up = parent(up) {
			note(up)
		}
		if base, wild := strings.CutPrefix(name, "*."); wild {
			note("x."+base, have[name]...)
			note("x.y." + base)
		}
		for _, child := range []string{"nx." + name, "*." + name} {
			if strings.HasPrefix(zone, "random") {
				break // its text asks for enough
			}
			if _, ok := dns.IsDomainName(child); ok {
				note(child)
			}
		}
	}
	for _, label := range []string{"nx", "zzz", "0", "\\000", "_nx._tcp"} {
		note(label+"."+strings.TrimPrefix(zone, "."), dns.TypeA, dns.TypeDS)
	}
	var out []query
	add := func(name string, qt uint16, m mode) {
		if m.fold {
			name = fold(rnd, name)
		}
		out = append(out, query{zone, name, qt, m})
	}
	for _, name := range names {
		types := have[name][1:]
		for range 3 {
			types = append(types, otherTypes[rnd.IntN(len(otherTypes))])
		}
		slices.Sort(types)
		for _, qt := range slices.Compact(types) {
			m := modes[rnd.IntN(len(modes))]
			if signed {
				m = secure[rnd.IntN(len(secure))]
			}
			add(name, qt, m)
		}
	}
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == ";?" {
			qt, ok := dns.StringToType[f[2]]
			if !ok {
				panic("corpus: type " + f[2])
			}
			many := 4
			if strings.HasPrefix(zone, "random") {
				many = 1
			}
			for i := range many {
				m := modes[(i*3+rnd.IntN(3))%len(modes)]
				if signed && (i > 0 || many == 1) {
					m = secure[rnd.IntN(len(secure))]
				}
				add(absolute(f[1], zone), qt, m)
			}
		}
	}
	seen := map[string]bool{}
	return slices.DeleteFunc(out, func(q query) bool {
		dup := seen[q.key()]
		seen[q.key()] = true
		return dup
	})
}

func absolute(name, zone string) string {
	switch {
	case name == "@":
		return zone
	case strings.HasSuffix(name, "."):
		return name
	}
	return name + "." + strings.TrimPrefix(zone, ".")
}

func parent(name string) string {
	i, end := dns.NextLabel(name, 0)
	if end {
		return "."
	}
	return name[i:]
}

// fold mixes the case of a name's letters, escapes left aside.
func fold(rnd *rand.Rand, name string) string {
	b := []byte(name)
	for i := range b {
		if b[i]|0x20 >= 'a' && b[i]|0x20 <= 'z' && rnd.IntN(2) == 0 {
			b[i] ^= 0x20
		}
	}
	return string(b)
}
