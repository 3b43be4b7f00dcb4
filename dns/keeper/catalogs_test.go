package keeper

import (
	"fmt"
	"testing"
	"time"

	"meridian/dns/catalog"
	"meridian/dns/sign"
	"meridian/fleet"
)

const catalogued = `
dns: {zones: api, templates: [{template: api, member_of: cat.test, group: made}]}
zones:
- {zone: cat.test, transfer: [10.0.0.0/8]}
- {zone: a.test, member_of: cat.test, group: web, records: "@ SOA a b 1 2 3 4 5\n@ NS a"}
`

func (b *bench) listed(t *testing.T) string {
	t.Helper()
	list, err := catalog.Read(b.zone("cat.test."))
	if err != nil {
		t.Fatal(err)
	}
	out := ""
	for _, m := range list {
		out += fmt.Sprint(m.Zone, m.Groups, " ")
	}
	return out
}

// RFC 9432 §4: a catalog lists the zones of the Spec that name it, and by the template those that the API makes, soon after they come and go.
// RFC 1982 §3.2: its serial grows with each change, through restarts and by whichever replica.
func TestRFC9432CatalogIsMadeOfTheFleetsZones(t *testing.T) {
	b := newBench(t, catalogued).ok()
	serial := b.zone("cat.test.").Serial
	want := func(what, list string, changed bool) {
		t.Helper()
		if got := b.listed(t); got != list {
			t.Errorf("%s: %q, want %q", what, got, list)
		}
		now := b.zone("cat.test.").Serial
		if changed && !sign.SerialAfter(now, serial) || !changed && now != serial {
			t.Errorf("%s: serial %d after %d", what, now, serial)
		}
		serial = now
	}
	want("at first", "a.test.[web] ", false)
	b.content("made.test.", "$ORIGIN made.test.\n"+plain)
	if b.ok(); len(b.put) != 1 || b.next.IsZero() || b.next.After(b.now.Add(time.Second)) {
		t.Errorf("%d zones are made with the one that came; next %s", len(b.put), b.next)
	}
	want("at once", "a.test.[web] ", false)
	b.now = b.next
	b.ok()
	want("soon", "a.test.[web] made.test.[made] ", true)
	b.content("made.test.", "$ORIGIN made.test.\n"+plain+"more A 192.0.2.1\n")
	b.now = b.now.Add(time.Hour)
	b.ok()
	want("a change of a member", "a.test.[web] made.test.[made] ", false)
	b.restart()
	b.now = b.now.Add(time.Hour)
	b.ok()
	want("by another process", "a.test.[web] made.test.[made] ", false)
	b.have = b.have.With(nil, []fleet.Name{"made.test."})
	b.ok()
	b.now = b.next
	b.ok()
	want("a member is gone", "a.test.[web] ", true)
	b.now = b.now.Add(-48 * time.Hour) // a clock that went back
	b.spec(catalogued + "- {zone: b.test, member_of: cat.test, records: \"@ SOA a b 1 2 3 4 5\\n@ NS a\"}\n")
	b.ok()
	want("another in the Spec", "a.test.[web] b.test.[] ", true)
}

// A replica that has not made the catalog makes the same of it, and gives way
// to the one that has.
func TestReplicasMakeOneCatalog(t *testing.T) {
	a := newBench(t, catalogued).ok()
	b := &bench{t: t, store: a.store, net: a.net, now: a.now}
	b.restart()
	share := func() {
		b.world, b.have, b.old, b.now = a.world, a.have, a.old, a.now
	}
	share()
	if b.ok(); len(b.put) > 0 {
		t.Error("another replica makes another catalog")
	}
	a.content("one.test.", "$ORIGIN one.test.\n"+plain)
	share()
	a.ok() // both see that a zone has come
	share()
	b.ok()
	a.now = a.next
	a.ok() // the leader lists it
	serial := a.zone("cat.test.").Serial
	share()
	b.now = b.now.Add(time.Minute)
	if b.ok(); len(b.put) > 0 {
		t.Errorf("the other replica makes the catalog again, with serial %d after %d", b.zone("cat.test.").Serial, serial)
	}
	b.content("two.test.", "$ORIGIN two.test.\n"+plain) // and may be the next leader
	b.ok()
	b.now = b.next
	b.ok()
	if z := b.zone("cat.test."); !sign.SerialAfter(z.Serial, serial) || b.listed(t) != "a.test.[web] one.test.[made] two.test.[made] " {
		t.Errorf("serial %d after %d, lists %s", z.Serial, serial, b.listed(t))
	}
}
