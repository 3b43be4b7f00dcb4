package garden

import "testing"

// Names tell requests apart, and there are as many as were promised.
func TestEveryRequestIsAnother(t *testing.T) {
	names, octets := map[string]bool{}, map[Octets]string{}
	families := map[string]int{}
	for _, r := range All() {
		if names[r.Name] {
			t.Errorf("%s is there twice", r.Name)
		}
		if other, ok := octets[r.Octets]; ok {
			t.Errorf("%s has the same octets as %s", r.Name, other)
		}
		names[r.Name], octets[r.Octets] = true, r.Name
		if r.Want == Refuse && len(r.Seen) > 0 || r.Want == Pass && len(r.Seen) == 0 {
			t.Errorf("%s: what is wanted and what may be seen do not fit", r.Name)
		}
		for i := range r.Name {
			if r.Name[i] == '/' {
				families[r.Name[:i]]++
				break
			}
		}
	}
	if len(names) < 500 {
		t.Errorf("%d requests, expected 500 at least", len(names))
	}
	t.Logf("%d requests: %v", len(names), families)
}

func TestEveryStreamIsAnother(t *testing.T) {
	names := map[string]bool{}
	for _, s := range HTTP3Streams() {
		if names[s.Name] {
			t.Errorf("%s is there twice", s.Name)
		}
		names[s.Name] = true
	}
	t.Logf("%d streams, %d of them over HTTP/3 alone", len(names), len(names)-len(Streams()))
}
