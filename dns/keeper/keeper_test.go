package keeper

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"meridian/dns/sign"
	"meridian/dns/zone"
	"meridian/fleet"
	"meridian/identity"
)

const signedZone = `
zones:
- zone: example.test
  dnssec: default
  records: `

// A zone with a policy comes out signed, and stays as it is until something
// changes or time asks for it.
func TestDeriveSignsAndKeepsStill(t *testing.T) {
	b := newBench(t, signedZone+records(plain)).ok()
	z := b.zone("example.test.")
	if err := sign.Verify(z, b.now); err != nil || !z.Signed {
		t.Fatalf("signed %v: %v", z.Signed, err)
	}
	if b.next.IsZero() || !b.next.After(b.now) {
		t.Errorf("next %s", b.next)
	}
	b.now = b.now.Add(time.Minute)
	if b.ok(); len(b.put)+len(b.gone) > 0 {
		t.Errorf("made anew without cause: %v %v", b.put, b.gone)
	}
	b.restart() // with another process too
	b.now = b.now.Add(time.Minute)
	if b.ok(); len(b.put)+len(b.gone) > 0 {
		t.Error("made anew by a new process without cause")
	}
}

// What nameservers get of a signed zone with steered names, the objects of the
// World among it, has no private key in it; where policy says compact, the ZSK
// and no KSK.
func TestNameserversGetNoKeys(t *testing.T) {
	for denial, want := range map[string][]sign.Role{"nsec": nil, "nsec3": nil, "compact": {sign.ZSK}} {
		b := newBench(t, fmt.Sprintf(`
dns: {dnssec: [{policy: default, denial: %s}]}
services: [{service: web, protocol: tcp, ports: [80], pools: [{id: a, endpoints: [{address: "10.0.0.1:80"}]}]}]
zones:
- {zone: example.test, dnssec: default, steered: [{name: web, service: web}], records: %q}
`, denial, plain)).ok()
		state, _, err := b.store.Load(t.Context(), "example.test.")
		if err != nil {
			t.Fatal(err)
		}
		s, err := sign.DecodeState(state)
		if err != nil || len(s.Keys) != 2 {
			t.Fatalf("%v: %+v", err, s)
		}
		given := b.zone("example.test.").Encode()
		for _, o := range b.world.Objects {
			given = append(given, o.Data...)
		}
		var got []sign.Role
		for _, k := range s.Keys {
			if bytes.Contains(given, k.Private) {
				got = append(got, k.Role)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: nameservers get the private keys of %v, want %v", denial, got, want)
		}
	}
}

// Left to its own times for half a year, the zone is always valid, and keys
// are rolled.
func TestDeriveThroughTime(t *testing.T) {
	b := newBench(t, signedZone+records(plain)).ok()
	keys := map[string]bool{}
	runs := 0
	for b.now.Before(start.Add(180 * 24 * time.Hour)) {
		b.now = b.next
		runs++
		if b.ok(); b.next.IsZero() {
			t.Fatal("nothing is waited for")
		}
		z := b.zone("example.test.")
		if err := sign.Verify(z, b.now); err != nil {
			t.Fatalf("at %s: %v", b.now, err)
		}
		if left := sign.Expires(z, b.now).Sub(b.now); left < 100*time.Hour {
			t.Fatalf("at %s a signature has only %s left", b.now, left)
		}
		keys[string(z.Apex().Get(zone.TypeDNSKEY).Data)] = true
	}
	if len(keys) < 10 || runs > 2000 {
		t.Errorf("%d DNSKEY sets in %d runs", len(keys), runs)
	}
}

// The change of one record makes few signatures, and a later serial.
func TestDeriveOfAChangeReusesSignatures(t *testing.T) {
	b := newBench(t, "zones: [{zone: example.test, dynamic: true, dnssec: default}]")
	text := "$ORIGIN example.test.\n$TTL 300\n" + plain
	for i := range 500 {
		text += strings.ReplaceAll("hN A 192.0.2.1\n", "N", string(rune('a'+i%26))+string(rune('a'+i/26%26)))
	}
	b.content("example.test.", text)
	b.ok()
	before := b.zone("example.test.")
	b.now = b.now.Add(time.Hour)
	b.content("example.test.", text+"new A 192.0.2.9\n")
	b.ok()
	after := b.zone("example.test.")
	if !sign.SerialAfter(after.Serial, before.Serial) {
		t.Errorf("serial %d after %d", after.Serial, before.Serial)
	}
	if n := b.k.zones["example.test."].stats.Made; n > 4 { // SOA, the record, two NSEC
		t.Errorf("%d signatures for one record", n)
	}
	if err := sign.Verify(after, b.now); err != nil {
		t.Error(err)
	}
}

// Where keys are away, the zone stays as it was, and others are made.
func TestDeriveWithTheKeyStoreAway(t *testing.T) {
	spec := "zones:\n- {zone: example.test, dynamic: true, dnssec: default}\n- {zone: other.test, dynamic: true}\n"
	b := newBench(t, spec)
	b.content("example.test.", "$ORIGIN example.test.\n"+plain)
	b.content("other.test.", "$ORIGIN other.test.\n"+plain)
	b.ok()
	before, _ := b.old.Get("example.test.")
	b.restart()
	if err := os.WriteFile(filepath.Join(b.store.dir, "example.test.keys"), []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	b.now = b.now.Add(time.Hour)
	b.content("example.test.", "$ORIGIN example.test.\n"+plain+"more A 192.0.2.1\n")
	b.content("other.test.", "$ORIGIN other.test.\n"+plain+"more A 192.0.2.1\n")
	b.ok() // nobody who changes another zone is to blame
	if after, ok := b.old.Get("example.test."); !ok || !after.Same(before) {
		t.Error("the zone that could not be made did not stay")
	}
	if b.zone("other.test.").Node(zone.Wire("more.other.test.")) == nil {
		t.Error("the other zone was not made")
	}
	if told := b.k.Problems(); len(told) != 1 || !strings.HasPrefix(told["example.test."], "not made anew: ") {
		t.Errorf("told: %v", told)
	}
	r := prometheus.NewRegistry()
	b.k.Register(r)
	if families, err := r.Gather(); err != nil || !strings.Contains(fmt.Sprint(families), `name:"meridian_keeper_zone_problem"`) {
		t.Errorf("no metric tells: %v", err)
	}
}

// What somebody has just made impossible is told as an error, so that it is
// taken back; the zone stays.
func TestDeriveOfAZoneThatCannotBe(t *testing.T) {
	b := newBench(t, "zones:\n- {zone: example.test, dynamic: true, dnssec: default, aliases: [{name: www2, target: a.test}]}\n")
	b.content("example.test.", "$ORIGIN example.test.\n"+plain)
	b.ok()
	before, _ := b.old.Get("example.test.")
	b.content("example.test.", "$ORIGIN example.test.\n"+plain+"www2 A 192.0.2.1\n")
	b.derive()
	var z *ZoneError
	if !errors.As(b.err, &z) || z.Zone != "example.test." {
		t.Errorf("error %v", b.err)
	}
	if after, ok := b.old.Get("example.test."); !ok || !after.Same(before) {
		t.Error("the zone did not stay")
	}
	b.content("example.test.", "$ORIGIN example.test.\n"+plain)
	b.ok()
}

// An alias has the addresses of its target, keeps the last good ones, and
// loses only those that the target has lost.
func TestAliases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, `
zones:
- zone: example.test
  dnssec: default
  aliases: [{name: "@", target: target.example.net, ttl: 30s}]
  records: `+records(plain))
		b.now = time.Now()
		target := func(addrs ...string) {
			b.net.mu.Lock()
			defer b.net.mu.Unlock()
			delete(b.net.addrs, "target.example.net.")
			for _, a := range addrs {
				b.net.addrs["target.example.net."] = append(b.net.addrs["target.example.net."], netip.MustParseAddr(a))
			}
		}
		go func() { _ = b.k.Run(t.Context()) }()
		have := func() string {
			b.now = time.Now()
			b.ok()
			z := b.zone("example.test.")
			if err := sign.Verify(z, b.now); err != nil {
				t.Fatal(err)
			}
			out := ""
			for _, ty := range []uint16{zone.TypeA, zone.TypeAAAA} {
				if set := z.Apex().Get(ty); set != nil {
					for rest := set.Data; len(rest) > 0; {
						var rdata []byte
						rdata, rest = zone.Next(rest)
						a, _ := netip.AddrFromSlice(rdata)
						out += " " + a.String()
					}
				}
			}
			return out
		}
		for _, step := range []struct {
			target []string
			want   string
		}{
			{[]string{"198.51.100.1", "2001:db8::1"}, " 198.51.100.1 2001:db8::1"},
			{[]string{"198.51.100.2", "198.51.100.1"}, " 198.51.100.1 198.51.100.2"},
			{nil, " 198.51.100.1 198.51.100.2"}, // away: the last good ones
			{[]string{"198.51.100.3"}, " 198.51.100.3"},
		} {
			target(step.target...)
			time.Sleep(2 * time.Minute) // synctest's own
			synctest.Wait()
			if got := have(); got != step.want {
				t.Errorf("with the target %v:%s, want%s", step.target, got, step.want)
			}
		}
		target()
		b.restart() // a new process with the resolver away
		if got := have(); got != " 198.51.100.3" {
			t.Errorf("after a restart:%s", got)
		}
	})
}

// A zone whose policy is taken away stays signed until its parent has no DS,
// even if a new process sees only the new Spec. Its serial does not go back to
// the content's, then or later: secondaries would not follow.
func TestUnsigningWaitsForTheParent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, signedZone+records(plain))
		b.now = time.Now()
		b.net.ds = map[fleet.Name][]sign.DS{}
		ctx := t.Context()
		go func() { _ = b.k.Run(ctx) }()
		pass := func(d time.Duration) {
			t.Helper()
			for end := time.Now().Add(d); time.Now().Before(end); {
				time.Sleep(20 * time.Minute)
				synctest.Wait()
				b.now = time.Now()
				b.ok()
				if err := sign.Verify(b.zone("example.test."), b.now); b.zone("example.test.").Signed && err != nil {
					t.Fatal(err)
				}
			}
		}
		b.ok()
		pass(6 * time.Hour)
		set := func() {
			b.net.mu.Lock()
			defer b.net.mu.Unlock()
			for _, k := range b.k.zones["example.test."].state.DSKeys() {
				b.net.ds["example.test."] = []sign.DS{k.DSFor("example.test.")}
			}
		}
		set()
		pass(48 * time.Hour)
		if k := b.k.zones["example.test."].state.DSKeys()[0]; k.DS.State != sign.Omnipresent {
			t.Fatalf("DS is %s", k.DS.State)
		}
		signed := b.zone("example.test.")
		b.restart()
		go func() { _ = b.k.Run(ctx) }()
		b.spec("zones:\n- zone: example.test\n  records: " + records(plain))
		pass(24 * time.Hour)
		z := b.zone("example.test.")
		if !sign.SerialAfter(z.Serial, signed.Serial) {
			t.Fatalf("the serial goes back to %d", z.Serial)
		}
		if cds := z.Apex().Get(zone.TypeCDS); !z.Signed || cds == nil || !bytes.Equal(cds.Data, []byte{0, 5, 0, 0, 0, 0, 0}) {
			t.Fatalf("signed %v, CDS %v", z.Signed, cds)
		}
		b.net.mu.Lock()
		b.net.ds["example.test."] = nil
		b.net.mu.Unlock()
		for range 40 * 3 {
			time.Sleep(20 * time.Minute)
			synctest.Wait()
			b.now = time.Now()
			b.ok()
			if !b.zone("example.test.").Signed {
				break
			}
		}
		last := b.zone("example.test.")
		if last.Signed || !sign.SerialAfter(last.Serial, z.Serial) || b.k.zones["example.test."].state != nil {
			t.Fatalf("signed %v, serial %d after %d", last.Signed, last.Serial, z.Serial)
		}
		b.restart()
		if b.ok(); b.zone("example.test.").Serial != last.Serial {
			t.Fatalf("serial %d after a restart, before %d", b.zone("example.test.").Serial, last.Serial)
		}
		b.spec("zones:\n- zone: example.test\n  records: " + records(strings.Replace(plain, " 7 ", fmt.Sprintf(" %d ", last.Serial+5), 1)))
		if b.ok(); !slices.Contains(b.gone, "example.test.") {
			t.Fatal("a content that is newer is not served as it is")
		}
	})
}

// Keys that are lost are not replaced by new ones, which nobody's DS names:
// what is published stays until they are back.
func TestLostKeysAreNotReplaced(t *testing.T) {
	b := newBench(t, signedZone+records(plain)).ok()
	state, _, err := b.store.Load(t.Context(), "example.test.")
	if err != nil {
		t.Fatal(err)
	}
	had := b.zone("example.test.")
	b.store = NewDirStore(t.TempDir()+"/keys", newIdentity(t))
	b.restart()
	if b.derive(); len(b.put)+len(b.gone) > 0 || len(b.k.versions) > 0 {
		t.Errorf("made %d zones, keys %v", len(b.put), b.k.versions)
	}
	if now, _, err := b.store.Load(t.Context(), "example.test."); len(now) > 0 || err != nil {
		t.Errorf("new keys: %d octets, %v", len(now), err)
	}
	if err := b.store.Save(t.Context(), "example.test.", state, ""); err != nil {
		t.Fatal(err)
	}
	b.k.Invalidate("example.test.")
	b.now = b.now.Add(8 * 24 * time.Hour)
	if b.ok(); b.zone("example.test.").Serial == had.Serial {
		t.Error("not signed anew with the keys that are back")
	}
}

// RFC 9615 §3.2: what tells of a zone is at the type of signal, the zone's name and _signal, below the nameserver's name, and signed there.
// RFC 9615 §4.1: before a zone has a DS, copies of its CDS and CDNSKEY are in the signed zone of its nameserver's name, and none are below a name in the zone itself.
func TestRFC9615Signals(t *testing.T) {
	spec := `
dns: {dnssec: [{policy: default, signal: [ns1.example.net, ns2.new.test], ttl: 1h, propagation: 1h}]}
zones:
- {zone: new.test, dynamic: true, dnssec: default}
- {zone: example.net, dynamic: true, dnssec: default}
`
	b := newBench(t, spec)
	for _, n := range []fleet.Name{"new.test.", "example.net."} {
		b.content(n, "$ORIGIN "+string(n)+"\n"+plain)
	}
	b.net.ds = map[fleet.Name][]sign.DS{}
	b.ok()
	owner := zone.Wire("_dsboot.new.test._signal.ns1.example.net.")
	if b.zone("example.net.").Node(owner) != nil {
		t.Fatal("a key is told to the parent before every cache has it")
	}
	b.now = b.now.Add(4 * time.Hour)
	b.ok()
	z := b.zone("example.net.")
	n := z.Node(owner)
	if n == nil {
		t.Fatal("no signal")
	}
	own := b.zone("new.test.").Apex()
	for _, ty := range []uint16{zone.TypeCDS, zone.TypeCDNSKEY} {
		if n.Get(ty) == nil || !bytes.Equal(n.Get(ty).Data, own.Get(ty).Data) || len(n.Get(ty).Sigs) == 0 {
			t.Errorf("%s is not a signed copy", zone.TypeName(ty))
		}
	}
	if b.zone("new.test.").Node(zone.Wire("_dsboot.new.test._signal.ns2.new.test.")) != nil {
		t.Error("a zone vouches for itself")
	}
	if err := sign.Verify(z, b.now); err != nil {
		t.Error(err)
	}
}

// Serials follow their policy; a zone that nothing is added to is handed on
// as it is only where its content is dynamic.
func TestSerialsAndPlainZones(t *testing.T) {
	b := newBench(t, `
zones:
- {zone: d.test, dynamic: true, serial: increment}
- zone: f.test
  records: `+records(plain)+`
- zone: z.test
  zonemd: generate
  serial: date
  records: `+records(plain))
	b.content("d.test.", "$ORIGIN d.test.\n"+plain)
	b.content("api.test.", "$ORIGIN api.test.\n"+plain)
	b.ok()
	if _, ok := b.old.Get("f.test."); ok {
		t.Error("a zone of a file with nothing to add was made")
	}
	if s := b.zone("z.test.").Serial; s != 2026030100 {
		t.Errorf("date gives %d", s)
	}
	if err := b.zone("z.test.").VerifyZONEMD(); err != nil {
		t.Error(err)
	}
	for i, want := range []uint32{7, 8, 9} {
		b.content("d.test.", "$ORIGIN d.test.\n"+plain+strings.Repeat("x TXT a\n", min(i, 1))+strings.Repeat("y TXT a\n", i/2))
		if b.ok(); b.zone("d.test.").Serial != want {
			t.Errorf("serial %d, want %d", b.zone("d.test.").Serial, want)
		}
	}
	b.have = b.have.With(nil, []fleet.Name{"api.test."})
	if b.ok(); !slices.Contains(b.gone, "api.test.") {
		t.Errorf("gone %v", b.gone)
	}
}

// Key state is sealed, bound to its zone, and changed by one at a time.
func TestDirStore(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	d := NewDirStore(dir, newIdentity(t))
	ctx := t.Context()
	if b, v, err := d.Load(ctx, "a.test."); b != nil || v != "" || err != nil {
		t.Fatalf("empty: %q %q %v", b, v, err)
	}
	if err := d.Save(ctx, "a.test.", []byte("secret"), ""); err != nil {
		t.Fatal(err)
	}
	if err := d.Save(ctx, "a.test.", []byte("other"), ""); !errors.Is(err, ErrConflict) {
		t.Errorf("overwritten: %v", err)
	}
	b, v, err := d.Load(ctx, "a.test.")
	if err != nil || string(b) != "secret" {
		t.Fatalf("%q %v", b, err)
	}
	if err := d.Save(ctx, "a.test.", []byte("second"), v); err != nil {
		t.Fatal(err)
	}
	if err := d.Save(ctx, ".", []byte("root"), ""); err != nil {
		t.Fatal(err)
	}
	if names, err := d.Zones(ctx); err != nil || !slices.Equal(names, []fleet.Name{".", "a.test."}) {
		t.Errorf("zones %v %v", names, err)
	}
	raw, err := os.ReadFile(filepath.Join(dir, "a.test.keys"))
	if err != nil || bytes.Contains(raw, []byte("second")) {
		t.Errorf("not sealed: %q %v", raw, err)
	}
	if st, _ := os.Stat(filepath.Join(dir, "a.test.keys")); st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", st.Mode())
	}
	if err := os.WriteFile(filepath.Join(dir, "b.test.keys"), raw, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := d.Load(ctx, "b.test."); !errors.Is(err, identity.ErrSealed) {
		t.Errorf("another zone's state was taken: %v", err)
	}
}

// The metrics tell of zones, keys and when signatures expire.
func TestMetrics(t *testing.T) {
	b := newBench(t, signedZone+records(plain)).ok()
	r := prometheus.NewPedanticRegistry()
	b.k.Register(r)
	list, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range list {
		for _, m := range f.Metric {
			got[f.GetName()] += m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	if got["meridian_keeper_zones"] != 1 || got["meridian_keeper_signed_zones"] != 1 || got["meridian_keeper_keys"] != 3 ||
		got["meridian_keeper_signatures_total"] < 10 || got["meridian_keeper_signature_expiry_timestamp_seconds"] < float64(start.Unix()) {
		t.Errorf("%v", got)
	}
}
