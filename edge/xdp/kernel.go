package xdp

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/rlimit"

	"meridian/edge/maglev"
	"meridian/edge/quiclb"
)

// Sizes of the program's tables: twice the limits of a Spec, but for rings. A test
// compares them with the maps.
const (
	maxVIPs      = 2 * maglev.MaxVIPs
	maxAddresses = 2 * maglev.MaxAddresses
	maxRings     = maglev.MaxRings
	maxEndpoints = 2 * maglev.MaxEndpoints
	maxBalancers = 2 * maglev.MaxNodes
)

// guePort is the UDP port of tunnels by GUE (IANA), as GUE_PORT there.
const guePort = 6080

// slotUnsafe marks a slot of a ring, as SLOT_UNSAFE does in bpf/consts.h.
const slotUnsafe = 0x8000

// defaultFlows is how many flows a node remembers, in 53 MiB.
const defaultFlows = 1 << 20

// kernel is the loaded programs and their maps. It implements tables.
type kernel struct {
	edgeObjects
	specs   map[string]*ebpf.MapSpec // of a ring, by the map that holds them
	reasons []string                 // names of enum reason, by value
	layout  string                   // of the kept tables
	fresh   bool                     // none of it were kept before
}

var _ tables = (*kernel)(nil)

// load brings programs and maps into the kernel, or takes up the maps that
// outlived an earlier process. flows is how many flows to remember, quic how
// connection ids are read. Errors say
// what right or feature is missing.
func load(key Key, flows int, p pins, quic ...quiclb.Config) (*kernel, error) {
	if err := rlimit.RemoveMemlock(); err != nil {
		return nil, fmt.Errorf("layer 4: lift the limit on locked memory: %w", unable(err))
	}
	spec, err := loadEdge()
	if err != nil {
		return nil, fmt.Errorf("layer 4: read the programs: %w", err)
	}
	names, err := enumNames(spec, "reason")
	if err != nil {
		return nil, fmt.Errorf("layer 4: %w", err)
	}
	buckets := buckets(flows)
	spec.Maps[edgeMapFlows].MaxEntries = buckets
	words := key.words()
	if err := errors.Join(spec.Variables[edgeVarHashKey].Set(words), spec.Variables[edgeVarFlowBuckets].Set(buckets)); err != nil {
		return nil, fmt.Errorf("layer 4: set the programs' constants: %w", err)
	}
	if err := setQUIC(spec, quic); err != nil {
		return nil, err
	}
	k := &kernel{specs: map[string]*ebpf.MapSpec{}, reasons: names}
	for _, name := range []string{edgeMapRings, edgeMapBigRings, edgeMapOwners, edgeMapBigOwners, edgeMapLists, edgeMapRuleSets} {
		k.specs[name] = spec.Maps[name].InnerMap.Copy()
	}
	opts, fresh, err := p.prepare(spec)
	if err != nil {
		return nil, err
	}
	k.layout, k.fresh = layout(spec), fresh
	err = spec.LoadAndAssign(&k.edgeObjects, opts)
	if errors.Is(err, ebpf.ErrMapIncompatible) && p != "" && p.forgetFlows(spec) == nil {
		err = spec.LoadAndAssign(&k.edgeObjects, opts) // a flow table of another size
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("layer 4: load the programs (which takes Linux 6.1; this is %s): %w", release(), unable(err)), p.abandon(k))
	}
	return k, nil
}

// buckets gives how many buckets of four hold so many flows and drop none: with
// three tenths of the places taken, a flow finds all of its eight buckets full
// once in 10^9. That is 53 octets a flow.
func buckets(flows int) uint32 { return uint32(max(1, (flows*10+11)/12)) }

// enumNames gives the names of a C enum whose values count from 0, without the
// last, which is their number.
func enumNames(spec *ebpf.CollectionSpec, name string) ([]string, error) {
	var e *btf.Enum
	if err := spec.Types.TypeByName(name, &e); err != nil {
		return nil, fmt.Errorf("enum %s in the programs' BTF: %w", name, err)
	}
	out := make([]string, len(e.Values)-1)
	for i := range out {
		out[i] = strings.ToLower(e.Values[i].Name)
	}
	return out, nil
}

func (k *kernel) setNode(n edgeNode) error { return k.Self.Put(uint32(0), &n) }

func (k *kernel) setBalancer(a netip.Addr) error {
	addr := toAddress(a)
	return k.Balancers.Put(&addr, uint8(1))
}

func (k *kernel) dropBalancer(a netip.Addr) error {
	addr := toAddress(a)
	return gone(k.Balancers.Delete(&addr))
}

func (k *kernel) setEndpoint(index uint16, e edgeEndpoint) error {
	return k.Endpoints.Put(uint32(index), &e)
}

func (k *kernel) setVIP(key edgeVipKey, v edgeVip) error { return k.Vips.Put(&key, &v) }

func (k *kernel) dropVIP(key edgeVipKey) error { return gone(k.Vips.Delete(&key)) }

func (k *kernel) setServer(key edgeServerKey, endpoint uint16) error {
	return k.Servers.Put(&key, uint32(endpoint))
}

func (k *kernel) dropServer(key edgeServerKey) error { return gone(k.Servers.Delete(&key)) }

func (k *kernel) setNetwork(p netip.Prefix) error {
	key, first := toNetwork(p), toAddress(p.Addr())
	return k.Networks.Put(&key, &first)
}

func (k *kernel) dropNetwork(p netip.Prefix) error {
	key := toNetwork(p)
	return gone(k.Networks.Delete(&key))
}

func (k *kernel) dropRing(index uint32) error {
	return errors.Join(gone(k.Rings.Delete(index)), gone(k.BigRings.Delete(index)),
		gone(k.Owners.Delete(index)), gone(k.BigOwners.Delete(index)))
}

func (k *kernel) clearTraffic(index uint32) error {
	return errors.Join(k.VipStats.Put(index, make([]edgeTraffic, cpus())), k.Gates.Put(index, &edgeGate{}))
}

// cpus is how many values an entry of a per-CPU map has.
func cpus() int { return ebpf.MustPossibleCPU() }

// gone makes a deletion of what is not there a success: it is what was wanted.
func gone(err error) error {
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return nil
	}
	return err
}

// ringTable is what one ring is written of: slots, and all owners by slot.
type ringTable struct {
	slots  []uint16
	owners []slotOwners // nil: the slots say it all
}

// slotOwners are those of one slot: the one it has now, and the former ones, the
// newest first; 0: no more.
type slotOwners [1 + maglev.Formers]uint16

func (t ringTable) big() bool { return len(t.slots) > maglev.Slots }

// setRings fills new maps for each ring and puts them in place in one call for
// each kind, which waits until no packet uses an old one any more (about 8 ms).
// The owners go first: a slot that is unsafe has them.
func (k *kernel) setRings(rings map[uint32]ringTable) error {
	for _, kind := range []struct {
		name string
		into *ebpf.Map
		of   func(ringTable) ([]byte, bool)
	}{
		{edgeMapOwners, k.Owners, func(t ringTable) ([]byte, bool) { return octetsOf(t.owners), t.owners != nil && !t.big() }},
		{edgeMapBigOwners, k.BigOwners, func(t ringTable) ([]byte, bool) { return octetsOf(t.owners), t.owners != nil && t.big() }},
		{edgeMapRings, k.Rings, func(t ringTable) ([]byte, bool) { return octetsOf(t.slots), !t.big() }},
		{edgeMapBigRings, k.BigRings, func(t ringTable) ([]byte, bool) { return octetsOf(t.slots), t.big() }},
	} {
		content := map[uint32][]byte{}
		for index, t := range rings {
			if b, ok := kind.of(t); ok {
				content[index] = b
			}
		}
		if err := k.swap(kind.into, k.specs[kind.name], content); err != nil {
			return fmt.Errorf("%s: %w", kind.name, err)
		}
	}
	for index, t := range rings {
		if t.owners == nil {
			if err := errors.Join(gone(k.Owners.Delete(index)), gone(k.BigOwners.Delete(index))); err != nil {
				return fmt.Errorf("the owners of ring %d: %w", index, err)
			}
		}
	}
	return nil
}

// octetsOf gives the memory of a slice of integers.
func octetsOf[T any](s []T) []byte {
	if len(s) == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(&s[0])), len(s)*int(unsafe.Sizeof(s[0])))
}

// swap puts maps with these contents in place, all at once.
func (k *kernel) swap(into *ebpf.Map, spec *ebpf.MapSpec, content map[uint32][]byte) error {
	var indexes, fds []uint32
	var made []*ebpf.Map
	defer func() {
		for _, m := range made {
			m.Close() // the outer map holds its own reference
		}
	}()
	for index, octets := range content {
		m, err := filled(spec, octets)
		if err != nil {
			return fmt.Errorf("ring %d: %w", index, err)
		}
		indexes, fds, made = append(indexes, index), append(fds, uint32(m.FD())), append(made, m)
	}
	if len(made) == 0 {
		return nil
	}
	if _, err := into.BatchUpdate(indexes, fds, nil); err != nil {
		return fmt.Errorf("swap %d rings: %w", len(made), err)
	}
	return nil
}

// filled makes a map of one element with these octets.
func filled(spec *ebpf.MapSpec, octets []byte) (*ebpf.Map, error) {
	m, err := ebpf.NewMap(spec)
	if err != nil {
		return nil, fmt.Errorf("create: %w", err)
	}
	mem, err := m.Memory()
	if err == nil {
		_, err = mem.WriteAt(octets, 0)
	}
	if err != nil {
		m.Close()
		return nil, fmt.Errorf("fill: %w", err)
	}
	return m, nil
}
