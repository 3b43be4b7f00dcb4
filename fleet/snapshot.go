package fleet

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"unicode/utf8"
)

// Snapshot is a Spec that is complete, checked and indexed. It is immutable:
// nobody writes to it or to the Spec that it holds.
type Snapshot struct {
	Spec     *Spec  // with all defaults filled in
	Revision uint64 // of the store; 0 where it came from a file
	Hash     string // SHA-256 of the canonical Spec, in hex

	regions  map[string]*Region
	services map[string]*Service
	nodes    map[string]*Node
	byRole   map[roleKey][]*Node
}

type roleKey struct {
	region string
	role   Role
}

// Check is a room's own rules: it notes in errs each field of a complete Spec
// that the room could not work with.
type Check func(spec *Spec, errs *Errors)

// Compile parses a document, fills in defaults, applies fleet's own rules and
// those of checks, and gives the Snapshot. All errors of one stage are
// reported at once, with path and line; see FieldErrors.
func Compile(doc []byte, revision uint64, checks ...Check) (*Snapshot, error) {
	spec, lines, err := parse(doc)
	if err != nil {
		return nil, err
	}
	spec.fillDefaults()
	var errs Errors
	for i := range spec.Regions {
		at := fmt.Sprintf("regions[%d].location", i)
		if lines[at+".latitude"] == 0 || lines[at+".longitude"] == 0 {
			errs.Addf(at, "expected latitude and longitude")
		}
	}
	spec.check(&errs)
	if errs.Len() == 0 {
		for _, c := range checks {
			c(spec, &errs)
		}
	}
	errs.locate(lines)
	if err := errs.Err(); err != nil {
		return nil, err
	}
	return newSnapshot(spec, revision), nil
}

func newSnapshot(spec *Spec, revision uint64) *Snapshot {
	s := &Snapshot{
		Spec: spec, Revision: revision,
		regions: map[string]*Region{}, services: map[string]*Service{}, nodes: map[string]*Node{},
		byRole: map[roleKey][]*Node{},
	}
	for i := range spec.Regions {
		s.regions[spec.Regions[i].ID] = &spec.Regions[i]
	}
	for i := range spec.Services {
		s.services[spec.Services[i].Service] = &spec.Services[i]
	}
	for i := range spec.Nodes {
		n := &spec.Nodes[i]
		s.nodes[n.Name] = n
		for _, r := range n.Roles {
			k := roleKey{n.Region, r}
			s.byRole[k] = append(s.byRole[k], n)
		}
	}
	sum := sha256.Sum256(s.Canonical())
	s.Hash = hex.EncodeToString(sum[:])
	return s
}

// Canonical gives the complete Spec as JSON with a fixed order of keys. It
// parses to an equal Snapshot, so that it serves on the wire and on disk.
func (s *Snapshot) Canonical() []byte {
	b, err := json.Marshal(s.Spec)
	if err != nil {
		panic("fleet: a Spec holds only types that marshal: " + err.Error())
	}
	return YAMLSafe(b)
}

// YAMLSafe escapes in a JSON text the characters that JSON lets stand and YAML
// does not, or takes for the end of a line (YAML 1.2 section 5), so that it
// parses as YAML to the same.
func YAMLSafe(text []byte) []byte {
	banned := func(r rune) bool {
		return r >= 0x7f && r <= 0x9f || r == 0xfeff || r == 0xfffe || r == 0xffff
	}
	if !bytes.ContainsFunc(text, banned) {
		return text
	}
	var out []byte
	for _, r := range string(text) {
		if banned(r) {
			out = fmt.Appendf(out, "\\u%04x", r)
		} else {
			out = utf8.AppendRune(out, r)
		}
	}
	return out
}

// Region gives the region of that id, or nil.
func (s *Snapshot) Region(id string) *Region { return s.regions[id] }

// Service gives the service of that name, or nil.
func (s *Snapshot) Service(name string) *Service { return s.services[name] }

// Node gives the node of that name, or nil.
func (s *Snapshot) Node(name string) *Node { return s.nodes[name] }

// NodesWith lists the nodes of the region that have the role and are not
// disabled, in the Spec's order.
func (s *Snapshot) NodesWith(region string, r Role) []*Node {
	var out []*Node
	for _, n := range s.byRole[roleKey{region, r}] {
		if n.State != Disabled {
			out = append(out, n)
		}
	}
	return out
}
