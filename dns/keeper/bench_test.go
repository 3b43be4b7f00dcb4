package keeper

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"meridian/fleet"
	"meridian/rules"
)

// The change of one zone among many.
func BenchmarkDeriveOneOf100000(b *testing.B) {
	k := newBench(b, "dns: {zones: t, templates: [{template: t, serial: increment}]}")
	var put []fleet.Object
	for i := range 100_000 {
		name := fleet.Name(fmt.Sprintf("z%d.test.", i))
		put = append(put, rules.ZoneObject(name, []byte("$ORIGIN "+string(name)+"\n"+plain)))
	}
	k.have = k.have.With(put, nil)
	began := time.Now()
	k.ok()
	b.ReportMetric(time.Since(began).Seconds(), "s/first")
	i := 0
	for b.Loop() {
		i++
		k.have = k.have.With([]fleet.Object{rules.ZoneObject("z7.test.", fmt.Appendf(nil, "$ORIGIN z7.test.\n%snew%d A 192.0.2.1\n", plain, i))}, nil)
		if k.ok(); len(k.put) != 1 {
			b.Fatalf("%d zones made", len(k.put))
		}
	}
}

// The change of one record in a signed zone of 10,000.
func BenchmarkDeriveOneRecordOf10000(b *testing.B) {
	k := newBench(b, "zones: [{zone: example.test, dynamic: true, dnssec: default}]")
	var text strings.Builder
	text.WriteString("$ORIGIN example.test.\n" + plain)
	for i := range 10_000 {
		fmt.Fprintf(&text, "h%d A 192.0.2.1\n", i)
	}
	k.content("example.test.", text.String())
	k.ok()
	i := 0
	for b.Loop() {
		i++
		k.content("example.test.", fmt.Sprintf("%snew%d A 192.0.2.1\n", text.String(), i))
		k.ok()
	}
}

// What is sealed in a key store or a backup may be damaged, or be of another
// program.
func FuzzKeyStates(f *testing.F) {
	b := newBench(f, signedZone+records(plain)).ok()
	state, _, err := b.store.Load(f.Context(), "example.test.")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(append([]byte(`{"version":1,"zones":{"example.test.":`), append(state, "}}"...)...))
	f.Add([]byte(`{"version":1,"zones":{"a":null}}`))
	f.Add([]byte(dirMagic + "sealed"))
	f.Add([]byte(backupMagic + "sealed"))
	id := newIdentity(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		if states, err := parseBackup(data); err == nil {
			for n, s := range states {
				_ = view(n, s)
			}
		}
		if _, err := openBackup(data, id); err == nil {
			t.Error("a backup that nobody sealed was opened")
		}
		if _, err := b.store.open("example.test.", data); err == nil {
			t.Error("a key state that nobody sealed was opened")
		}
	})
}
