package conformance

import (
	"slices"
	"testing"
)

const root = "../.."

// Every row of a checklist has a test or says why it is not done, and every test
// that a row names is there.
func TestChecklistsAreProved(t *testing.T) {
	clauses, err := Scan(root)
	if err != nil {
		t.Error(err)
	}
	for _, l := range Lists {
		entries, _, err := Checklist(l.File)
		if err != nil {
			t.Fatal(err)
		}
		named, err := Named(root, entries)
		if err != nil {
			t.Fatal(err)
		}
		all := slices.Concat(clauses, named)
		for _, e := range entries {
			if proofs := e.Proofs(all); len(proofs) == 0 && e.Reason == "" {
				t.Errorf("%s:%d: RFC %d §%s {%s}: no test proves it, and no reason is given: %s", l.File, e.Line, e.RFC, e.Section, e.Word, e.Text)
			}
			for _, name := range e.Names() {
				if !slices.ContainsFunc(named, func(c Clause) bool { return c.Test == name }) {
					t.Errorf("%s:%d: there is no %s", l.File, e.Line, name)
				}
			}
		}
	}
}

func TestClaimsOf(t *testing.T) {
	got := claimsOf("RFC 1034 §4.3.2: the zone nearest to the\nname is searched.\nRFC 2308 §3: a. RFC 2308 §5: b.\n\nMore words.\n")
	want := []Clause{{RFC: 1034, Section: "4.3.2", Text: "the zone nearest to the name is searched."}, {RFC: 2308, Section: "3", Text: "a."}, {RFC: 2308, Section: "5", Text: "b."}}
	if !slices.Equal(got, want) {
		t.Errorf("got %+v", got)
	}
}

func TestSectionsAreOrderedByNumber(t *testing.T) {
	got := []string{"4.10", "4.9", "4", "A.1", "10"}
	slices.SortFunc(got, compareSections)
	if want := []string{"4", "4.9", "4.10", "10", "A.1"}; !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
}
