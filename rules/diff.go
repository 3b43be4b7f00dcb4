package rules

import (
	"bytes"
	"encoding/json"
	"fmt"
	"sort"
	"strings"

	"meridian/fleet"
)

// Difference is one thing that changes from one World to the next.
type Difference struct {
	Path string `json:"path"`          // as services[web].healthcheck.interval, or the object
	Old  string `json:"old,omitempty"` // empty: it is added
	New  string `json:"new,omitempty"` // empty: it goes away
}

// String gives the difference as a line for people.
func (d Difference) String() string {
	switch {
	case d.Old == "":
		return fmt.Sprintf("+ %s: %s", d.Path, d.New)
	case d.New == "":
		return fmt.Sprintf("- %s: %s", d.Path, d.Old)
	}
	return fmt.Sprintf("~ %s: %s -> %s", d.Path, d.Old, d.New)
}

// Diff lists what changes from old (nil: nothing yet) to next: fields of the
// complete Spec, then objects, whose content is never shown. Entries of lists
// are matched by their id, so that one more at the front is one difference.
func Diff(old, next *fleet.World) []Difference {
	var was any
	if old != nil {
		was = tree(old)
	}
	var out []Difference
	compare("", was, tree(next), &out)
	return append(out, diffObjects(old, next)...)
}

func tree(w *fleet.World) any {
	var v any
	dec := json.NewDecoder(bytes.NewReader(w.Snapshot.Canonical()))
	dec.UseNumber()
	if err := dec.Decode(&v); err != nil {
		panic("rules: canonical JSON parses: " + err.Error())
	}
	return v
}

func compare(path string, a, b any, out *[]Difference) {
	am, aok := keyed(a)
	bm, bok := keyed(b)
	if !aok && !bok || a != nil && b != nil && aok != bok {
		if x, y := show(a), show(b); x != y {
			*out = append(*out, Difference{path, x, y})
		}
		return
	}
	if path != "" && (a == nil || b == nil) {
		*out = append(*out, Difference{path, show(a), show(b)})
		return
	}
	for _, k := range union(am, bm) {
		next := path + k
		if path == "" {
			next = strings.TrimPrefix(k, ".")
		}
		compare(next, am[k], bm[k], out)
	}
}

// idKeys are the fields that tell the entries of a list apart.
var idKeys = [...]string{"id", "name", "service", "zone", "address"}

// keyed gives the parts of an object, or of a list whose entries have ids, by
// the next piece of their path.
func keyed(v any) (map[string]any, bool) {
	switch v := v.(type) {
	case map[string]any:
		m := make(map[string]any, len(v))
		for k, e := range v {
			m["."+k] = e
		}
		return m, true
	case []any:
		m := make(map[string]any, len(v))
		for _, e := range v {
			obj, ok := e.(map[string]any)
			if !ok {
				return nil, false
			}
			key := ""
			for _, k := range idKeys {
				if s, ok := obj[k].(string); ok {
					key = "[" + s + "]"
					break
				}
			}
			if _, twice := m[key]; key == "" || twice {
				return nil, false
			}
			m[key] = e
		}
		return m, true
	}
	return nil, false
}

func union(a, b map[string]any) []string {
	var keys []string
	for k := range a {
		keys = append(keys, k)
	}
	for k := range b {
		if _, ok := a[k]; !ok {
			keys = append(keys, k)
		}
	}
	sort.Strings(keys)
	return keys
}

// maxShown bounds what one side of a difference shows, in octets.
const maxShown = 160

func show(v any) string {
	if v == nil {
		return ""
	}
	b, err := json.Marshal(v)
	if err != nil {
		return "?"
	}
	if len(b) > maxShown {
		return string(b[:maxShown]) + "…"
	}
	return string(b)
}

func diffObjects(old, next *fleet.World) []Difference {
	var out []Difference
	size := func(o fleet.Object) string { return fmt.Sprintf("%d octets", len(o.Data)) }
	had := map[fleet.ObjectKey]fleet.Object{}
	if old != nil {
		had = old.Objects
		for _, k := range old.Snapshot.Wanted() {
			if _, stays := next.Objects[k]; !stays {
				out = append(out, Difference{Path: string(k.Kind) + " " + shortID(k), Old: size(had[k])})
			}
		}
	}
	for _, k := range next.Snapshot.Wanted() {
		d := Difference{Path: string(k.Kind) + " " + shortID(k), New: size(next.Objects[k])}
		if o, ok := had[k]; ok {
			if bytes.Equal(o.Data, next.Objects[k].Data) {
				continue
			}
			if d.Old = size(o); d.Old == d.New {
				d.New += ", other content"
			}
		}
		out = append(out, d)
	}
	return out
}
