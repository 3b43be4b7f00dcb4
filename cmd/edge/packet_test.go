package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"meridian/edge/pcap"
	"meridian/internal/testkit"
)

const cases = "../../edge/xdp/testdata/cases"

// edge packet over the golden capture gives what edge/xdp's golden has, and
// writes the packets that leave.
func TestPacketGivesTheGoldenVerdicts(t *testing.T) {
	testkit.Root(t)
	golden, err := os.ReadFile(cases + ".golden")
	if err != nil {
		t.Fatal(err)
	}
	names, err := os.ReadFile(cases + ".names")
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	for _, node := range []string{"lb", "gw", "both"} {
		f := packetFlags{spec: cases + ".yaml", node: node, in: cases + ".pcap", out: filepath.Join(t.TempDir(), "out.pcap"), mtu: 1500, flows: 1 << 16, json: true}
		var lines bytes.Buffer
		if err := f.run(&lines); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&got, "# At %s.\n%s\n", node, goldenLines(t, &lines, f.out, string(names)))
	}
	w, g := strings.Split(string(golden), "\n"), strings.Split(got.String(), "\n")
	if len(w) != len(g) {
		t.Fatalf("%d lines, expected %d", len(g), len(w))
	}
	for i := range w {
		// What passes changed is not written anywhere: the golden's digest alone knows it.
		if !strings.Contains(w[i], ": pass decapsulated") && w[i] != g[i] {
			t.Errorf("is %s, expected %s", g[i], w[i])
		}
	}
}

// goldenLines makes lines of the golden of the command's output.
func goldenLines(t *testing.T, lines io.Reader, out, names string) string {
	t.Helper()
	file, err := os.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	left, err := pcap.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	scan := bufio.NewScanner(lines)
	for name := range strings.Lines(names) {
		var line packetLine
		if !scan.Scan() {
			t.Fatal("fewer lines than packets")
		}
		if err := json.Unmarshal(scan.Bytes(), &line); err != nil {
			t.Fatal(err)
		}
		digest, endpoint := "-", "-"
		if line.Leaves() {
			p, err := left.Next()
			if err != nil || len(p.Data) != line.OutLength {
				t.Fatalf("packet %d: %v, %d octets of %d", line.OutPacket, err, len(p.Data), line.OutLength)
			}
			digest = fmt.Sprintf("%x", sha256.Sum256(p.Data))[:16]
		}
		if line.Endpoint != "" {
			endpoint = line.Endpoint
		}
		slices.Sort(line.Counted)
		fmt.Fprintf(&b, "%s: %s\n", strings.TrimSuffix(name, "\n"), strings.Join(append([]string{line.Verdict, line.Reason, endpoint, digest}, line.Counted...), " "))
	}
	if _, err := left.Next(); err != io.EOF {
		t.Errorf("more packets were written than leave: %v", err)
	}
	return b.String()
}

func TestPacketRefusesWhatItCannotRun(t *testing.T) {
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, []byte("no capture"), 0o600); err != nil {
		t.Fatal(err)
	}
	ok := packetFlags{spec: cases + ".yaml", node: "lb", in: cases + ".pcap", mtu: 1500, flows: 1 << 10}
	for _, c := range []struct {
		change func(*packetFlags)
		want   string
	}{
		{func(f *packetFlags) { f.in = text }, "neither pcap nor pcapng"},
		{func(f *packetFlags) { f.in = text + ".none" }, "no such file"},
		{func(f *packetFlags) { f.spec = text }, "text: "},
		{func(f *packetFlags) { f.node = "nobody" }, `"nobody" is not in the Spec`},
		{func(f *packetFlags) { f.mtu = 10 }, "MTU 10: expected 68 to 65535"},
	} {
		f := ok
		c.change(&f)
		if err := f.run(io.Discard); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("error %v, expected %s", err, c.want)
		}
	}
}

// What is read is not written to.
func TestPacketDoesNotWriteToWhatItReads(t *testing.T) {
	dir := t.TempDir()
	in := filepath.Join(dir, "a.pcap")
	if err := os.WriteFile(in, []byte("packets"), 0o600); err != nil {
		t.Fatal(err)
	}
	f := packetFlags{in: in, out: filepath.Join(dir, ".", "a.pcap")}
	if _, err := f.create(); err == nil || !strings.Contains(err.Error(), "is what is read") {
		t.Errorf("%v", err)
	}
	if b, err := os.ReadFile(in); err != nil || string(b) != "packets" {
		t.Errorf("the file has %q, %v", b, err)
	}
}
