package controlplane

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"meridian/fleet"
	"meridian/rules"
)

const spec = `
regions:
  - id: fra
    location: {latitude: 50, longitude: 8}
    vips: {v4: [192.0.2.1]}
  - id: nrt
    location: {latitude: 35, longitude: 139}
    vips: {v4: [192.0.2.2]}
nodes:
  - {name: fra-1, region: fra, roles: [dns], addresses: {v4: 10.0.0.1}}
  - {name: nrt-1, region: nrt, roles: [dns], addresses: {v4: 10.0.0.2}}
zones:
  - {zone: a.test, file: a.zone}
`

func withCapacity(n int) []byte {
	return []byte(strings.Replace(spec, "- id: nrt", fmt.Sprintf("- id: nrt\n    capacity: %d", n), 1))
}

func zoneA() []fleet.Object {
	return []fleet.Object{{Key: fleet.ObjectKey{Kind: fleet.ObjectZone, ID: "a.test."}, File: "a.zone",
		Data: []byte("@ 300 SOA ns.b.test. host.b.test. 1 3600 600 86400 300\n@ 300 NS ns.b.test.\n")}}
}

// memory is a Store in this process, for tests of what the real one does only
// when it is away or contended.
type memory struct {
	mu     sync.Mutex
	st     Stored
	kept   map[uint64]Change
	keys   *fleet.Zones
	away   bool
	signal chan struct{}
}

func newMemory() *memory { return &memory{kept: map[uint64]Change{}, signal: make(chan struct{})} }

func (m *memory) change(f func() error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.away {
		return fmt.Errorf("%w: pulled", ErrStoreAway)
	}
	if err := f(); err != nil {
		return err
	}
	close(m.signal) // every replica hears of it
	m.signal = make(chan struct{})
	return nil
}

func (m *memory) Commit(_ context.Context, base uint64, c Change) (n uint64, err error) {
	err = m.change(func() error {
		if base != m.st.Revision {
			return &ConflictError{Current: m.st.Revision, Base: base}
		}
		if c.Restore != 0 {
			old := m.kept[c.Restore]
			c.Doc, c.Objects = old.Doc, old.Objects
		}
		if err := m.write(c.Items); err != nil {
			return err
		}
		n = max(base, c.Floor) + 1
		m.kept[n] = c
		m.st.Revision, m.st.Doc, m.st.Objects = n, c.Doc, c.Objects
		m.st.History = append(slices.Clone(m.st.History), Revision{Revision: n, Restored: c.Restore, Content: string(c.Doc)})
		return nil
	})
	return n, err
}

func (m *memory) Content(_ context.Context, n uint64) ([]byte, []fleet.Object, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.kept[n].Doc, m.kept[n].Objects, nil
}

// set gives the place of a kind's items.
func (m *memory) set(k ItemKind) **fleet.Zones {
	switch k {
	case ZoneItem:
		return &m.st.Zones
	case DerivedItem:
		return &m.st.Derived
	case ProblemItem:
		return &m.st.Problems
	case LiveItem:
		return &m.st.Live
	}
	return &m.keys
}

func (m *memory) ReadItem(_ context.Context, kind ItemKind, name fleet.Name) ([]byte, string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	o, _ := (*m.set(kind)).Get(name)
	return o.Data, o.Version, nil
}

// write is called with mu held.
func (m *memory) write(items []ItemWrite) error {
	for _, it := range items {
		if o, _ := (*m.set(it.Kind)).Get(it.Name); it.Expect != AnyVersion && o.Version != it.Expect {
			return &ItemConflictError{it.Kind, it.Name}
		}
	}
	for _, it := range items {
		z := m.set(it.Kind)
		if it.Data == nil {
			*z = (*z).With(nil, []fleet.Name{it.Name})
		} else {
			*z = (*z).With([]fleet.Object{it.Kind.Object(it.Name, it.Data)}, nil)
		}
	}
	return nil
}

func (m *memory) WriteItems(_ context.Context, items []ItemWrite) error {
	return m.change(func() error { return m.write(items) })
}

func (m *memory) ItemNames(context.Context, ItemKind, string) ([]fleet.Name, error) { return nil, nil }

func (m *memory) Lock(context.Context, string) (func(), <-chan struct{}, error) {
	return func() {}, nil, nil
}

func (m *memory) Lead(ctx context.Context, _ string, lead func(context.Context)) error {
	lead(ctx)
	return nil
}

func (m *memory) SetShift(_ context.Context, id string, sh *fleet.Shift) error {
	return m.change(func() error { m.st.Shifts = replaceShift(m.st.Shifts, id, sh); return nil })
}

func (m *memory) PutAcks(_ context.Context, acks []Ack) error {
	return m.change(func() error {
		for _, a := range acks {
			m.st.Acks = slices.DeleteFunc(slices.Clone(m.st.Acks), func(b Ack) bool { return b.Node == a.Node })
			m.st.Acks = append(m.st.Acks, a)
		}
		return nil
	})
}

func (m *memory) Watch(ctx context.Context, update func(Stored)) error {
	for {
		m.mu.Lock()
		st, signal := m.st, m.signal
		m.mu.Unlock()
		update(st)
		select {
		case <-ctx.Done():
			return nil
		case <-signal:
		}
	}
}

func (m *memory) Health() StoreHealth { return StoreHealth{Connected: !m.away} }

// published is a Publisher that remembers.
type published struct {
	mu     sync.Mutex
	worlds []*fleet.World
}

func (p *published) Publish(w *fleet.World) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.worlds = append(p.worlds, w)
}

func (p *published) revisions() (out []uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, w := range p.worlds {
		out = append(out, w.Snapshot.Revision)
	}
	return out
}

// onDisk is a Disk in memory.
type onDisk struct{ w *fleet.World }

func (d *onDisk) Load() (*fleet.World, error) { return d.w, nil }
func (d *onDisk) Save(w *fleet.World) error   { d.w = w; return nil }

type rig struct {
	*ControlPlane
	store *memory
	out   *published
	disk  *onDisk
	said  []string
}

// run starts a replica in a bubble of virtual time, which must end it.
func run(t *testing.T, store *memory, disk *onDisk, edit ...func(*Config)) (*rig, func()) {
	t.Helper()
	r := &rig{store: store, out: &published{}, disk: disk}
	var mu sync.Mutex
	cfg := Config{Node: "fra-1", Store: store, Publisher: r.out, Disk: disk, Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
		Impact: func(old, next *fleet.World) any { return fmt.Sprintf("%d shifts", len(next.Shifts)) },
		Notify: func(e Event) { mu.Lock(); r.said = append(r.said, e.Text); mu.Unlock() }}
	for _, f := range edit {
		f(&cfg)
	}
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	r.ControlPlane = c
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = c.Run(ctx) }()
	synctest.Wait()
	return r, func() { cancel(); <-done }
}

func (r *rig) submit(t *testing.T, doc []byte) *Result {
	t.Helper()
	res, err := r.Submit(t.Context(), Submission{Doc: doc, Objects: zoneA()})
	if err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
	return res
}

func TestASpecIsCheckedStoredAndPublished(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, stop := run(t, newMemory(), &onDisk{})
		defer stop()

		dry, err := r.Submit(t.Context(), Submission{Doc: []byte(spec), Objects: zoneA(), DryRun: true})
		if err != nil || !dry.DryRun || dry.Revision != 0 || len(dry.Changes) == 0 || dry.Impact != "0 shifts" || r.Current() != nil {
			t.Fatalf("dry run: %+v, %v", dry, err)
		}
		if res := r.submit(t, []byte(spec)); res.Revision != 1 || res.Hash == "" || res.Accepted.IsZero() {
			t.Errorf("got %+v", res)
		}
		if res := r.submit(t, []byte(spec)); res.Revision != 1 || !res.Unchanged {
			t.Errorf("the same again: %+v", res)
		}
		res := r.submit(t, withCapacity(7))
		if res.Revision != 2 || len(res.Changes) != 1 || res.Changes[0].String() != "~ regions[nrt].capacity: 100 -> 7" {
			t.Errorf("got %+v", res)
		}
		if got := fmt.Sprint(r.out.revisions()); got != "[1 2]" {
			t.Errorf("published %s", got)
		}
		if r.disk.w.Snapshot.Revision != 2 {
			t.Error("not kept on disk")
		}
	})
}

func TestWhatIsWrongIsRefusedAndNothingChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, stop := run(t, newMemory(), &onDisk{})
		defer stop()
		r.submit(t, []byte(spec))
		stale := uint64(0)
		for name, sub := range map[string]Submission{
			"broken Spec":    {Doc: []byte("regions: 7"), Objects: zoneA()},
			"missing object": {Doc: []byte(spec)},
			"stale base":     {Doc: withCapacity(7), Objects: zoneA(), Base: &stale},
		} {
			if _, err := r.Submit(t.Context(), sub); err == nil {
				t.Errorf("%s was taken", name)
			}
		}
		if _, err := r.Submit(t.Context(), Submission{Doc: withCapacity(8), Reuse: true}); err != nil {
			t.Errorf("objects of the current revision: %v", err)
		}
		r.store.away = true
		if _, err := r.Submit(t.Context(), Submission{Doc: withCapacity(9), Objects: zoneA()}); !errors.Is(err, ErrStoreAway) {
			t.Errorf("without a store: %v", err)
		}
		if got := r.Current().Snapshot.Revision; got != 2 {
			t.Errorf("serving %d", got)
		}
	})
}

func TestAnEarlierRevisionComesBackUnderANewNumber(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, stop := run(t, newMemory(), &onDisk{})
		defer stop()
		first := r.submit(t, []byte(spec))
		if _, err := r.Rollback(t.Context(), 0, nil); !errors.Is(err, ErrRefused) {
			t.Errorf("nothing to go back to: %v", err)
		}
		r.submit(t, withCapacity(7))
		res, err := r.Rollback(t.Context(), 0, nil)
		if err != nil || res.Revision != 3 || res.Hash != first.Hash || len(res.Changes) != 1 {
			t.Fatalf("%+v, %v", res, err)
		}
		if _, err := r.Rollback(t.Context(), 77, nil); !errors.Is(err, ErrRefused) {
			t.Errorf("a revision that is not kept: %v", err)
		}
	})
}

func TestAReplicaServesItsDiskWhileTheStoreIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := rules.Compile([]byte(spec), 9)
		if err != nil {
			t.Fatal(err)
		}
		w, err := rules.World(s, zoneA(), nil)
		if err != nil {
			t.Fatal(err)
		}
		store := newMemory() // empty: as if it had been lost
		r, stop := run(t, store, &onDisk{w})
		defer stop()
		st := r.Status()
		if st.Revision != 9 || st.Source != "disk" || fmt.Sprint(r.out.revisions()) != "[9]" {
			t.Errorf("status %+v", st)
		}
		if !strings.Contains(st.Problem, "the store is at revision 0, behind the 9 served here") {
			t.Errorf("problem %q", st.Problem)
		}
		// What is submitted then has a number that nodes take.
		if res := r.submit(t, withCapacity(7)); res.Revision != 10 {
			t.Errorf("got %+v", res)
		}
		if st := r.Status(); st.Problem != "" || st.Source != "store" {
			t.Errorf("status %+v", st)
		}
	})
}

func TestShiftsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, stop := run(t, newMemory(), &onDisk{})
		defer stop()
		if _, err := r.AddShift(t.Context(), fleet.Shift{From: "fra", Share: 1, Drain: true}, false); !errors.Is(err, ErrRefused) {
			t.Errorf("without a Spec: %v", err)
		}
		r.submit(t, []byte(spec))
		soon := time.Now().Add(time.Minute)
		for name, test := range map[string]struct {
			sh   fleet.Shift
			want string
		}{
			"no such region":  {fleet.Shift{From: "lhr", Share: 1, Expires: soon}, `refused: from: region "lhr" does not exist`},
			"no share":        {fleet.Shift{From: "fra", Expires: soon}, "refused: share: expected more than 0"},
			"too much":        {fleet.Shift{From: "fra", Share: 1.1, Expires: soon}, "refused: share: 1.1 is not between 0 and 1"},
			"no end":          {fleet.Shift{From: "fra", Share: .5}, "refused: expires: a shift needs an end; only a drain may stay until it is taken back"},
			"in the past":     {fleet.Shift{From: "fra", Share: .5, Expires: time.Now().Add(-time.Hour)}, "refused: expires: 1999-12-31T23:00:00Z is in the past"},
			"to itself":       {fleet.Shift{From: "fra", To: []string{"fra"}, Share: .5, Expires: soon}, "refused: to[0]: is the region that gives clients up"},
			"id not a word":   {fleet.Shift{ID: "a/b", From: "fra", Share: .5, Expires: soon}, `refused: id: "a/b": expected 1 to 63 lower-case letters, digits and hyphens`},
			"unknown service": {fleet.Shift{From: "fra", Service: "x", Share: .5, Expires: soon}, `refused: service: "x" does not exist`},
		} {
			if _, err := r.AddShift(t.Context(), test.sh, false); err == nil || err.Error() != test.want {
				t.Errorf("%s: %v", name, err)
			}
		}
		dry, err := r.AddShift(t.Context(), fleet.Shift{From: "fra", Share: .5, Expires: soon}, true)
		if err != nil || dry.Impact != "1 shifts" || len(r.Shifts()) != 0 {
			t.Errorf("dry run: %+v, %v", dry, err)
		}
		if _, err := r.AddShift(t.Context(), fleet.Shift{ID: "drain-fra", From: "fra", Share: 1, Drain: true}, false); err != nil {
			t.Fatal(err)
		}
		_, err = r.AddShift(t.Context(), fleet.Shift{From: "nrt", Share: 1, Drain: true}, false)
		if err == nil || err.Error() != "refused: from: it would empty the last region that still takes clients" {
			t.Errorf("the last region: %v", err)
		}
		if err := r.RemoveShift(t.Context(), "drain-fra"); err != nil || len(r.Shifts()) != 0 {
			t.Errorf("taken back: %v, %v", err, r.Shifts())
		}
		if err := r.RemoveShift(t.Context(), "drain-fra"); !errors.Is(err, ErrRefused) {
			t.Errorf("twice: %v", err)
		}
		synctest.Wait()
		want := []string{"Revision 1 is current", "Region fra is drained", "Shift drain-fra has ended"}
		if !slices.Equal(r.said, want) {
			t.Errorf("said %q", r.said)
		}
	})
}

func TestTheLedgerKnowsEveryNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newMemory()
		r, stop := run(t, store, &onDisk{})
		defer stop()
		r.submit(t, []byte(spec))
		l := r.Ledger()
		l.Connected("fra-1", 0)
		l.Sent("fra-1", 1)
		ack := func(node string) Ack {
			synctest.Wait()
			for _, a := range r.Status().Nodes {
				if a.Node == node {
					return a
				}
			}
			t.Fatalf("%s is not in the status", node)
			return Ack{}
		}
		if a := ack("fra-1"); a.State != Sent || a.Revision != 1 || a.Applied != 0 || !a.Online {
			t.Errorf("sent: %+v", a)
		}
		l.Answered("fra-1", 1, nil)
		if a := ack("fra-1"); a.State != Acked || a.Applied != 1 || a.At.IsZero() {
			t.Errorf("acknowledged: %+v", a)
		}
		r.submit(t, withCapacity(7))
		l.Sent("fra-1", 2)
		l.Answered("fra-1", 2, errors.New("dns: no"))
		if a := ack("fra-1"); a.State != Nacked || a.Applied != 1 || a.Revision != 2 || a.Error != "dns: no" {
			t.Errorf("refused: %+v", a)
		}
		if last := r.said[len(r.said)-1]; last != "fra-1 refused revision 2: dns: no" {
			t.Errorf("said %q", last)
		}
		if a := ack("nrt-1"); a.State != "" || a.Online {
			t.Errorf("never seen: %+v", a)
		}

		// Another replica serves nrt-1 and writes so into the store.
		other := Ack{Node: "nrt-1", Revision: 2, State: Acked, Applied: 2, At: time.Now(), Replica: "nrt-1", Online: true, Seen: time.Now()}
		if err := store.PutAcks(t.Context(), []Ack{other}); err != nil {
			t.Fatal(err)
		}
		if a := ack("nrt-1"); a.Applied != 2 || !a.Online {
			t.Errorf("by another replica: %+v", a)
		}
		time.Sleep(3 * time.Minute) // of virtual time: that replica is dead
		if a := ack("nrt-1"); a.Applied != 2 || a.Online {
			t.Errorf("by a dead replica: %+v", a)
		}
		if a := ack("fra-1"); !a.Online {
			t.Error("fra-1 is still connected here")
		}
	})
}
