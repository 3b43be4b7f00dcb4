package xds

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"meridian/fleet"
	"meridian/rules"
)

// The resource types; each holds a google.protobuf.BytesValue.
const (
	typeObject   = "type.googleapis.com/meridian.v1.Object"
	typeZone     = "type.googleapis.com/meridian.v1.Zone"
	typeLive     = "type.googleapis.com/meridian.v1.Live"
	typeShifts   = "type.googleapis.com/meridian.v1.Shifts"
	typeSnapshot = "type.googleapis.com/meridian.v1.Snapshot"

	shiftsName   = "shifts"
	snapshotName = "snapshot"

	// revisionKey is the field of the node's metadata that says which
	// revision it works with.
	revisionKey = "revision"

	maxMessage = 80 << 20 // octets; the largest object is smaller
	batchSize  = 1 << 20  // octets of objects in one response, unless one alone is larger
)

// types in the order in which they are sent.
var types = [...]string{typeObject, typeZone, typeLive, typeShifts, typeSnapshot}

// resource is one named, versioned piece of data; version is the SHA-256 of
// data in hex, of a zone or live object rules.ContentVersion.
type resource struct {
	name    string
	version string
	data    []byte
}

func newResource(name string, data []byte) resource {
	sum := sha256.Sum256(data)
	return resource{name, hex.EncodeToString(sum[:]), data}
}

func (r resource) wire(typeURL string) (*discovery.Resource, error) {
	b, err := proto.Marshal(wrapperspb.Bytes(r.data))
	if err != nil {
		return nil, fmt.Errorf("resource %s: %w", r.name, err)
	}
	return &discovery.Resource{Name: r.name, Version: r.version, Resource: &anypb.Any{TypeUrl: typeURL, Value: b}}, nil
}

// unwire reads a resource and verifies that its content is what its version
// says.
func unwire(typeURL string, w *discovery.Resource) (resource, error) {
	var v wrapperspb.BytesValue
	if w.GetResource().GetTypeUrl() != typeURL {
		return resource{}, fmt.Errorf("resource %s is of type %q, expected %q", w.GetName(), w.GetResource().GetTypeUrl(), typeURL)
	}
	if err := proto.Unmarshal(w.GetResource().GetValue(), &v); err != nil {
		return resource{}, fmt.Errorf("resource %s: %w", w.GetName(), err)
	}
	r := newResource(w.GetName(), v.GetValue())
	if typeURL == typeZone || typeURL == typeLive {
		r.version = rules.ContentVersion(r.data)
	}
	if r.version != w.GetVersion() {
		return resource{}, fmt.Errorf("resource %s: content does not match version %q", r.name, w.GetVersion())
	}
	return r, nil
}

// snapshot is the content of the Snapshot resource.
type snapshot struct {
	Revision uint64          `json:"revision"`
	Spec     json.RawMessage `json:"spec"`
	Objects  []objectRef     `json:"objects"`
}

type objectRef struct {
	Kind    fleet.ObjectKind `json:"kind"`
	ID      string           `json:"id"`
	File    string           `json:"file,omitempty"`
	Version string           `json:"version"`
}

func objectName(k fleet.ObjectKey) string { return string(k.Kind) + "/" + k.ID }

func (o objectRef) key() fleet.ObjectKey { return fleet.ObjectKey{Kind: o.Kind, ID: o.ID} }

// published is a World, prepared to be served. It is immutable.
type published struct {
	world   *fleet.World
	spec    []byte
	objects map[fleet.ObjectKey]resource
	shifts  resource
}

// prepare takes over from what was published before (nil: nothing) what has
// not changed.
func prepare(w *fleet.World, old *published) *published {
	if old != nil && old.world.Snapshot == w.Snapshot {
		p := *old
		if p.world = w; !slices.EqualFunc(old.world.Shifts, w.Shifts, sameShift) {
			p.shifts = shiftsResource(w.Shifts)
		}
		return &p
	}
	p := &published{world: w, spec: w.Snapshot.Canonical(), objects: map[fleet.ObjectKey]resource{}, shifts: shiftsResource(w.Shifts)}
	inline := rules.Inline(w.Snapshot)
	for k, o := range w.Objects {
		if _, ok := inline[k]; !ok { // those are in the Spec
			p.objects[k] = newResource(objectName(k), o.Data)
		}
	}
	return p
}

func shiftsResource(shifts []fleet.Shift) resource {
	if shifts == nil {
		shifts = []fleet.Shift{}
	}
	return newResource(shiftsName, mustJSON(shifts))
}

func sameShift(a, b fleet.Shift) bool { return bytes.Equal(mustJSON(a), mustJSON(b)) }

// zonesFor gives the zones that a node is sent: all, if it is a nameserver.
func (p *published) zonesFor(node string) *fleet.Zones {
	if n := p.world.Snapshot.Node(node); n == nil || !n.Has(fleet.RoleDNS) {
		return nil
	}
	return p.world.Zones
}

// liveFor gives the live objects that a node is sent.
func (p *published) liveFor(node string) *fleet.Zones {
	n := p.world.Snapshot.Node(node)
	if n == nil {
		return nil
	}
	return rules.LiveFor(n, p.world.Live)
}

// forNode gives what a node is sent besides zones and live objects. One that the Spec does not name gets the
// Snapshot alone, so that it knows that it is to serve no more.
func (p *published) forNode(node string) map[string][]resource {
	s := snapshot{Revision: p.world.Snapshot.Revision, Spec: p.spec, Objects: []objectRef{}}
	var objects []resource
	for _, k := range rules.WantedBy(p.world.Snapshot, node) {
		if r, ok := p.objects[k]; ok {
			objects = append(objects, r)
			s.Objects = append(s.Objects, objectRef{k.Kind, k.ID, p.world.Objects[k].File, r.version})
		}
	}
	return map[string][]resource{
		typeObject:   objects,
		typeShifts:   {p.shifts},
		typeSnapshot: {newResource(snapshotName, mustJSON(s))},
	}
}

func mustJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic("xds: these types marshal: " + err.Error())
	}
	return b
}

// short gives the last part of a type URL, for messages.
func short(typeURL string) string { return typeURL[strings.LastIndexByte(typeURL, '.')+1:] }
