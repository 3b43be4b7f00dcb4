package conformance

import (
	"crypto/rand"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"meridian/dns/sign"
	dnszone "meridian/dns/zone"
	"meridian/fleet"
	"meridian/internal/testkit"
)

// signer signs a zone's text and gives the signed text and the key.
type signer func(t testing.TB, origin, text string) (string, *dns.DNSKEY)

// families are the ways in which each kind of zone is made; nil leaves the
// zone as it is. Three signers, so that nobody's habits pass for the rule;
// ours is one of them.
var families = []struct {
	name string
	sign signer
}{
	{"plain", nil},
	{"nsec", bySigner("dnssec-signzone", "-q", "-z", "-o", "ORIGIN", "-f", "out", "in", "KEY")},
	{"nsec3", bySigner("dnssec-signzone", "-q", "-z", "-3", "-", "-H", "0", "-o", "ORIGIN", "-f", "out", "in", "KEY")},
	{"optout", bySigner("ldns-signzone", "-n", "-p", "-t", "0", "-o", "ORIGIN", "-f", "out", "in", "KEY")},
	{"own", byMeridian(fleet.DNSSECPolicy{Policy: "own", Denial: fleet.DenialNSEC})},
	{"own3", byMeridian(fleet.DNSSECPolicy{Policy: "own3", Denial: fleet.DenialNSEC3, OptOut: true})},
}

// byMeridian signs by dns/sign, with a key that has been in use for long.
func byMeridian(policy fleet.DNSSECPolicy) signer {
	return func(t testing.TB, origin, text string) (string, *dns.DNSKEY) {
		t.Helper()
		now := time.Now()
		p := policy
		p.Algorithm, p.SingleKey = fleet.ECDSAP256, true
		p.Validity, p.Refresh = fleet.Duration(14*24*time.Hour), fleet.Duration(4*24*time.Hour)
		p.TTL, p.Propagation, p.ParentTTL = fleet.Duration(time.Hour), fleet.Duration(time.Hour), fleet.Duration(time.Hour)
		state, _, _, err := sign.Step(sign.State{}, fleet.Name(origin), &p, now.Add(-1000*time.Hour), sign.Facts{MaxTTL: 3600}, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		for i := range state.Keys {
			in := sign.Phase{State: sign.Omnipresent, Since: now.Add(-500 * time.Hour)}
			state.Keys[i].DNSKEY, state.Keys[i].RRSIG, state.Keys[i].DS = in, in, in
		}
		state.Checks = now
		base, err := dnszone.Load(fleet.Name(origin), []byte(text), origin)
		if err != nil {
			t.Fatal(err)
		}
		z, _, err := sign.Sign(base, &sign.Options{State: &state, Policy: &p, Serial: base.Serial, Now: now})
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		if err := z.WriteText(&b); err != nil {
			t.Fatal(err)
		}
		return b.String(), keyOf(t, origin, b.String())
	}
}

// keyOf finds the key of a signed zone.
func keyOf(t testing.TB, origin, text string) *dns.DNSKEY {
	t.Helper()
	p := dns.NewZoneParser(strings.NewReader(text), origin, "")
	for rr, ok := p.Next(); ok; rr, ok = p.Next() {
		if k, ok := rr.(*dns.DNSKEY); ok {
			return k
		}
	}
	t.Fatalf("%s has no key: %v", origin, p.Err())
	return nil
}

// bySigner signs by a program that reads "in" and writes "out", with a new key.
func bySigner(command ...string) signer {
	return func(t testing.TB, origin, text string) (string, *dns.DNSKEY) {
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
		argv := slices.Clone(command)
		for i, a := range argv {
			argv[i] = strings.NewReplacer("ORIGIN", origin, "KEY", key).Replace(a)
		}
		run(argv...)
		whole, err := os.ReadFile(filepath.Join(dir, "out"))
		if err != nil {
			t.Fatal(err)
		}
		return string(whole), rr.(*dns.DNSKEY)
	}
}
