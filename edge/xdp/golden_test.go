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
)

var update = flag.Bool("update", false, "write testdata/cases.pcap, its names and what becomes of its packets anew")

// Files of the golden capture: the fleet, the packets, their names a line each,
// and what becomes of each at each node.
const (
	casesSpec   = "testdata/cases.yaml"
	casesPcap   = "testdata/cases.pcap"
	casesNames  = "testdata/cases.names"
	casesGolden = "testdata/cases.golden"
)

// goldenNodes are the nodes of casesSpec that the capture is run at.
var goldenNodes = []struct {
	name  string
	roles Roles
}{{"lb", Roles{L4: true}}, {"gw", Roles{L7: true}}, {"both", Roles{L4: true, L7: true}}}

// captured writes the cases as a capture, a microsecond apart.
func captured(t *testing.T) (capture, names []byte) {
	t.Helper()
	var b, n bytes.Buffer
	w, err := pcap.NewWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for i, c := range cases() {
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
func outcomes(t *testing.T, node string, roles Roles) string {
	t.Helper()
	spec, err := os.ReadFile(casesSpec)
	if err != nil {
		t.Fatal(err)
	}
	capture, err := os.Open(casesPcap)
	if err != nil {
		t.Fatal(err)
	}
	defer capture.Close()
	o, err := NewOffline(OfflineConfig{World: worldOf(t, string(spec)), Node: node, Roles: roles})
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	r, err := pcap.NewReader(capture)
	if err != nil {
		t.Fatal(err)
	}
	names, err := os.ReadFile(casesNames)
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

// The capture's packets, run by the real program at a balancer, a gateway, and
// a node that is both, meet what they always met; -update after a change that
// is meant.
func TestGolden(t *testing.T) {
	defer oneCPU(t)()
	capture, names := captured(t)
	if *update {
		for file, content := range map[string][]byte{casesPcap: capture, casesNames: names} {
			if err := os.WriteFile(file, content, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	for file, want := range map[string][]byte{casesPcap: capture, casesNames: names} {
		if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is not what the cases make (%v): go test -run Golden -update", file, err)
		}
	}
	if n := len(cases()); n < 300 {
		t.Errorf("%d cases: expected at least 300", n)
	}
	var got strings.Builder
	for _, n := range goldenNodes {
		fmt.Fprintf(&got, "# At %s.\n%s\n", n.name, outcomes(t, n.name, n.roles))
	}
	if *update {
		if err := os.WriteFile(casesGolden, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(casesGolden)
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

// What the capture's packets meet is also what the reference says, octet for
// octet.
func TestGoldenAgainstReference(t *testing.T) {
	spec, err := os.ReadFile(casesSpec)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range goldenNodes {
		t.Run(n.name, func(t *testing.T) {
			defer oneCPU(t)()
			w := newTwin(t, string(spec), n.name, n.roles)
			for _, c := range cases() {
				w.agree(t, c.name, c.frame)
			}
			w.sameTraffic(t)
		})
	}
}
