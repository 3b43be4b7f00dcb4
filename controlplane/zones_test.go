package controlplane

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"meridian/dns/zone"
	"meridian/fleet"
	"meridian/rules"
)

const zoneSpec = spec + `
  - {zone: dyn.test, dynamic: true, records: "@ 300 SOA ns. h. 1 2 3 4 5\n@ 300 NS ns.\n", updates: [{key: k, names: ["*"], types: [A, TXT]}]}
dns: {keys: [{name: k, secret: "env:KEY"}]}
`

func zoneObjects() []fleet.Object {
	return append(zoneA(), fleet.Object{Key: fleet.ObjectKey{Kind: fleet.ObjectSecret, ID: "env:KEY"}, Data: []byte("c2VjcmV0")})
}

// marker is a Deriver whose derived zones are the content with a comment that
// says under which hash of the Spec they were made.
type marker struct {
	mu    sync.Mutex
	fail  error
	calls int
	next  time.Duration // until it wants to be called again
}

func (m *marker) Derive(_ context.Context, w *fleet.World, contents, old *fleet.Zones, now time.Time) (put []fleet.Object, gone []fleet.Name, next time.Time, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calls++
	if m.fail != nil {
		return nil, nil, time.Time{}, m.fail
	}
	if m.next > 0 {
		next = now.Add(m.next)
	}
	for o := range contents.All() {
		text := fmt.Sprintf("; %.8s at %d\n%s", w.Snapshot.Hash, now.Unix(), o.Data)
		if have, ok := old.Get(fleet.Name(o.Key.ID)); ok && m.next == 0 && strings.HasPrefix(string(have.Data), "; "+w.Snapshot.Hash[:8]) && strings.HasSuffix(string(have.Data), string(o.Data)) {
			continue
		}
		put = append(put, fleet.Object{Key: o.Key, Data: []byte(text)})
	}
	for o := range old.All() {
		if _, ok := contents.Get(fleet.Name(o.Key.ID)); !ok {
			gone = append(gone, fleet.Name(o.Key.ID))
		}
	}
	return put, gone, next, nil
}

func (m *marker) set(f func(*marker)) { m.mu.Lock(); defer m.mu.Unlock(); f(m) }

// add gives an Edit that adds an address record.
func add(owner string, last byte) Edit {
	return func(cur *zone.Zone) (*zone.Zone, error) {
		if cur == nil {
			return nil, ErrNoZone
		}
		return cur.With([]zone.Change{{Owner: append([]byte{byte(len(owner))}, owner+cur.Apex().Name...), Type: zone.TypeA, TTL: 60, Data: []byte{192, 0, 2, last}}})
	}
}

func served1(t *testing.T, r *rig, name fleet.Name) string {
	t.Helper()
	o, ok := r.Current().Zones.Get(name)
	if !ok {
		return ""
	}
	return string(o.Data)
}

func zoneRig(t *testing.T, store *memory, disk *onDisk, m *marker) (*rig, func()) {
	return run(t, store, disk, func(c *Config) {
		if m != nil {
			c.Deriver = m
		}
	})
}

func TestAZoneIsWrittenDerivedAndPublished(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, stop := zoneRig(t, newMemory(), &onDisk{}, &marker{})
		defer stop()
		if _, err := r.WriteZone(t.Context(), "dyn.test.", AnyBase, add("a", 1)); !errors.Is(err, ErrRefused) {
			t.Errorf("without a Spec: %v", err)
		}
		if _, err := r.Submit(t.Context(), Submission{Doc: []byte(zoneSpec), Objects: zoneObjects()}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		info, err := r.WriteZone(t.Context(), "dyn.test.", AnyBase, add("a", 1))
		if err != nil || info.Serial != 2 || info.Records != 3 || info.Source != "dynamic" || info.State != "ok" {
			t.Fatalf("%+v, %v", info, err)
		}
		text := served1(t, r, "dyn.test.")
		if !strings.HasPrefix(text, "; "+r.Current().Snapshot.Hash[:8]) || !strings.Contains(text, "a.dyn.test.\t60\tIN\tA\t192.0.2.1") {
			t.Errorf("served is %q", text)
		}
		if z, tag, err := r.Zone("dyn.test."); err != nil || tag != info.ETag || z.Serial != 2 {
			t.Errorf("content: %v, %s, %v", z, tag, err)
		}
		if put, _ := r.disk.w.Zones.Since(nil); len(put) != 1 {
			t.Errorf("%d zones are on disk", len(put))
		}
		again, err := r.WriteZone(t.Context(), "dyn.test.", info.ETag, add("a", 1))
		if err != nil || again.ETag != info.ETag || again.Serial != 2 {
			t.Errorf("the same again: %+v, %v", again, err)
		}
		if err := r.DeleteZone(t.Context(), "dyn.test.", AnyBase); !errors.Is(err, ErrOtherWriter) {
			t.Errorf("deleting what the Spec begins: %v", err)
		}
		fresh, _ := zone.Load("new.test.", []byte("@ 60 SOA ns. h. 9 2 3 4 5\n@ 60 NS ns.\n"), "f")
		info, err = r.WriteZone(t.Context(), "new.test.", Absent, func(*zone.Zone) (*zone.Zone, error) { return fresh, nil })
		if err != nil || info.Source != "api" || info.Serial != 9 {
			t.Fatalf("%+v, %v", info, err)
		}
		if err := r.DeleteZone(t.Context(), "new.test.", info.ETag); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if text := served1(t, r, "new.test."); text != "" {
			t.Errorf("a deleted zone is served: %q", text)
		}
		if _, err := r.ZoneInfo("new.test."); !errors.Is(err, ErrNoZone) {
			t.Errorf("a deleted zone is listed: %v", err)
		}
	})
}

// Two replicas that write the same zone at the same time lose nothing, and
// what is derived is of the last content.
func TestReplicasWriteTheSameZone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newMemory()
		a, stopA := zoneRig(t, store, &onDisk{}, &marker{})
		defer stopA()
		b, stopB := zoneRig(t, store, &onDisk{}, &marker{})
		defer stopB()
		if _, err := a.Submit(t.Context(), Submission{Doc: []byte(zoneSpec), Objects: zoneObjects()}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		var wg sync.WaitGroup
		for i := range 10 {
			r := a
			if i%2 == 1 {
				r = b
			}
			wg.Go(func() {
				if _, err := r.WriteZone(t.Context(), "dyn.test.", AnyBase, add(fmt.Sprintf("h%d", i), byte(i))); err != nil {
					t.Errorf("%d: %v", i, err)
				}
			})
		}
		wg.Wait()
		time.Sleep(time.Second) // of the test's own clock
		synctest.Wait()
		for _, r := range []*rig{a, b} {
			text := served1(t, r, "dyn.test.")
			if n := strings.Count(text, "\tA\t192.0.2."); n != 10 || !strings.Contains(text, "SOA\tns. h. 11 ") {
				t.Errorf("%d of 10 records are served: %s", n, text)
			}
		}
	})
}

func TestARevisionIsDerivedBeforeItIsStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &marker{}
		r, stop := zoneRig(t, newMemory(), &onDisk{}, m)
		defer stop()
		submit := func(edit string) (*Result, error) {
			res, err := r.Submit(t.Context(), Submission{Doc: []byte(zoneSpec + edit), Objects: zoneObjects()})
			synctest.Wait()
			return res, err
		}
		first, err := submit("")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.WriteZone(t.Context(), "dyn.test.", AnyBase, add("a", 1)); err != nil {
			t.Fatal(err)
		}
		second, err := submit("fleet: other\n")
		if err != nil {
			t.Fatal(err)
		}
		// Whichever World had the second revision had its zones.
		r.out.mu.Lock()
		for _, w := range r.out.worlds {
			if o, ok := w.Zones.Get("dyn.test."); w.Snapshot.Revision == second.Revision && (!ok || !strings.HasPrefix(string(o.Data), "; "+second.Hash[:8])) {
				t.Errorf("revision %d came with %q", w.Snapshot.Revision, o.Data)
			}
		}
		r.out.mu.Unlock()

		m.set(func(m *marker) { m.fail = errors.New("more than 256 answers") })
		if _, err := submit("fleet: third\n"); err == nil || !strings.Contains(err.Error(), "more than 256 answers") {
			t.Errorf("what cannot be derived: %v", err)
		}
		if _, err := r.WriteZone(t.Context(), "dyn.test.", AnyBase, add("b", 2)); !errors.Is(err, ErrZone) {
			t.Errorf("a zone that cannot be derived: %v", err)
		}
		if w := r.Current(); w.Snapshot.Revision != second.Revision || !strings.HasPrefix(served1(t, r, "dyn.test."), "; "+second.Hash[:8]) {
			t.Error("what was served before is not")
		}

		m.set(func(m *marker) { m.fail = nil })
		if _, err := r.Rollback(t.Context(), first.Revision, nil); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if text := served1(t, r, "dyn.test."); !strings.HasPrefix(text, "; "+first.Hash[:8]) || !strings.Contains(text, "192.0.2.1") {
			t.Errorf("after going back: %q", text)
		}
	})
}

func TestTheLeaderDerivesWhenItIsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &marker{}
		r, stop := zoneRig(t, newMemory(), &onDisk{}, m)
		defer stop()
		if _, err := r.Submit(t.Context(), Submission{Doc: []byte(zoneSpec), Objects: zoneObjects()}); err != nil {
			t.Fatal(err)
		}
		if _, err := r.WriteZone(t.Context(), "dyn.test.", AnyBase, add("a", 1)); err != nil {
			t.Fatal(err)
		}
		m.set(func(m *marker) { m.next = 10 * time.Minute })
		if _, err := r.WriteZone(t.Context(), "dyn.test.", AnyBase, add("b", 2)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		before := served1(t, r, "dyn.test.")
		time.Sleep(11 * time.Minute)
		synctest.Wait()
		after := served1(t, r, "dyn.test.")
		if before == after || !strings.Contains(after, "192.0.2.2") {
			t.Errorf("derived anew: %q, then %q", before, after)
		}
		m.set(func(m *marker) { m.fail = errors.New("no keys") })
		time.Sleep(30 * time.Minute)
		synctest.Wait()
		if now := served1(t, r, "dyn.test."); now == "" {
			t.Error("the zone is gone where it could not be derived")
		}
		m.set(func(m *marker) { m.fail, m.calls = nil, 0 })
		time.Sleep(deriveAgain + time.Second)
		synctest.Wait()
		m.mu.Lock()
		if m.calls == 0 {
			t.Error("not tried again")
		}
		m.mu.Unlock()
	})
}

func TestZonesSurviveTheStoreAndTheReplica(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, disk := newMemory(), &onDisk{}
		r, stop := zoneRig(t, store, disk, nil)
		if _, err := r.Submit(t.Context(), Submission{Doc: []byte(zoneSpec), Objects: zoneObjects()}); err != nil {
			t.Fatal(err)
		}
		if _, err := r.WriteZone(t.Context(), "dyn.test.", AnyBase, add("a", 1)); err != nil {
			t.Fatal(err)
		}
		stop()

		away := newMemory() // as if it had been lost
		r, stop = zoneRig(t, away, disk, nil)
		if text := served1(t, r, "dyn.test."); !strings.Contains(text, "192.0.2.1") {
			t.Errorf("from disk: %q", text)
		}
		stop()

		r, stop = zoneRig(t, store, &onDisk{}, nil) // another machine
		defer stop()
		if text := served1(t, r, "dyn.test."); !strings.Contains(text, "192.0.2.1") {
			t.Errorf("from the store: %q", text)
		}
		store.away = true
		if _, err := r.WriteZone(t.Context(), "dyn.test.", AnyBase, add("b", 2)); !errors.Is(err, ErrStoreAway) {
			t.Errorf("without a store: %v", err)
		}
		if text := served1(t, r, "dyn.test."); !strings.Contains(text, "192.0.2.1") {
			t.Errorf("while the store is away: %q", text)
		}
	})
}

func TestUpdatesAreAnsweredByTheirRCODE(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, stop := zoneRig(t, newMemory(), &onDisk{}, nil)
		defer stop()
		if rcode, err := r.Update(t.Context(), "dyn.test.", "k.", nil); rcode != dns.RcodeServerFailure || err == nil {
			t.Errorf("without a Spec: %d, %v", rcode, err)
		}
		if _, err := r.Submit(t.Context(), Submission{Doc: []byte(zoneSpec), Objects: zoneObjects()}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		message := func(name string, rrs ...string) []byte {
			m := new(dns.Msg)
			m.SetUpdate(name)
			for _, text := range rrs {
				rr, err := dns.NewRR(text)
				if err != nil {
					t.Fatal(err)
				}
				m.Insert([]dns.RR{rr})
			}
			b, err := m.Pack()
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
		for _, c := range []struct {
			what, zone, key string
			msg             []byte
			rcode           int
		}{
			{"a record", "dyn.test.", "k.", message("dyn.test.", "www.dyn.test. 60 A 192.0.2.7"), dns.RcodeSuccess},
			{"the same", "dyn.test.", "k.", message("dyn.test.", "www.dyn.test. 60 A 192.0.2.7"), dns.RcodeSuccess},
			{"a key without rules", "dyn.test.", "other.", message("dyn.test.", "www.dyn.test. 60 A 192.0.2.8"), dns.RcodeRefused},
			{"a type without rules", "dyn.test.", "k.", message("dyn.test.", "www.dyn.test. 60 AAAA 2001:db8::1"), dns.RcodeRefused},
			{"a zone that a file writes", "a.test.", "k.", message("a.test.", "www.a.test. 60 A 192.0.2.8"), dns.RcodeRefused},
			{"a name outside", "dyn.test.", "k.", message("dyn.test.", "www.other.test. 60 A 192.0.2.8"), dns.RcodeNotZone},
			{"octets", "dyn.test.", "k.", []byte{1, 2, 3}, dns.RcodeFormatError},
		} {
			if rcode, _ := r.Update(t.Context(), fleet.Name(c.zone), fleet.Name(c.key), c.msg); rcode != c.rcode {
				t.Errorf("%s: %s, want %s", c.what, dns.RcodeToString[rcode], dns.RcodeToString[c.rcode])
			}
		}
		if z, _, err := r.Zone("dyn.test."); err != nil || z.Serial != 2 || z.Records() != 3 {
			t.Errorf("after all: %+v, %v", z, err)
		}
	})
}

func TestServedZonesAreThoseWithAWriterOfTheirOwn(t *testing.T) {
	s, err := rules.Compile([]byte(zoneSpec), 1)
	if err != nil {
		t.Fatal(err)
	}
	set := func(names ...string) *fleet.Zones {
		var none *fleet.Zones
		for _, n := range names {
			none = none.With([]fleet.Object{rules.ZoneObject(fleet.Name(n), []byte(n))}, nil)
		}
		return none
	}
	z := served(s, set("a.test.", "dyn.test.", "made.test."), set("dyn.test.", "only.test."))
	for n, want := range map[fleet.Name]bool{"a.test.": false, "dyn.test.": true, "made.test.": true, "only.test.": true} {
		if _, ok := z.Get(n); ok != want {
			t.Errorf("%s: %v", n, ok)
		}
	}
	// What has changed since is worked in without a look at the rest.
	old := &fleet.World{Snapshot: s, Zones: z}
	before := Stored{Revision: 1, Zones: set("a.test.", "made.test."), Derived: set("only.test.")}
	st := Stored{Revision: 1, Zones: before.Zones.With(nil, []fleet.Name{"made.test."}), Derived: before.Derived}
	next := nextServed(old, before, st)
	if _, ok := next.Get("made.test."); ok || next.Len() != z.Len()-1 {
		t.Errorf("%d zones of %d", next.Len(), z.Len())
	}
	if nextServed(old, st, st) != old.Zones {
		t.Error("another set for no change")
	}
}

// A revision from a file is not served while a zone that is to be signed has
// never been: unsigned it would be bogus. It is tried again, and the state
// says why.
func TestARevisionThatCannotBeSignedIsRefusedAndTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, store := &marker{fail: errors.New("keys are damaged")}, newMemory()
		signed := strings.Replace(zoneSpec, "dynamic: true, records", "dynamic: true, dnssec: default, records", 1)
		if _, err := store.Commit(t.Context(), 0, Change{Doc: []byte(signed), Objects: zoneObjects()}); err != nil {
			t.Fatal(err)
		}
		r, stop := run(t, store, &onDisk{}, func(c *Config) { c.Deriver, c.DeriveFirst = m, true })
		defer stop()
		synctest.Wait()
		if st := r.Status(); r.Current() != nil || !strings.Contains(st.Problem, "keys are damaged") {
			t.Fatalf("served: %v; problem %q", r.Current() != nil, st.Problem)
		}
		m.set(func(m *marker) { m.fail = nil })
		time.Sleep(2 * deriveAgain)
		synctest.Wait()
		if st := r.Status(); r.Current() == nil || st.Problem != "" {
			t.Errorf("served: %v; problem %q", r.Current() != nil, st.Problem)
		}
	})
}
