package xdp

import (
	"bytes"
	"crypto/sha256"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"meridian/edge/pcap"
	"meridian/edge/quiclb"
	"meridian/geo"
)

var update = flag.Bool("update", false, "write testdata/cases.pcap, its names and what becomes of its packets anew")

// goldens are the golden captures. Each has its fleet, its packets, their names a
// line each, and what becomes of each at each node, in testdata.
var goldens = []golden{{"cases", cases, 300}, {"kinds", kindsCases, 250}}

type golden struct {
	name  string
	cases func() []testCase
	least int // how many
}

func (g golden) file(kind string) string { return "testdata/" + g.name + "." + kind }

func (g golden) spec(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(g.file("yaml"))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// goldenNodes are the nodes that the captures are run at.
var goldenNodes = []struct {
	name  string
	roles Roles
}{{"lb", Roles{L4: true}}, {"gw", Roles{L7: true}}, {"both", Roles{L4: true, L7: true}}}

// captured writes the cases as a capture, a microsecond apart.
func (g golden) captured(t *testing.T) (capture, names []byte) {
	t.Helper()
	var b, n bytes.Buffer
	w, err := pcap.NewWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for i, c := range g.cases() {
		if seen[c.name] {
			t.Errorf("two cases are named %q", c.name)
		}
		seen[c.name] = true
		if err := w.Write(pcap.Packet{Time: time.Unix(1_800_000_000, int64(i)*1000), Data: c.frame}); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(&n, c.name)
	}
	return b.Bytes(), n.Bytes()
}

// outcomes runs the capture at a node, and gives a line for each packet: its
// name, the verdict, all that was counted, the endpoint, and a digest of what
// left.
func (g golden) outcomes(t *testing.T, node string, roles Roles) string {
	t.Helper()
	capture, err := os.Open(g.file("pcap"))
	if err != nil {
		t.Fatal(err)
	}
	defer capture.Close()
	o, err := NewOffline(OfflineConfig{World: worldOf(t, g.spec(t)), Node: node, Roles: roles, QUIC: []quiclb.Config{blockIDs},
		CookieKey: func(int, int64) Key { return kindsKey }, Geo: func() (geo.Source, error) { return kindsAtlas, nil }})
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	r, err := pcap.NewReader(capture)
	if err != nil {
		t.Fatal(err)
	}
	names, err := os.ReadFile(g.file("names"))
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for name := range strings.Lines(string(names)) {
		p, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		got, err := o.Run(p.Data)
		if err != nil {
			t.Fatal(err)
		}
		digest, endpoint := "-", "-"
		if got.Leaves() || got.Verdict == "pass" && !bytes.Equal(got.Out, p.Data) {
			digest = fmt.Sprintf("%x", sha256.Sum256(got.Out))[:16]
		}
		if got.Reason == "cookie" {
			digest = "*" // it tells the time; the reference knows what it has to be
		}
		if got.Endpoint != "" {
			endpoint = got.Endpoint
		}
		slices.Sort(got.Counted)
		fmt.Fprintf(&out, "%s: %s\n", strings.TrimSuffix(name, "\n"),
			strings.Join(append([]string{got.Verdict, got.Reason, endpoint, digest}, got.Counted...), " "))
	}
	if _, err := r.Next(); err != io.EOF {
		t.Errorf("more packets than names: %v", err)
	}
	return out.String()
}

// The captures' packets, run by the real program at a balancer, a gateway, and
// a node that is both, meet what they always met; -update after a change that
// is meant.
func TestGolden(t *testing.T) {
	defer oneCPU(t)()
	for _, g := range goldens {
		t.Run(g.name, g.test)
	}
}

func (g golden) test(t *testing.T) {
	capture, names := g.captured(t)
	files := map[string][]byte{g.file("pcap"): capture, g.file("names"): names}
	write := func(file string, content []byte) {
		if *update {
			if err := os.WriteFile(file, content, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	for file, want := range files {
		write(file, want)
		if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is not what the cases make (%v): go test -run Golden -update", file, err)
		}
	}
	if n := len(g.cases()); n < g.least {
		t.Errorf("%d cases: expected at least %d", n, g.least)
	}
	var got strings.Builder
	for _, n := range goldenNodes {
		fmt.Fprintf(&got, "# At %s.\n%s\n", n.name, g.outcomes(t, n.name, n.roles))
	}
	write(g.file("golden"), []byte(got.String()))
	want, err := os.ReadFile(g.file("golden"))
	if err != nil {
		t.Fatal(err)
	}
	compareLines(t, string(want), got.String())
}

// compareLines shows the lines that differ, by their packet's name.
func compareLines(t *testing.T, want, got string) {
	t.Helper()
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	if len(w) != len(g) {
		t.Fatalf("%d lines, expected %d: go test -run Golden -update", len(g), len(w))
	}
	node, shown := "", 0
	for i := range w {
		if strings.HasPrefix(w[i], "#") {
			node = w[i]
		}
		if w[i] != g[i] {
			if shown++; shown <= 20 {
				t.Errorf("%s\n  is       %s\n  expected %s", node, g[i], w[i])
			}
		}
	}
	if shown > 20 {
		t.Errorf("and %d more", shown-20)
	}
}

// What the captures' packets meet is also what the reference says, octet for
// octet.
func TestGoldenAgainstReference(t *testing.T) {
	for _, g := range goldens {
		for _, n := range goldenNodes {
			t.Run(g.name+" at "+n.name, func(t *testing.T) {
				defer oneCPU(t)()
				w := newTwin(t, g.spec(t), n.name, n.roles)
				for _, c := range g.cases() {
					w.agree(t, c.name, c.frame)
				}
				w.sameTraffic(t)
			})
		}
	}
}
