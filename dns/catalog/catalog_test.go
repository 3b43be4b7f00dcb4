package catalog

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"meridian/dns/zone"
	"meridian/fleet"
)

const head = "$ORIGIN cat.test.\n$TTL 0\n@ SOA invalid. invalid. 7 3600 600 86400 0\n@ NS invalid.\n"

func load(t testing.TB, text string) *zone.Zone {
	t.Helper()
	z, err := zone.Load("cat.test.", []byte(head+text), "f")
	if err != nil {
		t.Fatal(err)
	}
	return z
}

// RFC 9432 §4.2: members are the PTR records below zones. RFC 9432 §4.4: their properties are group and coo; others are passed over.
func TestRFC9432Members(t *testing.T) {
	z := load(t, `version TXT "2"
a1.zones PTR B.example.
group.a1.zones TXT web
group.a1.zones TXT "other" "text"
coo.a1.zones PTR next.test.
a2.zones PTR a.example.
ext.a2.zones TXT anything
x.y.a2.zones PTR none.example.
group.a3.zones TXT alone
custom.ext TXT whatever
`)
	got, err := Read(z)
	want := []Member{{ID: "a2", Zone: "a.example."}, {ID: "a1", Zone: "b.example.", Groups: []string{"other", "web"}, Coo: "next.test."}}
	if err == nil {
		slices.Sort(got[1].Groups)
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v %+v", err, got)
	}
}

// RFC 9432 §4.3.1: a catalog without a version, or with another, is not processed.
// RFC 9432 §4.2: nor is one with several PTR records at a member, or that lists a zone twice.
func TestRFC9432Broken(t *testing.T) {
	const v = "version TXT \"2\"\n"
	for text, want := range map[string]string{
		"":                                     "it has no version",
		"version A 192.0.2.1\n":                "it has no version",
		"version TXT \"1\"\n":                  "its version is not 2",
		"version TXT \"2\" \"\"\n":             "its version is not 2",
		v + "version TXT \"1\"\n":              "its version is not 2",
		v + "a.zones PTR x.\na.zones PTR y.\n": "a.zones.cat.test. has 2 PTR records",
		v + "a.zones PTR x.\nb.zones PTR X.\n": "member x. is listed twice",
		v + "a.zones PTR x.\ncoo.a.zones PTR c.\ncoo.a.zones PTR d.\n": "coo.a.zones.cat.test. has 2 PTR records",
	} {
		if got, err := Read(load(t, text)); err == nil || got != nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

// RFC 9432 §4: what we make as a producer a consumer reads: version 2, one PTR a member under a label of its own that does not change, the group.
func TestRFC9432Producer(t *testing.T) {
	long := fleet.Name(strings.Repeat(strings.Repeat("a", 61)+".", 4))
	members := []Member{{Zone: "a.test.", Groups: []string{"web"}}, {Zone: "b.test."}, {Zone: long}, {Zone: "."}}
	z, err := Make("cat.test.", members, 42)
	if err != nil || z.Serial != 42 {
		t.Fatal(err)
	}
	var text bytes.Buffer
	if err := z.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	again, err := zone.Load("cat.test.", text.Bytes(), "f")
	if err != nil {
		t.Fatal(err)
	}
	got, err := Read(again)
	if err != nil || len(got) != len(members) {
		t.Fatalf("%v %v", err, got)
	}
	for _, m := range got {
		at := slices.IndexFunc(members, func(x Member) bool { return x.Zone == m.Zone })
		if at < 0 || m.ID != ID(m.Zone) || !reflect.DeepEqual(m.Groups, members[at].Groups) {
			t.Errorf("%+v", m)
		}
	}
	if _, err := Make("cat.test.", []Member{{Zone: "a.", Groups: []string{strings.Repeat("x", 256)}}}, 1); err == nil {
		t.Error("a group of 256 octets")
	}
}

// RFC 9432 §4.4.1: a zone moves to another catalog only where the one that has it lets it, by coo, and the other lists it.
// RFC 9432 §5.2: a catalog that lists a zone of another does not get it.
// RFC 9432 §5.4: another label under the same zone, or a move with another label, resets the zone.
func TestRFC9432Assign(t *testing.T) {
	m := func(id, coo string) []Member { return []Member{{ID: id, Zone: "z.", Coo: fleet.Name(coo)}} }
	owned := map[fleet.Name]Owner{"z.": {"a.", Member{ID: "1", Zone: "z."}}}
	for _, c := range []struct {
		what   string
		before map[fleet.Name]Owner
		lists  map[fleet.Name][]Member
		owner  fleet.Name
		reset  bool
		clash  int
	}{
		{"new", nil, map[fleet.Name][]Member{"a.": m("1", "")}, "a.", false, 0},
		{"stays", owned, map[fleet.Name][]Member{"a.": m("1", "")}, "a.", false, 0},
		{"another label", owned, map[fleet.Name][]Member{"a.": m("2", "")}, "a.", true, 0},
		{"gone", owned, map[fleet.Name][]Member{"a.": nil}, "", false, 0},
		{"clash", owned, map[fleet.Name][]Member{"a.": m("1", ""), "b.": m("1", "")}, "a.", false, 1},
		{"clash at first: the first by name", nil, map[fleet.Name][]Member{"b.": m("1", ""), "a.": m("1", "")}, "a.", false, 1},
		{"coo and not yet listed", owned, map[fleet.Name][]Member{"a.": m("1", "b.")}, "a.", false, 0},
		{"coo and listed", owned, map[fleet.Name][]Member{"a.": m("1", "b."), "b.": m("1", "")}, "b.", false, 0},
		{"coo and listed with another label", owned, map[fleet.Name][]Member{"a.": m("1", "b."), "b.": m("2", "")}, "b.", true, 0},
		{"coo for another", owned, map[fleet.Name][]Member{"a.": m("1", "c."), "b.": m("1", "")}, "a.", false, 1},
		{"given up and listed elsewhere", owned, map[fleet.Name][]Member{"a.": nil, "b.": m("1", "")}, "b.", true, 0},
	} {
		got := Assign(c.before, c.lists)
		if got.Owners["z."].Catalog != c.owner || (len(got.Reset) > 0) != c.reset || len(got.Clash) != c.clash {
			t.Errorf("%s: %+v", c.what, got)
		}
	}
}

// What a catalog's producer sends is read or refused, and what is read can be
// assigned and made again.
func FuzzCatalog(f *testing.F) {
	f.Add("version TXT \"2\"\na.zones PTR x.\ngroup.a.zones TXT g\ncoo.a.zones PTR c.\n")
	f.Add("version TXT \"2\"\n\\001.zones PTR x.\n*.zones PTR y.\n")
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 2000 || strings.Contains(text, "GENERATE") {
			return
		}
		z, err := zone.Load("cat.test.", []byte(head+text), "f")
		if err != nil {
			return
		}
		members, err := Read(z)
		if err != nil {
			return
		}
		a := Assign(nil, map[fleet.Name][]Member{"cat.test.": members})
		if len(a.Owners) != len(members) {
			t.Fatal(fmt.Sprint(a))
		}
		made, err := Make("cat.test.", members, 1)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := Read(made); err != nil || len(again) != len(members) {
			t.Fatalf("%v: %d members of %d", err, len(again), len(members))
		}
	})
}

// A label that ends as the name above the members is written stands beside the
// members, and is no catalog's end.
func TestLabelsThatLookLikeOthers(t *testing.T) {
	z := load(t, `version TXT "2"
a\005zones PTR x.example.
group.a\005zones TXT web
\003b\005zones PTR y.example.
c.zones PTR z.example.
`)
	got, err := Read(z)
	if want := []Member{{ID: "c", Zone: "z.example."}}; err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v %+v", err, got)
	}
}
