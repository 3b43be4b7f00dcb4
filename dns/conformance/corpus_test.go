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
	a := asker{zone: zone, signed: signed, rnd: rand.New(rand.NewPCG(h.Sum64(), 1)), have: map[string][]uint16{}}
	a.readNames(text)
	a.moreNames()
	a.askNames()
	a.askText(text)
	seen := map[string]bool{}
	return slices.DeleteFunc(a.out, func(q query) bool {
		dup := seen[q.key()]
		seen[q.key()] = true
		return dup
	})
}

// asker makes up the queries for one zone.
type asker struct {
	zone   string
	signed bool
	rnd    *rand.Rand
	names  []string            // in order of appearance
	have   map[string][]uint16 // their types, and a 0
	out    []query
}

// random says whether the zone is one of those whose text asks for enough.
func (a *asker) random() bool { return strings.HasPrefix(a.zone, "random") }

func (a *asker) note(name string, types ...uint16) {
	if name = dns.CanonicalName(name); a.have[name] == nil {
		a.names, a.have[name] = append(a.names, name), []uint16{0}
	}
	for _, t := range types {
		if !slices.Contains(a.have[name], t) {
			a.have[name] = append(a.have[name], t)
		}
	}
}

// readNames notes the names that the zone has.
func (a *asker) readNames(text string) {
	p := dns.NewZoneParser(strings.NewReader(text), a.zone, "")
	for rr, ok := p.Next(); ok; rr, ok = p.Next() {
		a.note(rr.Header().Name, rr.Header().Rrtype)
	}
	if err := p.Err(); err != nil {
		panic(fmt.Sprintf("corpus: %s: %v", a.zone, err))
	}
}

// moreNames notes names above, below and beside those.
func (a *asker) moreNames() {
	for _, name := range slices.Clone(a.names) {
		for up := name; dns.IsSubDomain(a.zone, up) && up != a.zone; up = parent(up) {
			a.note(up)
		}
		if base, wild := strings.CutPrefix(name, "*."); wild {
			a.note("x."+base, a.have[name]...)
			a.note("x.y." + base)
		}
		for _, child := range []string{"nx." + name, "*." + name} {
			if _, ok := dns.IsDomainName(child); ok && !a.random() {
				a.note(child)
			}
		}
	}
	for _, label := range []string{"nx", "zzz", "0", "\\000", "_nx._tcp"} {
		a.note(label+"."+strings.TrimPrefix(a.zone, "."), dns.TypeA, dns.TypeDS)
	}
}

func (a *asker) add(name string, qt uint16, m mode) {
	if m.fold {
		name = fold(a.rnd, name)
	}
	a.out = append(a.out, query{a.zone, name, qt, m})
}

// askNames asks for the types of each name, and for some others.
func (a *asker) askNames() {
	for _, name := range a.names {
		types := a.have[name][1:]
		for range 3 {
			types = append(types, otherTypes[a.rnd.IntN(len(otherTypes))])
		}
		slices.Sort(types)
		for _, qt := range slices.Compact(types) {
			m := modes[a.rnd.IntN(len(modes))]
			if a.signed {
				m = secure[a.rnd.IntN(len(secure))]
			}
			a.add(name, qt, m)
		}
	}
}

// askText asks what the text asks for, in lines of ";? NAME TYPE".
func (a *asker) askText(text string) {
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) != 3 || f[0] != ";?" {
			continue
		}
		qt, ok := dns.StringToType[f[2]]
		if !ok {
			panic("corpus: type " + f[2])
		}
		many := 4
		if a.random() {
			many = 1
		}
		for i := range many {
			m := modes[(i*3+a.rnd.IntN(3))%len(modes)]
			if a.signed && (i > 0 || many == 1) {
				m = secure[a.rnd.IntN(len(secure))]
			}
			a.add(absolute(f[1], a.zone), qt, m)
		}
	}
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
