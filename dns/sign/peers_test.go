package sign

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"meridian/dns/zone"
	"meridian/fleet"
	"meridian/internal/testkit"
)

// shapes are the ways to sign a zone.
var shapes = map[string]func(*fleet.DNSSECPolicy){
	"nsec, p256":      nil,
	"nsec, ed25519":   func(p *fleet.DNSSECPolicy) { p.Algorithm = fleet.Ed25519 },
	"nsec, csk":       func(p *fleet.DNSSECPolicy) { p.SingleKey = true },
	"nsec3":           func(p *fleet.DNSSECPolicy) { p.Denial = fleet.DenialNSEC3 },
	"nsec3, ed25519":  func(p *fleet.DNSSECPolicy) { p.Denial, p.Algorithm = fleet.DenialNSEC3, fleet.Ed25519 },
	"nsec3, opt-out":  func(p *fleet.DNSSECPolicy) { p.Denial, p.OptOut = fleet.DenialNSEC3, true },
	"nsec, no cds":    func(p *fleet.DNSSECPolicy) { p.CDS = fleet.CDSNever },
	"nsec3, csk, del": func(p *fleet.DNSSECPolicy) { p.Denial, p.SingleKey, p.CDS = fleet.DenialNSEC3, true, fleet.CDSDelete },
}

// ldns-verify-zone, BIND's dnssec-verify and Knot find nothing wrong.
func TestPeersVerifyWhatIsSigned(t *testing.T) {
	t.Parallel()
	for name, edit := range shapes {
		for zonemd := range 2 {
			t.Run(fmt.Sprintf("%s, zonemd %d", name, zonemd), func(t *testing.T) {
				p := policy(t, edit)
				z, _ := signed(t, everything, p, func(o *Options) { o.ZONEMD, o.Now = zonemd == 1, time.Now() })
				verifyByPeers(t, z, p)
				if zonemd == 1 {
					if err := z.VerifyZONEMD(); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
}

// Zones drawn at random, with all kinds of names and nesting.
func TestPeersVerifyRandomZones(t *testing.T) {
	t.Parallel()
	rounds := 6
	if testing.Short() {
		rounds = 2
	}
	for seed := range rounds {
		r := rand.New(rand.NewPCG(uint64(seed), 1))
		text := randomZone(r)
		for name, edit := range shapes {
			if r.IntN(3) > 0 {
				continue
			}
			t.Run(fmt.Sprintf("%d %s", seed, name), func(t *testing.T) {
				p := policy(t, edit)
				z, _ := signed(t, text, p, func(o *Options) { o.ZONEMD, o.Now = r.IntN(2) == 0, time.Now() })
				verifyByPeers(t, z, p)
			})
		}
	}
}

func randomZone(r *rand.Rand) string {
	var b strings.Builder
	b.WriteString("$ORIGIN example.test.\n$TTL 3600\n@ SOA ns1 h 1 2 3 4 300\n@ NS ns1\nns1 A 192.0.2.1\n")
	pick := []string{"a", "b", "c", "*", "ab", "B-", "_x", "0", "xn--p"}
	cut := map[string]bool{}
	used := map[string]bool{"ns1": true}
	for range 40 {
		var name []string
		for range 1 + r.IntN(4) {
			name = append(name, pick[r.IntN(len(pick))])
		}
		owner := strings.ToLower(strings.Join(name, "."))
		below := false
		for at := owner; at != ""; _, at, _ = strings.Cut(at, ".") {
			below = below || cut[at]
		}
		if below || used[owner] {
			continue
		}
		used[owner] = true
		switch k := r.IntN(6); {
		case k == 0 && !strings.HasPrefix(owner, "*"):
			over := false
			for u := range used {
				over = over || strings.HasSuffix(u, "."+owner)
			}
			if over {
				continue
			}
			cut[owner] = true
			fmt.Fprintf(&b, "%s NS ns1\n", owner)
			if r.IntN(2) == 0 {
				fmt.Fprintf(&b, "%s DS 1 13 2 %064x\n", owner, r.Uint64())
			}
		case k == 1:
			fmt.Fprintf(&b, "%s CNAME a\n", owner)
		default:
			fmt.Fprintf(&b, "%s A 192.0.2.%d\n%s TXT \"%d\"\n", owner, r.IntN(256), owner, r.Uint32())
		}
	}
	return b.String()
}

func verifyByPeers(t *testing.T, z *zone.Zone, p *fleet.DNSSECPolicy) {
	t.Helper()
	if err := Verify(z, time.Now()); err != nil {
		t.Errorf("own Verify: %v", err)
	}
	file := filepath.Join(t.TempDir(), "zone")
	body := text(t, z)
	if err := os.WriteFile(file, body, 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"dnssec-verify", "-o", "example.test", file}
	if p.SingleKey {
		args = slices.Insert(args, 1, "-z")
	}
	run(t, body, args...)
	knotChecks(t, file)
	if p.OptOut {
		return // ldns-verify-zone calls opted-out delegations an error
	}
	run(t, body, "ldns-verify-zone", file)
}

// knotChecks has Knot load the zone and validate it.
func knotChecks(t *testing.T, file string) {
	t.Helper()
	knotc := testkit.Program(t, "knotc")
	dir := filepath.Dir(file)
	conf := fmt.Sprintf("server:\n  rundir: %q\ndatabase:\n  storage: %q\nzone:\n- domain: example.test\n  file: %q\n  semantic-checks: on\n  dnssec-validation: on\n", dir, dir, file)
	if err := os.WriteFile(filepath.Join(dir, "knot.conf"), []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(knotc, "-c", filepath.Join(dir, "knot.conf"), "zone-check", "example.test").CombinedOutput()
	if err != nil || strings.Contains(string(out), "check,") { // warnings do not make it fail
		t.Errorf("knotc zone-check: %v\n%s", err, out)
	}
}

func run(t *testing.T, body []byte, args ...string) {
	t.Helper()
	program := testkit.Program(t, args[0])
	out, err := exec.Command(program, args[1:]...).CombinedOutput()
	if err != nil {
		t.Errorf("%s: %v\n%s\n%s", strings.Join(args, " "), err, out, body)
	}
}
