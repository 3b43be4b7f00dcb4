package xdp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/rlimit"

	"meridian/edge/maglev"
)

// Sizes of the program's tables: twice the limits of a Spec. A test compares
// them with the maps.
const (
	maxVIPs      = 2 * maglev.MaxVIPs
	maxAddresses = 2 * maglev.MaxAddresses
	maxRings     = 2 * maglev.MaxRings
	maxEndpoints = 2 * maglev.MaxEndpoints
	maxBalancers = 2 * 2 * maglev.MaxBalancers // by family
)

// defaultFlows is how many flows a node remembers, in 16 MiB.
const defaultFlows = 1 << 20

// kernel is the loaded programs and their maps. It implements tables.
type kernel struct {
	edgeObjects
	ringSpec *ebpf.MapSpec
	reasons  []string // names of enum reason, by value
}

var _ tables = (*kernel)(nil)

// load brings programs and maps into the kernel. flows is how many flows
// to remember, rounded up to a power of two. Errors say what right or
// feature is missing.
func load(key Key, flows int) (*kernel, error) {
	if err := rlimit.RemoveMemlock(); err != nil {
		return nil, fmt.Errorf("layer 4: lift the limit on locked memory: %w", err)
	}
	spec, err := loadEdge()
	if err != nil {
		return nil, fmt.Errorf("layer 4: read the programs: %w", err)
	}
	names, err := enumNames(spec, "reason")
	if err != nil {
		return nil, fmt.Errorf("layer 4: %w", err)
	}
	buckets := uint32(1)
	for int(buckets)*4 < flows {
		buckets *= 2
	}
	spec.Maps[edgeMapFlows].MaxEntries = buckets
	words := key.words()
	if err := errors.Join(spec.Variables[edgeVarHashKey].Set(words), spec.Variables[edgeVarFlowMask].Set(buckets-1)); err != nil {
		return nil, fmt.Errorf("layer 4: set the programs' constants: %w", err)
	}
	k := &kernel{ringSpec: spec.Maps[edgeMapRings].InnerMap.Copy(), reasons: names}
	if err := spec.LoadAndAssign(&k.edgeObjects, nil); err != nil {
		return nil, fmt.Errorf("layer 4: load the programs (needs CAP_BPF and CAP_NET_ADMIN, Linux 6.1 or later): %w", err)
	}
	return k, nil
}

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

func (k *kernel) dropRing(index uint32) error { return gone(k.Rings.Delete(index)) }

func (k *kernel) clearTraffic(index uint32) error {
	return k.VipStats.Put(index, make([]edgeTraffic, ebpf.MustPossibleCPU()))
}

// gone makes a deletion of what is not there a success: it is what was wanted.
func gone(err error) error {
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return nil
	}
	return err
}

// setRings fills a new map for each ring and puts them in place in one call,
// which waits until no packet uses an old ring any more (about 8 ms).
func (k *kernel) setRings(rings map[uint32][]uint16) error {
	var indexes, fds []uint32
	var made []*ebpf.Map
	defer func() {
		for _, m := range made {
			m.Close() // the outer map holds its own reference
		}
	}()
	for index, slots := range rings {
		m, err := k.newRing(slots)
		if err != nil {
			return fmt.Errorf("ring %d: %w", index, err)
		}
		indexes, fds, made = append(indexes, index), append(fds, uint32(m.FD())), append(made, m)
	}
	if _, err := k.Rings.BatchUpdate(indexes, fds, nil); err != nil {
		return fmt.Errorf("swap %d rings: %w", len(made), err)
	}
	return nil
}

func (k *kernel) newRing(slots []uint16) (*ebpf.Map, error) {
	m, err := ebpf.NewMap(k.ringSpec)
	if err != nil {
		return nil, fmt.Errorf("create: %w", err)
	}
	mem, err := m.Memory()
	if err == nil {
		buf := make([]byte, 2*len(slots))
		for i, e := range slots {
			binary.NativeEndian.PutUint16(buf[2*i:], e)
		}
		_, err = mem.WriteAt(buf, 0)
	}
	if err != nil {
		m.Close()
		return nil, fmt.Errorf("fill: %w", err)
	}
	return m, nil
}
