package xdp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"

	"meridian/dns/answer"
)

// kernel is a loaded program and its maps, which hold one image.
type kernel struct {
	dnsObjects
	reasons   []string // names of enum reason, by value
	block     *ebpf.MapSpec
	first     *ebpf.Map // block 0
	room      room
	entries   []uint64 // of the buckets, mapped
	moment    []uint64 // likewise: struct moment
	now       time.Time
	decisions decisions
	settings  dnsSettings
	networks  networks
}

// room is how much there is of what may come to be more.
type room struct {
	blocks   int
	variants int
	parts    int
}

// Spare room for what is made ready later. What takes the place of something
// is there beside it at first.
const (
	spareBlocks   = 64
	spareVariants = 4096
	spareParts    = 1024
)

func newRoom(c *compiler) room {
	return room{min(maxBlocks, 2*len(c.arena.blocks)+spareBlocks), len(c.variants)*5/4 + spareVariants, len(c.parts)*5/4 + spareParts}
}

// load brings a program with an image into the kernel. It counts on where the
// one before does, which may be nil. Errors say what right or feature is
// missing.
func load(im *image, now time.Time, before *kernel) (*kernel, error) {
	spec, err := loadDns()
	if err != nil {
		return nil, fmt.Errorf("dns xdp: read the program: %w", err)
	}
	names, err := enumNames(spec, "reason")
	if err != nil {
		return nil, fmt.Errorf("dns xdp: %w", err)
	}
	c := im.compiler
	clients := newClients(c.plan.Clients())
	decided := c.deciding.decide(c.plan)
	k := &kernel{reasons: names, block: spec.Maps[dnsMapBlocks].InnerMap.Copy(), room: newRoom(c), now: now, decisions: newDecisions(c.deciding, decided, len(clients.blocks))}
	spec.Maps[dnsMapBuckets].MaxEntries = uint32(len(im.directory.buckets))
	spec.Maps[dnsMapBlocks].MaxEntries = uint32(k.room.blocks)
	spec.Maps[dnsMapStale].MaxEntries = rows(k.room.parts)
	clients.size(spec)
	k.decisions.size(spec, k.room.variants)
	if err := errors.Join(spec.Variables[dnsVarHashKey].Set(im.directory.key),
		spec.Variables[dnsVarBucketMask].Set(uint32(len(im.directory.buckets)-1)),
		spec.Variables[dnsVarRootBits4].Set(clients.bits4), spec.Variables[dnsVarRootBits6].Set(clients.bits6)); err != nil {
		return nil, fmt.Errorf("dns xdp: set the program's constants: %w", err)
	}
	opts := &ebpf.CollectionOptions{}
	if before != nil {
		opts.MapReplacements = map[string]*ebpf.Map{dnsMapCounters: before.Counters, dnsMapTallies: before.Tallies,
			dnsMapDebts: before.Debts, dnsMapSamples: before.Samples}
	}
	if err := spec.LoadAndAssign(&k.dnsObjects, opts); err != nil {
		return nil, fmt.Errorf("dns xdp: load the program (needs CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON, and Linux 6.1 or later): %w", err)
	}
	if err := k.fill(im, &clients, decided); err != nil {
		k.Close()
		return nil, fmt.Errorf("dns xdp: %w", err)
	}
	im.kernel = k
	return k, nil
}

// Close takes all out of the kernel.
func (k *kernel) Close() error {
	if k.first != nil {
		k.first.Close()
	}
	err := errors.Join(unmapWords(k.entries), unmapWords(k.moment))
	k.entries, k.moment = nil, nil
	return errors.Join(err, k.dnsObjects.Close())
}

func (k *kernel) fill(im *image, clients *clients, decided *decided) error {
	if _, err := k.bring(im.compiler); err != nil { // there is room
		return err
	}
	if err := errors.Join(k.fillBuckets(im.directory), k.fillClients(clients)); err != nil {
		return err
	}
	if err := k.configure(im.compiler.plan.Fast()); err != nil {
		return err
	}
	return k.flip(decided)
}

// bring brings what has been placed since the last time; no query sees it
// before an entry leads there. It is false where there is no room.
func (k *kernel) bring(c *compiler) (ok bool, err error) {
	if len(c.arena.blocks) > k.room.blocks || len(c.variants) > k.room.variants {
		return false, nil
	}
	if err := k.setBlocks(c.arena.unsaved()); err != nil {
		return false, fmt.Errorf("answers: %w", err)
	}
	c.arena.dirty = nil
	if at := c.changed; at.to > at.from {
		if err := writeWords(k.Variants, at.from, c.variants[at.from:at.to]); err != nil {
			return false, fmt.Errorf("variants: %w", err)
		}
	}
	c.changed = extent{}
	return true, nil
}

// blockBatch is how many blocks are put in place at a time, each batch of
// which waits for all queries under way.
const blockBatch = 256

// setBlocks puts blocks in place, by number; records that are there stay what
// they are.
func (k *kernel) setBlocks(numbers []int, blocks [][]byte) error {
	for len(blocks) > 0 {
		n := min(len(blocks), blockBatch)
		if err := k.setBatch(numbers[:n], blocks[:n]); err != nil {
			return err
		}
		numbers, blocks = numbers[n:], blocks[n:]
	}
	return nil
}

func (k *kernel) setBatch(at []int, blocks [][]byte) error {
	var numbers, fds []uint32
	var made []*ebpf.Map
	defer func() {
		for _, m := range made {
			if m != k.first {
				m.Close() // the outer map holds its own reference
			}
		}
	}()
	for i, b := range blocks {
		m, err := ebpf.NewMap(k.block)
		if err != nil {
			return err
		}
		made, numbers, fds = append(made, m), append(numbers, uint32(at[i])), append(fds, uint32(m.FD()))
		if err := m.Put(uint32(0), b[:blockSize]); err != nil {
			return err
		}
	}
	if _, err := k.Blocks.BatchUpdate(numbers, fds, nil); err != nil {
		return err
	}
	if at[0] == 0 { // the lowest
		if k.first != nil {
			k.first.Close()
		}
		k.first = made[0]
	}
	return nil
}

// fillBuckets maps the buckets, and lays the directory there.
func (k *kernel) fillBuckets(d *directory) error {
	var err error
	if k.entries, err = mapWords(k.Buckets, ways*len(d.buckets)); err != nil {
		return fmt.Errorf("map the buckets: %w", err)
	}
	for i := range d.buckets {
		copy(k.entries[i*ways:], d.buckets[i][:])
	}
	return nil
}

// mapWords maps so many words of a map's memory.
func mapWords(m *ebpf.Map, n int) ([]uint64, error) {
	mem, err := unix.Mmap(m.FD(), 0, 8*n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, err
	}
	return unsafe.Slice((*uint64)(unsafe.Pointer(&mem[0])), n), nil
}

func unmapWords(words []uint64) error {
	if words == nil {
		return nil
	}
	return unix.Munmap(unsafe.Slice((*byte)(unsafe.Pointer(&words[0])), 8*len(words)))
}

// enter writes an entry of the buckets, in one piece.
func (k *kernel) enter(at int, entry uint64) { atomic.StoreUint64(&k.entries[at], entry) }

// secretDays and fixedSecrets are SECRETS and FIXED_SECRETS of the program.
const (
	secretDays   = 4
	fixedSecrets = 4
)

// maxNSID is MAX_NSID of the program, which leaves longer ones to the sockets.
const maxNSID = 40

// configure says what holds for all answers.
func (k *kernel) configure(f answer.Fast) error {
	for i, s := range f.Fixed[:min(len(f.Fixed), fixedSecrets)] { // with more, the program leaves cookies to the sockets
		if err := k.setSecret(uint32(secretDays+i), s, 0); err != nil {
			return err
		}
	}
	k.settings = dnsSettings{Ecs: flag(f.ECS), Nsid: uint32(len(f.NSID)), Cookies: flag(f.Cookies),
		Require: flag(f.Require), Fixed: uint32(len(f.Fixed)), Reserve: uint32(f.Reserve)}
	var id [maxNSID]byte
	copy(id[:], f.NSID)
	for i := range k.settings.Identifier {
		k.settings.Identifier[i] = binary.NativeEndian.Uint64(id[8*i:])
	}
	return k.Self.Put(uint32(0), &k.settings)
}

func (k *kernel) setSecret(slot uint32, s [16]byte, day int64) error {
	key := [2]uint64{binary.LittleEndian.Uint64(s[:]), binary.LittleEndian.Uint64(s[8:])}
	if err := k.Secrets.Put(slot, &dnsSecret{Key: key, Day: uint64(day)}); err != nil {
		return fmt.Errorf("dns xdp: cookie secret: %w", err)
	}
	return nil
}

// setDays brings the secrets of yesterday, today and tomorrow.
func (k *kernel) setDays(f answer.Fast, now time.Time) error {
	if f.Secret == nil {
		return nil
	}
	today := int64(uint32(now.Unix()) / 86400)
	for day := today - 1; day <= today+1; day++ {
		if err := k.setSecret(uint32(day%secretDays), f.Secret(day), day); err != nil {
			return err
		}
	}
	return nil
}

// tick says what time it is, and which half is in force, in one write, behind
// all that was written before.
func (k *kernel) tick(now time.Time) error {
	if k.moment == nil {
		var err error
		if k.moment, err = mapWords(k.Moments, 1); err != nil {
			return fmt.Errorf("dns xdp: map the time: %w", err)
		}
	}
	k.now = now
	atomic.StoreUint64(&k.moment[0], uint64(uint32(now.Unix()))|uint64(k.decisions.live)<<32)
	return nil
}

func flag(b bool) uint32 {
	if b {
		return 1
	}
	return 0
}

// listenSlots and listenProbes are LISTEN_SLOTS and LISTEN_PROBES of the
// program.
const (
	listenSlots  = 1024
	listenProbes = 8
)

// listen says where queries are answered.
func (k *kernel) listen(at []netip.AddrPort) error {
	table := make([]dnsListen, listenSlots)
	for _, a := range at {
		if !addListen(table, a) {
			return fmt.Errorf("dns xdp: too many addresses to listen at: %d", len(at))
		}
	}
	keys := make([]uint32, listenSlots)
	for i := range keys {
		keys[i] = uint32(i)
	}
	if _, err := k.Listens.BatchUpdate(keys, table, nil); err != nil {
		return fmt.Errorf("dns xdp: addresses to listen at: %w", err)
	}
	return nil
}

// addListen puts an address where listening() of the program looks for it.
func addListen(table []dnsListen, a netip.AddrPort) bool {
	e := dnsListen{Used: 1, Port: a.Port()>>8 | a.Port()<<8}
	e.Addr.Octet = a.Addr().As16()
	half := [2]uint64{binary.LittleEndian.Uint64(e.Addr.Octet[:]), binary.LittleEndian.Uint64(e.Addr.Octet[8:])}
	slot := (half[0] ^ (half[1]+uint64(e.Port))*0x9e3779b97f4a7c15) * 0xff51afd7ed558ccd >> 54
	for range listenProbes {
		if table[slot].Used == 0 || table[slot] == e {
			table[slot] = e
			return true
		}
		slot = (slot + 1) % listenSlots
	}
	return false
}

// enumNames gives the names of a C enum whose values count from 0, without the
// last, which is their number.
func enumNames(spec *ebpf.CollectionSpec, name string) ([]string, error) {
	var e *btf.Enum
	if err := spec.Types.TypeByName(name, &e); err != nil {
		return nil, fmt.Errorf("enum %s in the program's BTF: %w", name, err)
	}
	out := make([]string, len(e.Values)-1)
	for i := range out {
		out[i] = strings.ToLower(e.Values[i].Name)
	}
	return out, nil
}
