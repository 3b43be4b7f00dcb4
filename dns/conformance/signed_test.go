package conformance

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"meridian/internal/testkit"
)

// families are the ways in which each kind of zone is made. sign gives the
// command that reads zone "in" and writes "out" in its folder; nil leaves the
// zone as it is. Two signers, so that neither one's habits pass for the rule.
var families = []struct {
	name string
	sign func(origin, key string) []string
}{
	{"plain", nil},
	{"nsec", func(origin, key string) []string {
		return []string{"dnssec-signzone", "-q", "-z", "-o", origin, "-f", "out", "in", key}
	}},
	{"nsec3", func(origin, key string) []string {
		return []string{"dnssec-signzone", "-q", "-z", "-3", "-", "-H", "0", "-o", origin, "-f", "out", "in", key}
	}},
	{"optout", func(origin, key string) []string {
		return []string{"ldns-signzone", "-n", "-p", "-t", "0", "-o", origin, "-f", "out", "in", key}
	}},
}

// signed signs a zone with a new key and gives its text and its key.
func signed(t testing.TB, origin, text string, sign func(origin, key string) []string) (string, *dns.DNSKEY) {
	t.Helper()
	dir := t.TempDir()
	run := func(argv ...string) string {
		t.Helper()
		cmd := exec.Command(testkit.Program(t, argv[0]), argv[1:]...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s for %s: %v\n%s", argv[0], origin, err, out)
		}
		return string(out)
	}
	out := run("dnssec-keygen", "-q", "-a", "ECDSAP256SHA256", "-f", "KSK", origin)
	key := strings.TrimSpace(out[strings.LastIndex(out, "K"):])
	public, err := os.ReadFile(filepath.Join(dir, key+".key"))
	if err != nil {
		t.Fatal(err)
	}
	rr, err := dns.NewRR(string(public))
	if err != nil {
		t.Fatal(err)
	}
	rr.Header().Ttl = 3600
	writeFile(t, dir, "in", text+rr.String()+"\n")
	run(sign(origin, key)...)
	whole, err := os.ReadFile(filepath.Join(dir, "out"))
	if err != nil {
		t.Fatal(err)
	}
	return string(whole), rr.(*dns.DNSKEY)
}
