package conformance

import (
	"slices"
	"testing"
)

const root = "../.."

// Every row of the checklist has a test or says why it is not done, and no
// row is said to be missing that has a test.
func TestChecklistIsProved(t *testing.T) {
	clauses, err := Scan(root)
	if err != nil {
		t.Error(err)
	}
	entries, _, err := Checklist("checklist.txt")
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
			t.Errorf("checklist.txt:%d: RFC %d §%s {%s}: no test proves it, and no reason is given: %s", e.Line, e.RFC, e.Section, e.Word, e.Text)
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
