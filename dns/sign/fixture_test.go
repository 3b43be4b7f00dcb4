package sign

import (
	"bytes"
	"crypto/sha256"
	"io"
	"math/rand/v2"
	"testing"
	"time"

	"meridian/dns/zone"
	"meridian/fleet"
)

// now is when the tests take place.
var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// octets gives random octets that are the same in every run.
func octets(seed string) io.Reader { return rand.NewChaCha8(sha256.Sum256([]byte(seed))) }

// policy gives the default policy, changed by edit.
func policy(t testing.TB, edit func(*fleet.DNSSECPolicy)) *fleet.DNSSECPolicy {
	t.Helper()
	s, err := fleet.Compile([]byte("fleet: test\n"+minimal), 0)
	if err != nil {
		t.Fatal(err)
	}
	p := *s.Spec.DNSSECPolicy(fleet.DefaultPolicy)
	if edit != nil {
		edit(&p)
	}
	return &p
}

const minimal = `
regions:
- {id: fra, location: {latitude: 50, longitude: 8}}
`

// everything is a zone with all that signing treats apart: wildcards, empty
// non-terminals, secure and insecure delegations with glue, DNAME, names in
// mixed case, unknown types, and names that sort oddly.
const everything = `
$ORIGIN example.test.
$TTL 3600
@ SOA ns1 Hostmaster 7 3600 600 86400 300
@ NS ns1
@ NS NS2.Example.TEST.
@ MX 10 Mail
@ TXT "v=spf1 -all"
ns1 A 192.0.2.1
ns2 A 192.0.2.2
ns2 AAAA 2001:db8::2
mail 600 A 192.0.2.3
*.wild TXT "wild"
*.wild A 192.0.2.9
a.b.c.deep TXT "below two empty non-terminals"
insecure NS ns.insecure
ns.insecure A 192.0.2.20
secure NS ns.secure
secure DS 12345 13 2 aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
ns.secure A 192.0.2.21
x.ent.insecure2 NS ns1
old DNAME new.example.test.
alias CNAME MAIL.example.test.
_sip._tcp SRV 0 5 5060 Mail.Example.Test.
nap NAPTR 100 10 "u" "E2U+sip" "!^.*$!sip:i@x!" Mail.Example.Test.
odd TYPE65534 \# 4 0A000001
\000.ctl TXT "control"
z\.dot TXT "dot in a label"
big TXT "0123456789" "a"
`

func load(t testing.TB, text string) *zone.Zone {
	t.Helper()
	z, err := zone.Load("example.test.", []byte(text), "")
	if err != nil {
		t.Fatal(err)
	}
	return z
}

// settled gives keys that have been in use for long.
func settled(t testing.TB, name fleet.Name, p *fleet.DNSSECPolicy) *State {
	t.Helper()
	s, _, _, err := Step(State{}, name, p, now.Add(-1000*time.Hour), Facts{MaxTTL: 3600}, octets(string(name)))
	if err != nil {
		t.Fatal(err)
	}
	for i := range s.Keys {
		k := &s.Keys[i]
		in := Phase{State: Omnipresent, Since: now}
		k.DNSKEY = in
		if k.Role.signsZone() {
			k.RRSIG = in
		}
		if k.Role.secure() {
			k.DS = in
		}
	}
	s.Checks = now
	return &s
}

// signed signs a zone with keys that have been in use for long.
func signed(t testing.TB, text string, p *fleet.DNSSECPolicy, edit func(*Options)) (*zone.Zone, Stats) {
	t.Helper()
	o := &Options{State: settled(t, "example.test.", p), Policy: p, Serial: 8, Now: now}
	if edit != nil {
		edit(o)
	}
	z, st, err := Sign(load(t, text), o)
	if err != nil {
		t.Fatal(err)
	}
	return z, st
}

func text(t testing.TB, z *zone.Zone) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := z.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
