package transfer

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"meridian/fleet"
	"meridian/internal/testkit"
)

// RFC 8945 §6: dig and kdig transfer with keys of every algorithm; a wrong secret and an unknown key are refused as they expect.
func TestRFC8945Tools(t *testing.T) {
	var keys, list []string
	for _, a := range fleet.TSIGAlgorithm("").Values() {
		keys = append(keys, fmt.Sprintf("{name: %s, algorithm: %[1]s, secret: \"env:K\"}", a))
		list = append(list, fmt.Sprintf("%q", "key:"+a))
	}
	doc := fmt.Sprintf("dns: {keys: [%s]}\nzones: [{zone: example.test, file: f, transfer: [%s]}]", strings.Join(keys, ", "), strings.Join(list, ", "))
	n := serve(t, "", 0, makeWorld(t, doc, map[fleet.ObjectKey]string{{Kind: fleet.ObjectZone, ID: "example.test."}: zoneText(1, 3000, "")}))
	run := func(program string, args ...string) string {
		t.Helper()
		out, err := exec.Command(testkit.Program(t, program), append([]string{"@127.0.0.1", "-p", fmt.Sprint(n.addr.Port())}, args...)...).CombinedOutput()
		if err != nil {
			return "failed: " + string(out)
		}
		return string(out)
	}
	for _, a := range fleet.TSIGAlgorithm("").Values() {
		for _, program := range []string{"dig", "kdig"} {
			out := run(program, "-y", a+":"+a+":"+secretText, "example.test", "AXFR")
			if strings.Count(out, "\tA\t") < 3000 || strings.Contains(out, "failed") || strings.Contains(out, "WARNING") {
				t.Errorf("%s %s: %.500s", program, a, out)
			}
		}
	}
	if out := run("dig", "-y", "hmac-sha256:hmac-sha256:d3Jvbmc=", "example.test", "AXFR"); !strings.Contains(out, "BADSIG") && !strings.Contains(out, "failed") {
		t.Errorf("a wrong secret: %s", out)
	}
	if out := run("dig", "-y", "hmac-sha256:nobody:"+secretText, "example.test", "SOA"); !strings.Contains(out, "BADKEY") {
		t.Errorf("an unknown key: %s", out)
	}
	if out := run("dig", "+norec", "-y", "hmac-sha512:hmac-sha512:"+secretText, "h7.example.test", "A"); !strings.Contains(out, "192.0.0.8") || strings.Contains(out, "WARNING") || !strings.Contains(out, "TSIG") {
		t.Errorf("a signed query: %s", out)
	}
}

// RFC 2136 §3: nsupdate changes a zone here, and is refused what its key may not.
func TestRFC2136Nsupdate(t *testing.T) {
	n := updatable(t, fmt.Sprintf(`updates: [{key: %s, types: [A]}]`, keyName))
	if out := nsupdate(t, n.addr, "prereq yxdomain h0.example.test\nprereq nxrrset h0.example.test AAAA\nupdate add fresh.example.test. 60 A 192.0.2.200\nupdate delete h0.example.test. A\n"); out != "" {
		t.Error(out)
	}
	if got := n.text(t, "example.test."); !strings.Contains(strings.Join(got, "\n"), "fresh.example.test. 60 in a 192.0.2.200") || strings.Contains(strings.Join(got, "\n"), "\nh0.example.test.") {
		t.Error("the zone has not changed so")
	}
	if out := nsupdate(t, n.addr, "update add fresh.example.test. 60 TXT x\n"); !strings.Contains(out, "REFUSED") {
		t.Errorf("TXT: %q", out)
	}
	if out := nsupdate(t, n.addr, "prereq nxdomain fresh.example.test\nupdate delete fresh.example.test. A\n"); !strings.Contains(out, "YXDOMAIN") {
		t.Errorf("a prerequisite: %q", out)
	}
}

// RFC 5936 §3.1: a zone that BIND signs goes through us to Knot with its signatures and denial, by NSEC and NSEC3, and so do the changes, as differences.
func TestRFC5936SignedChain(t *testing.T) {
	for _, denial := range []string{"nsec", "nsec3"} {
		t.Run(denial, func(t *testing.T) {
			t.Parallel()
			p, last, port := newPeer(t), newPeer(t), testkit.FreePort(t, "127.0.0.1")
			policy := `dnssec-policy p { keys { csk lifetime unlimited algorithm 13; }; };`
			if denial == "nsec3" {
				policy = `dnssec-policy p { keys { csk lifetime unlimited algorithm 13; }; nsec3param iterations 0 optout no salt-length 0; };`
			}
			p.write(t, "example.test.zone", zoneText(1, 300, ""))
			bind(t, p, "", fmt.Sprintf(`%s
zone "example.test" { type primary; file "example.test.zone"; dnssec-policy p; inline-signing yes; allow-transfer { key %[2]s; }; allow-update { key %[2]s; }; also-notify { 127.0.0.1 port %[3]d key %[2]s; }; };`, policy, keyName, port))
			eventually(t, "BIND has signed", func() bool { return serialAt(p.addr, "example.test.") > 1 })
			doc := fmt.Sprintf(`
dns: {keys: [{name: %[1]s, secret: "env:KEY"}]}
zones: [{zone: example.test, primaries: [{address: "%[2]s", key: %[1]s}], transfer: ["key:%[1]s"], notify: [{address: "%[3]s", key: %[1]s}]}]
`, keyName, p.addr, last.addr)
			n := serve(t, t.TempDir(), port, makeWorld(t, doc, nil))
			peerKinds[1].secondary(t, last, n.addr)
			same := func() bool { // BIND signs in many small steps
				s := serialAt(p.addr, "example.test.")
				if s == 0 || s != serialAt(n.addr, "example.test.") || s != serialAt(last.addr, "example.test.") {
					return false
				}
				want, err1 := tryAXFR(p.addr, "example.test.", keyName)
				ours, err2 := tryAXFR(n.addr, "example.test.", keyName)
				end, err3 := tryAXFR(last.addr, "example.test.", keyName)
				return err1 == nil && err2 == nil && err3 == nil && strings.Contains(strings.Join(want, "\n"), "rrsig "+denial+" ") &&
					slices.Equal(want, ours) && slices.Equal(want, end)
			}
			eventually(t, "all three have it", same)
			before := serialAt(p.addr, "example.test.")
			if out := nsupdate(t, p.addr, "update add new.example.test. 60 A 192.0.2.200\nupdate delete h7.example.test. A\n"); out != "" {
				t.Fatal(out)
			}
			eventually(t, "all three have the change", func() bool { return serialAt(p.addr, "example.test.") != before && same() })
			if counter(t, n, "meridian_dns_transfer_records_total", "in", "ixfr") == 0 || counter(t, n, "meridian_dns_transfer_records_total", "out", "ixfr") == 0 {
				t.Error("the change came or went not as differences")
			}
		})
	}
}
