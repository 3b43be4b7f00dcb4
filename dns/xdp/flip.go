package xdp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/cilium/ebpf"

	"meridian/dns/answer"
	"meridian/steer"
)

// Spare room for what health makes of decisions, in tables of 32 KiB, and in
// octets of scopes.
const (
	spareTables = 16
	spareScopes = 32 << 20
)

// half is what one half of the states stands on in maps that both share.
type half struct {
	tables map[string]int // by content: number
	scopes map[*uint8]int // by identity: number
}

// decisions is where the kernel stands with what is decided.
type decisions struct {
	halves     [2]half
	live       int
	classes    int
	states     int
	blocks     int // of the clients' table: a decision has as many scopes
	roomTables int
	roomScopes int // decisions
}

// newDecisions plans the room for what is decided, now and later.
func newDecisions(d *decider, first *decided, blocks int) decisions {
	distinct := map[*uint8]bool{}
	for i := range first.list {
		if s := first.list[i].scopes; len(s) > 0 {
			distinct[scopesKey(s)] = true
		}
	}
	spare := spareScopes / max(row, blocks)
	return decisions{classes: d.classes, states: len(d.by), blocks: blocks,
		roomTables: 2*len(first.tables) + spareTables, roomScopes: len(distinct) + min(spare, len(distinct)+16)}
}

func (d *decisions) size(spec *ebpf.CollectionSpec, variants int) {
	spec.Maps[dnsMapEntries].MaxEntries = rows(2 * 2 * d.states * d.classes)
	spec.Maps[dnsMapSlots].MaxEntries = rows(d.roomTables * 2 * steer.Slots)
	spec.Maps[dnsMapScopes].MaxEntries = max(1, rows(d.blocks)*uint32(d.roomScopes))
	spec.Maps[dnsMapVariants].MaxEntries = rows(4 * variants)
}

// flip puts what is decided in force: it is written beside what is in force,
// and then one number says that it is. It returns when no query is under way
// any more that began before.
func (k *kernel) flip(out *decided) error {
	d := &k.decisions
	next, had := 1-d.live, &d.halves[d.live]
	h := half{map[string]int{}, map[*uint8]int{}}
	tables, err := k.placeTables(&h, had, out)
	if err != nil {
		return fmt.Errorf("dns xdp: shares of clients: %w", err)
	}
	var states []byte
	var entries []byte
	for i := range out.list {
		one := &out.list[i]
		scopes, err := k.placeScopes(&h, had, one)
		if err != nil {
			return fmt.Errorf("dns xdp: scopes: %w", err)
		}
		states = binary.NativeEndian.AppendUint32(states, uint32((next*d.states+i)*d.classes))
		states = binary.NativeEndian.AppendUint32(states, scopes)
		for _, e := range one.entries {
			if e&entrySliced != 0 && e != entryPass {
				e = tables[e&^entrySliced]
			}
			entries = binary.NativeEndian.AppendUint16(entries, e)
		}
	}
	if err := errors.Join(write(k.Entries, 2*next*d.states*d.classes, entries), write(k.States, 8*next*maxStates, states)); err != nil {
		return fmt.Errorf("dns xdp: decisions: %w", err)
	}
	d.halves[next] = h
	d.live = next
	if err := k.tick(k.now); err != nil {
		return err
	}
	return k.grace()
}

// placeTables writes the tables that the half in force has not, and gives the
// entry for each.
func (k *kernel) placeTables(h, had *half, out *decided) ([]uint16, error) {
	entries := make([]uint16, len(out.tables))
	next := 0
	for i, t := range out.tables {
		n, ok := had.tables[t]
		if !ok {
			if n, ok = free(&next, k.decisions.roomTables, had.tables); !ok {
				entries[i] = entryPass
				continue
			}
			if err := write(k.Slots, n*2*steer.Slots, []byte(t)); err != nil {
				return nil, err
			}
		}
		h.tables[t] = n
		entries[i] = entrySliced | uint16(n)
	}
	return entries, nil
}

// placeScopes writes scopes that the half in force has not, and gives their
// first row.
func (k *kernel) placeScopes(h, had *half, one *decidedOne) (uint32, error) {
	switch {
	case one.uniform:
		return scopesNone, nil
	case one.scopes == nil:
		return scopesBlocks, nil
	}
	key, each := scopesKey(one.scopes), rows(k.decisions.blocks)
	if n, ok := h.scopes[key]; ok {
		return uint32(n) * each, nil
	}
	n, ok := had.scopes[key]
	if !ok {
		taken := map[int]bool{}
		for _, list := range []map[*uint8]int{had.scopes, h.scopes} {
			for _, n := range list {
				taken[n] = true
			}
		}
		for taken[n] {
			n++
		}
		if n >= k.decisions.roomScopes {
			return scopesPass, nil
		}
		if err := write(k.Scopes, n*int(each)*row, one.scopes); err != nil {
			return 0, err
		}
	}
	h.scopes[key] = n
	return uint32(n) * each, nil
}

// free gives the next number from next on that is not taken.
func free(next *int, room int, taken map[string]int) (int, bool) {
	used := map[int]bool{}
	for _, n := range taken {
		used[n] = true
	}
	for ; *next < room; *next++ {
		if !used[*next] {
			*next++
			return *next - 1, true
		}
	}
	return 0, false
}

// pass leaves all that is steered to the sockets.
func (k *kernel) pass(d *decider) error {
	out := &decided{list: make([]decidedOne, len(d.by))}
	none := slices.Repeat([]uint16{entryPass}, d.classes)
	for i := range out.list {
		out.list[i] = decidedOne{entries: none, uniform: true}
	}
	return k.flip(out)
}

// grace waits until no query is under way any more that began before: the
// kernel does that where a map in a map is put in place. Blocks that were given
// back are emptied by the way.
func (k *kernel) grace(empty ...int) error {
	numbers, fds := []uint32{0}, []uint32{uint32(k.first.FD())}
	for _, n := range empty {
		numbers, fds = append(numbers, uint32(n)), append(fds, fds[0])
	}
	if _, err := k.Blocks.BatchUpdate(numbers, fds, nil); err != nil {
		return fmt.Errorf("dns xdp: wait for queries under way: %w", err)
	}
	return nil
}

// steer brings the program in line with what a plan decides that differs from
// the image's in that alone. It is false where there is no room left for what
// has become of it: then another image is needed.
func (k *kernel) steer(im *image, p *answer.Plan) (ok bool, err error) {
	c := im.compiler
	c.plan = p
	out := c.deciding.decide(p)
	if !c.grow() {
		return false, nil
	}
	if ok, err := k.bring(c); !ok || err != nil {
		return false, err
	}
	return true, k.flip(out)
}
