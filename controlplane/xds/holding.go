package xds

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"

	"meridian/fleet"
	"meridian/rules"
)

// holding is what a client has received and what it has applied of it. It
// outlives connections. One goroutine uses it.
type holding struct {
	node    string
	apply   func(*fleet.World) error
	objects map[string]resource // received, by name
	zones   *fleet.Zones        // received; applied, or about to be with the first Snapshot
	live    *fleet.Zones        // likewise
	shifts  resource            // received; applied, or about to be with the first Snapshot
	snap    resource            // applied
	world   *fleet.World        // applied; nil before the first

	// adopted says that world is from the node's disk, and no control node has
	// said yet that it is the wanted one.
	adopted bool

	// waiting is a Snapshot whose objects have not all come yet.
	waiting *discovery.DeltaDiscoveryResponse

	// held are zones that do not fit the Snapshot in use and were made for one
	// that is to come: they are applied with it. heldBy is the nonce of the
	// response that brought the last of them.
	held   map[fleet.Name]fleet.Object
	heldBy string

	// refused are errors of zones that were held, and not told of yet.
	refused []error
}

func newHolding(node string, apply func(*fleet.World) error) *holding {
	return &holding{node: node, apply: apply, objects: map[string]resource{}, held: map[fleet.Name]fleet.Object{}}
}

// adopt starts from a World that has been applied, as the node kept it on disk,
// so that a control node sends only what differs.
func (h *holding) adopt(w *fleet.World) {
	if w == nil || h.world != nil {
		return
	}
	p := prepare(w, nil)
	all := p.forNode(h.node)
	for _, r := range all[typeObject] {
		h.objects[r.name] = r
	}
	h.zones, h.live, h.shifts, h.snap, h.world, h.adopted = w.Zones, w.Live, p.shifts, all[typeSnapshot][0], w, true
}

// subscribe gives the requests that open a stream: all of each type, but for
// what is there.
func (h *holding) subscribe() []*discovery.DeltaDiscoveryRequest {
	h.waiting = nil
	clear(h.held)
	revision := uint64(0)
	if h.world != nil {
		revision = h.world.Snapshot.Revision
	}
	node := &core.Node{Id: h.node, UserAgentName: "meridian", Metadata: &structpb.Struct{Fields: map[string]*structpb.Value{
		revisionKey: structpb.NewStringValue(strconv.FormatUint(revision, 10)),
	}}}
	have := map[string]map[string]string{typeObject: {}, typeZone: {}, typeLive: {}, typeShifts: {}, typeSnapshot: {}}
	for name, r := range h.objects {
		have[typeObject][name] = r.version
	}
	for o := range h.zones.All() {
		have[typeZone][o.Key.ID] = o.Version
	}
	for o := range h.live.All() {
		have[typeLive][o.Key.ID] = o.Version
	}
	if h.world != nil {
		have[typeShifts][shiftsName] = h.shifts.version
		if !h.adopted {
			have[typeSnapshot][snapshotName] = h.snap.version
		}
	}
	var out []*discovery.DeltaDiscoveryRequest
	for _, url := range types {
		out = append(out, &discovery.DeltaDiscoveryRequest{Node: node, TypeUrl: url,
			ResourceNamesSubscribe: []string{"*"}, InitialResourceVersions: have[url]})
		node = nil // the first request's holds for the stream
	}
	return out
}

// take works off one response and gives the answers that are due.
func (h *holding) take(r *discovery.DeltaDiscoveryResponse) []*discovery.DeltaDiscoveryRequest {
	var err error
	switch r.GetTypeUrl() {
	case typeObject:
		err = h.takeObjects(r)
	case typeZone:
		err = h.takeZones(r)
	case typeLive:
		err = h.takeLive(r)
	case typeShifts:
		err = h.takeShifts(r)
	case typeSnapshot:
		h.waiting = nil
		err = h.takeSnapshot(r)
		if errors.Is(err, errIncomplete) {
			h.waiting = r
			return nil
		}
	default:
		err = fmt.Errorf("type %q was not asked for", r.GetTypeUrl())
	}
	out := []*discovery.DeltaDiscoveryRequest{answer(r, err)}
	if w := h.waiting; w != nil && r.GetTypeUrl() == typeObject {
		if err := h.takeSnapshot(w); !errors.Is(err, errIncomplete) {
			h.waiting = nil
			out = append(out, answer(w, err))
		}
	}
	if len(h.refused) > 0 {
		out = append(out, answer(&discovery.DeltaDiscoveryResponse{TypeUrl: typeZone, Nonce: h.heldBy}, errors.Join(h.refused...)))
		h.refused = nil
	}
	return out
}

func answer(r *discovery.DeltaDiscoveryResponse, err error) *discovery.DeltaDiscoveryRequest {
	a := &discovery.DeltaDiscoveryRequest{TypeUrl: r.GetTypeUrl(), ResponseNonce: r.GetNonce()}
	if err != nil {
		a.ErrorDetail = &rpcstatus.Status{Code: int32(codes.InvalidArgument), Message: err.Error()}
	}
	return a
}

func (h *holding) takeObjects(r *discovery.DeltaDiscoveryResponse) error {
	var errs []error
	for _, w := range r.GetResources() {
		res, err := unwire(typeObject, w)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		h.objects[res.name] = res
	}
	for _, name := range r.GetRemovedResources() {
		delete(h.objects, name)
	}
	return errors.Join(errs...)
}

// takeZones applies zones without waiting for a Snapshot. Of several that come
// together, those that are refused do not keep the others from being applied;
// those that were made for a Snapshot that is to come wait for it.
func (h *holding) takeZones(r *discovery.DeltaDiscoveryResponse) error {
	var errs []error
	var put []fleet.Object
	for _, w := range r.GetResources() {
		res, err := unwire(typeZone, w)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		put = append(put, fleet.Object{Key: fleet.ObjectKey{Kind: fleet.ObjectZone, ID: res.name}, Data: res.data, Version: res.version})
	}
	var gone []fleet.Name
	for _, name := range r.GetRemovedResources() {
		gone = append(gone, fleet.Name(name))
	}
	revision, _ := strconv.ParseUint(r.GetSystemVersionInfo(), 10, 64) // 0 where it is none
	early := h.world != nil && revision > h.world.Snapshot.Revision
	errs = append(errs, h.changeZones(put, gone, early)...)
	if len(h.held) > 0 {
		h.heldBy = r.GetNonce()
	}
	return errors.Join(errs...)
}

// changeZones applies zones, all at once or, where that is refused, in halves.
// early says that their Snapshot is to come.
func (h *holding) changeZones(put []fleet.Object, gone []fleet.Name, early bool) []error {
	if len(put)+len(gone) == 0 {
		return nil
	}
	for _, o := range put {
		delete(h.held, fleet.Name(o.Key.ID))
	}
	for _, n := range gone {
		delete(h.held, n)
	}
	zones := h.zones.With(put, gone)
	if h.world == nil {
		h.zones = zones
		return nil
	}
	next := *h.world
	next.Zones = zones
	err := h.apply(&next)
	switch {
	case err == nil:
		h.world, h.zones = &next, zones
		return nil
	case len(gone) > 0 && len(put) > 0:
		return append(h.changeZones(put, nil, early), h.changeZones(nil, gone, early)...)
	case len(put) > 1:
		return append(h.changeZones(put[:len(put)/2], nil, early), h.changeZones(put[len(put)/2:], nil, early)...)
	case len(put) == 1 && early:
		h.held[fleet.Name(put[0].Key.ID)] = put[0]
		return nil
	case len(put) == 1:
		err = fmt.Errorf("zone %s: %w", put[0].Key.ID, err)
	}
	return []error{err}
}

// only gives the one resource that a response of such a type holds.
func only(r *discovery.DeltaDiscoveryResponse, name string) (resource, error) {
	if len(r.GetResources()) != 1 || r.GetResources()[0].GetName() != name {
		return resource{}, fmt.Errorf("expected one %s resource %q", short(r.GetTypeUrl()), name)
	}
	return unwire(r.GetTypeUrl(), r.GetResources()[0])
}

func (h *holding) takeShifts(r *discovery.DeltaDiscoveryResponse) error {
	res, err := only(r, shiftsName)
	if err != nil {
		return err
	}
	shifts, err := parseShifts(res)
	if err != nil {
		return err
	}
	if h.world != nil {
		next := rules.WithShifts(h.world, shifts)
		if err := h.apply(next); err != nil {
			return err
		}
		h.world = next
	}
	h.shifts = res
	return nil
}

func parseShifts(r resource) ([]fleet.Shift, error) {
	var shifts []fleet.Shift
	if len(r.data) == 0 {
		return nil, nil
	}
	dec := json.NewDecoder(bytes.NewReader(r.data))
	if err := dec.Decode(&shifts); err != nil {
		return nil, fmt.Errorf("shifts: %w", err)
	}
	return shifts, nil
}

var errIncomplete = errors.New("objects are missing")

// takeSnapshot applies a Snapshot with its objects and the shifts as one
// World.
func (h *holding) takeSnapshot(r *discovery.DeltaDiscoveryResponse) error {
	res, err := only(r, snapshotName)
	if err != nil {
		return err
	}
	if h.world != nil && res.version == h.snap.version {
		if h.adopted {
			h.adopted = false
			return h.apply(h.world)
		}
		return nil // after a detour by another replica
	}
	var s snapshot
	if err := json.Unmarshal(res.data, &s); err != nil {
		return fmt.Errorf("snapshot: %w", err)
	}
	if h.world != nil && s.Revision < h.world.Snapshot.Revision {
		return fmt.Errorf("revision %d is older than %d, which is in use", s.Revision, h.world.Snapshot.Revision)
	}
	var objects []fleet.Object
	for _, o := range s.Objects {
		have, ok := h.objects[objectName(o.key())]
		if !ok || have.version != o.Version {
			return errIncomplete
		}
		objects = append(objects, fleet.Object{Key: o.key(), Data: have.data, File: o.File})
	}
	shifts, err := parseShifts(h.shifts)
	if err != nil {
		return err
	}
	snap, err := rules.Compile(s.Spec, s.Revision)
	if err != nil {
		return fmt.Errorf("revision %d: %w", s.Revision, err)
	}
	w, err := rules.NodeWorld(snap, h.node, objects, shifts)
	if err != nil {
		return fmt.Errorf("revision %d: %w", s.Revision, err)
	}
	if w, err = h.applyHeld(w); err != nil {
		return fmt.Errorf("revision %d: %w", s.Revision, err)
	}
	h.world, h.snap, h.adopted, h.zones = w, res, false, w.Zones
	if left := slices.Collect(maps.Values(h.held)); len(left) > 0 {
		h.refused = h.changeZones(left, nil, false)
	}
	return nil
}

// applyHeld applies a World with the zones that were held for it, which are
// then held no longer; or without them where that alone is taken: a zone that
// is no good keeps nothing else out.
func (h *holding) applyHeld(w *fleet.World) (*fleet.World, error) {
	w.Zones, w.Live = h.zones, h.live
	if len(h.held) == 0 {
		return w, h.apply(w)
	}
	all := *w
	all.Zones = h.zones.With(slices.Collect(maps.Values(h.held)), nil)
	err := h.apply(&all)
	if err == nil {
		clear(h.held)
		return &all, nil
	}
	if h.apply(w) != nil {
		return nil, err
	}
	return w, nil
}

// refused says whether the error means that nothing could be reached, or that
// the control node does not want this node.
func refused(err error) bool {
	switch status.Code(err) {
	case codes.Unavailable, codes.Unauthenticated, codes.PermissionDenied, codes.InvalidArgument:
		return true
	}
	return false
}
