package xdp

import (
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"meridian/fleet"
	"meridian/geo/mmdb"
	"meridian/internal/testkit"
)

// mixDoc is the Spec that bench/dns/peers.sh writes for Meridian.
func mixDoc(t testing.TB, zoneFile, dnssec string) string {
	t.Helper()
	records, err := os.ReadFile(zoneFile)
	if err != nil {
		t.Fatal(err)
	}
	var doc, match strings.Builder
	doc.WriteString("regions:\n")
	for i, continent := range []string{"AF", "AN", "AS", "EU", "NA", "OC", "SA"} {
		region := strings.ToLower(continent)
		fmt.Fprintf(&doc, "- {id: %s, vips: {v4: [198.51.100.%d]}, location: {latitude: 0, longitude: 0}}\n", region, i+1)
		fmt.Fprintf(&match, "    - {continents: [%s], regions: [%s]}\n", continent, region)
	}
	doc.WriteString("services:\n- service: www\n  protocol: http\n  ports: [80]\n  pools: [{id: a, endpoints: [{address: \"192.0.2.80:80\"}]}]\n  steering:\n    policy: geo\n    geo:\n" + match.String())
	fmt.Fprintf(&doc, "zones:\n- zone: example.test\n%s  records: |\n    %s\n  steered: [{name: www, service: www, ttl: 60s}]\n", dnssec, strings.ReplaceAll(strings.TrimSpace(string(records)), "\n", "\n    "))
	return doc.String()
}

// asked is a query of the bench's files and what its answer must be (see
// bench/dns/blast.c).
type asked struct {
	query                     []byte
	rcode, answers, authority byte
	address                   []byte // nil where any will do
}

// readLoad reads so many queries of a file, from all over it.
func readLoad(t testing.TB, file string, n int) []asked {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var all []asked
	for len(b) > 0 {
		size := int(binary.LittleEndian.Uint16(b))
		l := asked{rcode: b[4], answers: b[5], authority: b[6], query: b[12 : 12+size]}
		if b[7]&1 != 0 {
			l.address = b[8:12]
		}
		all, b = append(all, l), b[12+size:]
	}
	step := len(all) / n
	out := make([]asked, n)
	for i := range out {
		out[i] = all[i*step]
	}
	return out
}

// What bench/dns.sh asks is answered in the kernel but for less than a
// hundredth: the mix, a different Client Subnet in every query, and both for
// DNSSEC of a zone that is signed.
func TestShareOfTheBenchsQueries(t *testing.T) {
	testkit.Root(t)
	data := t.TempDir()
	if out, err := exec.Command(testkit.Program(t, "go"), "run", "../../bench/dns/make.go", data).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	source, err := mmdb.Open(filepath.Join(data, "geo.mmdb"))
	if err != nil {
		t.Fatal(err)
	}
	zoneFile := filepath.Join(data, "rest.zone")
	plain := newWorld(t, mixDoc(t, zoneFile, ""))
	signed := newWorld(t, "dns: {dnssec: [{policy: p}]}\n"+mixDoc(t, zoneFile, "  dnssec: p\n"))
	signWorld(t, signed, "p")
	for _, of := range []struct {
		world *fleet.World
		files []string
	}{{plain, []string{"mix", "subnet"}}, {signed, []string{"do"}}} {
		s := newSiteOf(t, of.world, source, Config{Device: "eth0", Mode: Native}, false)
		c := net.Conn(s.dialFrom("10.53.0.1", siteServer4))
		if of.world == signed {
			c = s.cable("10.53.0.1", siteServer4)
		}
		for _, name := range of.files {
			loads := readLoad(t, filepath.Join(data, name+".q"), 4096)
			queries := make([][]byte, len(loads))
			for i, l := range loads {
				queries[i] = l.query
			}
			share := s.checks(c, queries, func(i int, got []byte) error { return loads[i].check(got) })
			t.Logf("%s: %.2f %% of %d queries answered in the kernel", name, 100*share, len(queries))
			if share <= 0.99 {
				t.Errorf("%s: only %.2f %% answered in the kernel", name, 100*share)
			}
		}
	}
}

// check holds an answer to what the bench expects of every server.
func (l *asked) check(got []byte) error {
	var m dns.Msg
	if err := m.Unpack(got); err != nil {
		return fmt.Errorf("%x: %w", got, err)
	}
	right := l.address == nil
	for _, rr := range m.Answer {
		if a, ok := rr.(*dns.A); ok && slices.Equal(a.A.To4(), l.address) {
			right = true
		}
	}
	if !right || m.Rcode != int(l.rcode) || len(m.Answer) < int(l.answers) || len(m.Ns) < int(l.authority) {
		return fmt.Errorf("expected rcode %d, %d and %d records and %v in\n%v", l.rcode, l.answers, l.authority, l.address, &m)
	}
	return nil
}
