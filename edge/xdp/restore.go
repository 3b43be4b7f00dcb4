package xdp

import (
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"net/netip"
	"slices"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"

	"meridian/edge/maglev"
	"meridian/fleet"
)

// who is the digest by which a member is known again in the endpoint table, by
// this version and others: what goes into it has to stay.
func (k memberKey) who() uint64 {
	h, t := fnv.New64a(), k.target
	fmt.Fprintf(h, "%d %q %q %q %q %q %s %d %t", t.Kind, t.Region, t.Service, t.Node, t.Pool, t.Endpoint, k.addr, k.how, k.gue)
	return h.Sum64()
}

// live is what tables that outlived their process hold.
type live struct {
	endpoints []edgeEndpoint // by index
	vips      map[edgeVipKey]edgeVip
	balancers []netip.Addr
	rings     map[uint32]ringTable
	big       map[uint32]ringTable
	servers   map[edgeServerKey]uint16
	networks  []netip.Prefix
}

// ring gives what stands behind a VIP.
func (l *live) ring(v edgeVip) ringTable {
	if v.Flags&uint8(edgeVipFlagVIP_BIG) != 0 {
		return l.big[v.Ring]
	}
	return l.rings[v.Ring]
}

// read gives what the tables hold; all empty where they are new.
func (k *kernel) read() (*live, error) {
	l := &live{vips: map[edgeVipKey]edgeVip{}, servers: map[edgeServerKey]uint16{}}
	indexes := make([]uint32, maxEndpoints)
	l.endpoints = make([]edgeEndpoint, maxEndpoints)
	if _, err := k.Endpoints.BatchLookup(new(ebpf.MapBatchCursor), indexes, l.endpoints, nil); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return nil, fmt.Errorf("read endpoints: %w", err)
	}
	if err := l.readMaps(k); err != nil {
		return nil, err
	}
	var err error
	if l.rings, err = readRings(k.Rings, k.Owners, maglev.Slots); err != nil {
		return nil, err
	}
	if l.big, err = readRings(k.BigRings, k.BigOwners, maglev.LargeSlots); err != nil {
		return nil, err
	}
	return l, nil
}

// readMaps reads those that have to be gone through.
func (l *live) readMaps(k *kernel) error {
	var key edgeVipKey
	var vip edgeVip
	vips := k.Vips.Iterate()
	for vips.Next(&key, &vip) {
		l.vips[key] = vip
	}
	var addr edgeAddress
	var one uint8
	balancers := k.Balancers.Iterate()
	for balancers.Next(&addr, &one) {
		l.balancers = append(l.balancers, fromAddress(addr))
	}
	var server edgeServerKey
	var endpoint uint32
	servers := k.Servers.Iterate()
	for servers.Next(&server, &endpoint) {
		l.servers[server] = uint16(endpoint)
	}
	var network edgeNetwork
	networks := k.Networks.Iterate()
	for networks.Next(&network, &addr) {
		l.networks = append(l.networks, fromNetwork(network))
	}
	for what, it := range map[string]*ebpf.MapIterator{"VIPs": vips, "balancers": balancers, "QUIC servers": servers, "networks": networks} {
		if err := it.Err(); err != nil {
			return fmt.Errorf("read %s: %w", what, err)
		}
	}
	return nil
}

func readRings(rings, all *ebpf.Map, slots int) (map[uint32]ringTable, error) {
	out := map[uint32]ringTable{}
	for index := range uint32(maxRings) {
		s, err := readInner[uint16](rings, index, slots)
		if err != nil {
			return nil, fmt.Errorf("read ring %d: %w", index, err)
		}
		if s == nil {
			continue
		}
		o, err := readInner[slotOwners](all, index, slots)
		if err != nil {
			return nil, fmt.Errorf("read the owners of ring %d: %w", index, err)
		}
		out[index] = ringTable{s, o}
	}
	return out, nil
}

// readInner gives a copy of the map at an index of an outer one; nil: none.
func readInner[T any](outer *ebpf.Map, index uint32, n int) ([]T, error) {
	var id ebpf.MapID
	if err := outer.Lookup(index, &id); err != nil {
		return nil, gone(err)
	}
	m, err := ebpf.NewMapFromID(id)
	if err != nil {
		return nil, err
	}
	defer m.Close()
	mem, err := m.Memory()
	if err != nil {
		return nil, err
	}
	out := make([]T, n)
	_, err = mem.ReadAt(unsafe.Slice((*byte)(unsafe.Pointer(&out[0])), n*int(unsafe.Sizeof(out[0]))), 0)
	return out, err
}

// restore takes up what the tables hold already, so that the next reconcile
// changes no more than what is wanted otherwise: members keep their indexes, and
// rings their former owners. It gives the gateways whose SYN cookies were relied on.
func (r *reconciler) restore(l *live, in inputs) (took []fleet.Target) {
	if len(l.vips) == 0 && len(l.balancers) == 0 && !l.hasMembers() {
		return nil
	}
	names := r.restoreMembers(l, in)
	for _, a := range l.balancers {
		r.balancers[a] = true
	}
	for _, n := range l.networks {
		r.networks[n] = true
	}
	maps.Copy(r.servers, l.servers)
	maps.Copy(r.vips, l.vips)
	used := map[uint32]bool{}
	for _, f := range in.want.frontends {
		g := &in.want.groups[f.group]
		v, ok := l.vips[f.key()]
		if ok && v.cookies() {
			for _, m := range g.members {
				if _, had := r.endpoints[m.key]; had {
					took = append(took, m.key.target)
				}
			}
		}
		if _, done := r.rings[g.id]; !ok || done || used[v.Ring] { // used: VIPs that had a ring together have two now
			continue
		}
		r.rings[g.id] = g.recalled(v.Ring, r.key, l.ring(v), names[g.id], in)
		used[v.Ring] = true
	}
	for _, rings := range []map[uint32]ringTable{l.rings, l.big} {
		for i := range rings {
			if !used[i] {
				r.rings[fmt.Sprintf("no longer wanted: %d", i)] = ringEntry{index: i, history: maglev.NewHistory(maglev.Slots, 0)}
			}
		}
	}
	return took
}

// restoreMembers takes up the endpoints, and gives the names that they have in
// each group. Those that are members no more are known as none's, so that the next
// reconcile takes their flows and frees their indexes.
func (r *reconciler) restoreMembers(l *live, in inputs) (names map[string]map[uint16]string) {
	index := map[uint64]uint16{}
	for i, e := range l.endpoints {
		if e.How != uint8(edgeForwardFORWARD_NONE) {
			index[e.Who] = uint16(i)
		}
		if e.Generation != 0 {
			r.records[uint16(i)] = e
		}
	}
	r.joined, r.drained, names = map[memberKey]bool{}, map[fleet.Target]bool{}, map[string]map[uint16]string{}
	taken := map[uint16]bool{}
	for _, g := range in.want.groups {
		names[g.id] = map[uint16]string{}
		for _, m := range g.members {
			i, ok := index[m.key.who()]
			if !ok {
				continue
			}
			r.endpoints[m.key], taken[i] = i, true
			r.joined[m.key] = r.records[i].Takes == 1 || r.records[i].Keeps == 1 // draining ones too
			if r.joined[m.key] {
				r.since[m.key] = time.Time{}
				r.drained[m.key.target] = r.records[i].Takes == 0
			}
			names[g.id][i] = m.name
		}
	}
	for i, e := range l.endpoints {
		if e.How != uint8(edgeForwardFORWARD_NONE) && !taken[uint16(i)] {
			r.endpoints[memberKey{target: fleet.Target{Endpoint: fmt.Sprintf("no longer wanted: %d", i)}}] = uint16(i)
		}
	}
	return names
}

func (l *live) hasMembers() bool {
	return slices.ContainsFunc(l.endpoints, func(e edgeEndpoint) bool { return e.How != uint8(edgeForwardFORWARD_NONE) })
}

// cookies says whether balancers answer SYNs for the VIP that gateways take.
func (v edgeVip) cookies() bool {
	return v.Gate == uint8(edgeGateModeGATE_AUTO) || v.Gate == uint8(edgeGateModeGATE_SHUT)
}

// recalled gives the ring that stands in the tables, and the history that it stands
// for: which owners slots had before it knows better than the sets of earlier gateways.
func (g *group) recalled(index uint32, key Key, t ringTable, names map[uint16]string, in inputs) ringEntry {
	e := ringEntry{index: index, history: maglev.NewHistory(g.slots(), key.ringSeed())}
	if !g.gateways || len(t.slots) != g.slots() {
		return e
	}
	at := make([]string, len(t.slots))
	for i, s := range t.slots {
		at[i] = names[s&^slotUnsafe]
	}
	e.history.Recall(at, in.now)
	for k := range maglev.Formers {
		if t.owners == nil {
			break
		}
		for i, all := range t.owners {
			at[i] = names[all[1+k]]
		}
		e.history.Recall(at, in.now)
	}
	sets := g.unknown(0, in)
	for _, set := range slices.Backward(sets) {
		owners, err := maglev.Owners(g.ringOf(set), g.slots(), key.ringSeed())
		if err != nil {
			return e // the reconcile that follows meets it too, and says so
		}
		e.history.Recall(owners, set.Until)
	}
	if n := len(sets); n > 0 {
		e.learned = sets[n-1].Revision
	}
	return e
}
