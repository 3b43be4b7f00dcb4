package keeper

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"meridian/dns/sign"
	"meridian/fleet"
)

// foreign is a DS of keys that are not here.
var foreign = []sign.DS{{KeyTag: 4711, Algorithm: 13, DigestType: 2, Digest: strings.Repeat("ab", 32)}}

func (b *bench) keysOf(name fleet.Name) int {
	b.t.Helper()
	data, _, err := b.store.Load(b.t.Context(), name)
	if err != nil {
		b.t.Fatal(err)
	}
	if data == nil {
		return 0
	}
	s, err := sign.DecodeState(data)
	if err != nil {
		b.t.Fatal(err)
	}
	return len(s.Keys)
}

// A zone whose parent has a DS is not signed by new keys, which the DS does not
// name, unless somebody says so.
func TestNoFirstKeysWhereTheParentHasADS(t *testing.T) {
	b := newBench(t, signedZone+records(plain))
	b.net.ds = map[fleet.Name][]sign.DS{"example.test.": foreign}
	b.derive()
	if b.err == nil {
		t.Fatal("signed though the parent has a DS of other keys")
	}
	for _, want := range []string{"example.test.", "tag 4711, ecdsap256sha256", "gslb keys restore or import", "gslb keys new example.test."} {
		if !strings.Contains(strings.ToLower(b.err.Error()), want) {
			t.Errorf("%v: lacks %q", b.err, want)
		}
	}
	if n := b.keysOf("example.test."); n != 0 {
		t.Errorf("%d keys were made", n)
	}
	b.now = b.now.Add(time.Second)
	if b.derive(); b.err == nil || b.net.guarded != 1 {
		t.Errorf("asked %d times: %v", b.net.guarded, b.err)
	}
	admin := &Admin{Store: b.store, Rand: rand.NewChaCha8([32]byte{1}), Changed: b.k.Invalidate}
	if z, err := admin.New(t.Context(), "example.test."); err != nil || !z.New {
		t.Fatalf("%+v %v", z, err)
	}
	if b.ok(); !b.zone("example.test.").Signed {
		t.Error("not signed by new keys that were asked for")
	}
	if _, err := admin.New(t.Context(), "example.test."); err == nil {
		t.Error("new keys beside those that are in use")
	}
}

// Where keys are lost and somebody says that new ones are wanted, the zone is
// signed with them.
func TestNewKeysInPlaceOfLostOnes(t *testing.T) {
	b := newBench(t, signedZone+records(plain)).ok()
	had := b.zone("example.test.")
	b.store = NewDirStore(t.TempDir()+"/keys", newIdentity(t))
	b.restart()
	b.k.cfg.Rand = rand.NewChaCha8([32]byte{2}) // other keys than before
	b.now = b.now.Add(time.Minute)
	if b.ok(); len(b.put) > 0 || !strings.Contains(b.k.Problems()["example.test."], "gslb keys new example.test.") {
		t.Errorf("made %d zones; told %v", len(b.put), b.k.Problems())
	}
	admin := &Admin{Store: b.store, Changed: b.k.Invalidate}
	if _, err := admin.New(t.Context(), "example.test."); err != nil {
		t.Fatal(err)
	}
	b.ok()
	z := b.zone("example.test.")
	if err := sign.Verify(z, b.now); err != nil || !sign.SerialAfter(z.Serial, had.Serial) {
		t.Errorf("serial %d after %d: %v", z.Serial, had.Serial, err)
	}
	if len(b.k.Problems()) > 0 {
		t.Errorf("told still: %v", b.k.Problems())
	}
}

// That a parent has a DS of none of a zone's keys, the resolvers take it for
// bogus: that is told until it is so no longer.
func TestAParentsForeignDSIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, signedZone+records(plain))
		b.now = time.Now()
		b.ok() // nobody can be asked
		go func() { _ = b.k.Run(t.Context()) }()
		look := func(ds []sign.DS, want string) {
			t.Helper()
			b.net.mu.Lock()
			b.net.ds = map[fleet.Name][]sign.DS{"example.test.": ds}
			b.net.mu.Unlock()
			time.Sleep(2 * time.Hour)
			synctest.Wait()
			b.now = time.Now()
			b.ok()
			if got := b.k.Problems()["example.test."]; (want == "") != (got == "") || !strings.Contains(got, want) {
				t.Errorf("told %q, want %q", got, want)
			}
		}
		look(foreign, "tag 4711")
		look(nil, "")
		look([]sign.DS{foreign[0], b.k.zones["example.test."].state.DSKeys()[0].DSFor("example.test.")}, "")
	})
}

// Keys that are there already are not held to what the parent has.
func TestImportedKeysAreTakenWhateverTheParentHas(t *testing.T) {
	from := newBench(t, signedZone+records(plain)).ok()
	admin := &Admin{Store: from.store}
	files, err := admin.Export(t.Context(), "example.test.")
	if err != nil {
		t.Fatal(err)
	}
	b := newBench(t, signedZone+records(plain))
	b.net.ds = map[fleet.Name][]sign.DS{"example.test.": foreign}
	to := &Admin{Store: b.store}
	if _, err := to.Import(t.Context(), "example.test.", files, ""); err != nil {
		t.Fatal(err)
	}
	if b.ok(); !b.zone("example.test.").Signed || b.net.guarded != 0 {
		t.Errorf("asked %d times", b.net.guarded)
	}
}

// A store that has lost everything does not sign zones anew whose DS are out:
// a Spec that is applied before the keys are back is refused, with all that is
// to be done.
func TestAnEmptyStoreMakesNoKeysForZonesThatAreSecure(t *testing.T) {
	b := newBench(t, signedZone+records(plain)).ok()
	var ds []sign.DS
	for _, k := range b.k.zones["example.test."].state.Keys {
		if k.Role != sign.ZSK {
			ds = append(ds, k.DSFor("example.test."))
		}
	}
	saved, _, err := b.store.Load(t.Context(), "example.test.")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(b.store.dir); err != nil {
		t.Fatal(err)
	}
	b.restart()
	b.old = nil
	b.net.ds = map[fleet.Name][]sign.DS{"example.test.": ds}
	if b.derive(); b.err == nil || b.keysOf("example.test.") != 0 {
		t.Fatalf("%v", b.err)
	}
	if err := b.store.Save(t.Context(), "example.test.", saved, ""); err != nil {
		t.Fatal(err)
	}
	b.k.Invalidate("example.test.")
	if b.ok(); !b.zone("example.test.").Signed {
		t.Error("not signed with the keys that are back")
	}
}

// Where the parent has no DS, or nobody can be asked, zones are signed; and
// whoever waits for many of them does not wait long.
func TestFirstKeysWhereThereIsNoDS(t *testing.T) {
	b := newBench(t, signedZone+records(plain))
	b.net.ds = map[fleet.Name][]sign.DS{}
	if b.ok(); !b.zone("example.test.").Signed || b.net.guarded != 1 {
		t.Errorf("asked %d times", b.net.guarded)
	}
	synctest.Test(t, func(t *testing.T) {
		spec := "zones:\n"
		for i := range 40 {
			spec += fmt.Sprintf("- {zone: z%d.test, dnssec: default, records: \"@ SOA a b 1 2 3 4 5\\n@ NS a\"}\n", i)
		}
		b := newBench(t, spec)
		b.net.silent = true
		began := time.Now()
		b.ok()
		if took := time.Since(began); took > guardLimit {
			t.Errorf("waits for %s", took)
		}
		if !b.zone("z39.test.").Signed {
			t.Error("not signed")
		}
		b.spec(spec + "- {zone: more.test, dnssec: default, records: \"@ SOA a b 1 2 3 4 5\\n@ NS a\"}\n")
		asked := b.net.guarded
		if b.ok(); b.net.guarded != asked {
			t.Error("asked again at once, where nobody answers")
		}
		<-time.After(2 * guardPause)
		b.spec(spec + "- {zone: again.test, dnssec: default, records: \"@ SOA a b 1 2 3 4 5\\n@ NS a\"}\n")
		if b.ok(); b.net.guarded == asked {
			t.Error("never asked again")
		}
	})
}
