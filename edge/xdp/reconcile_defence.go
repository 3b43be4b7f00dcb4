package xdp

import (
	"maps"
	"slices"

	"meridian/edge/defence"
	"meridian/fleet"
)

// defended is what the tables of the defence hold.
type defended struct {
	table    *defence.Table
	rules    edgeRules
	ports    []uint16
	settings edgeDefence
	index    map[ruleKey]uint32 // of the rules' tallies
}

// defences are those tables, as the reconciler writes them.
type defences interface {
	setLists(*defence.Table) error
	setRules(*edgeRules) error
	setReflectors([]uint16) error
	setDefence(edgeDefence) error
	clearTally(index uint32) error
}

// writeDefence brings the tables of the defence in line. The node's flags,
// which come after, say which of them are in use: what a guard does without
// stays as it was.
func (r *reconciler) writeDefence(g *guard) error {
	d := &r.defended
	if g.table != nil && g.table != d.table {
		if err := r.tables.setLists(g.table); err != nil {
			return err
		}
		d.table = g.table
	}
	if len(g.ports) > 0 && !slices.Equal(g.ports, d.ports) {
		if err := r.tables.setReflectors(g.ports); err != nil {
			return err
		}
		d.ports = g.ports
	}
	if s := g.settings(); s != d.settings {
		if err := r.tables.setDefence(s); err != nil {
			return err
		}
		d.settings = s
	}
	return r.writeRules(g)
}

// writeRules swaps the rules; one that stays keeps its tally, even if it is
// another now.
func (r *reconciler) writeRules(g *guard) error {
	d := &r.defended
	index := map[ruleKey]uint32{}
	for _, w := range g.rules {
		if i, ok := d.index[w.key()]; ok {
			index[w.key()] = i
		}
	}
	rules := edgeRules{Count: uint32(len(g.rules))}
	for i, w := range g.rules {
		at, ok := index[w.key()]
		if !ok {
			at = freeTally(d.index, index)
			if err := r.tables.clearTally(at); err != nil {
				return err
			}
			index[w.key()] = at
		}
		rules.Rule[i], rules.Detail[i] = w.program(at, g.named)
	}
	if rules == d.rules {
		return nil
	}
	if err := r.tables.setRules(&rules); err != nil {
		return err
	}
	d.rules, d.index = rules, index
	return nil
}

// freeTally gives a place that neither the old rules nor the new ones have.
// There are twice as many as rules.
func freeTally(in ...map[ruleKey]uint32) uint32 {
	used := map[uint32]bool{}
	for _, m := range in {
		for i := range maps.Values(m) {
			used[i] = true
		}
	}
	i := uint32(0)
	for used[i] {
		i++
	}
	return i
}

// flags say what of the defence is in use.
func (g *guard) flags() (on edgeDefendFlag) {
	for _, f := range []struct {
		bit edgeDefendFlag
		on  bool
	}{
		{edgeDefendFlagDEFEND_STATIC, g.static},
		{edgeDefendFlagDEFEND_REFLECTED, len(g.ports) > 0},
		{edgeDefendFlagDEFEND_LISTS, g.table != nil},
		{edgeDefendFlagDEFEND_RULES, len(g.rules) > 0},
		{edgeDefendFlagDEFEND_SOURCE, g.limits.PerSource > 0},
		{edgeDefendFlagDEFEND_VIP, g.limits.PerVIP > 0},
	} {
		if f.on {
			on |= f.bit
		}
	}
	return on
}

func (g *guard) settings() edgeDefence {
	var s edgeDefence
	if n := g.limits.PerSource; n > 0 {
		s.SourceCost = debtSecond / uint64(n)
	}
	if n := g.limits.PerVIP; n > 0 {
		s.VipCost, s.VipBatch = priced(n)
	}
	if g.sampling != (fleet.PacketSampling{}) {
		s.SampleCost = purseSecond / uint64(max(1, g.sampling.PerSecond))
	}
	return s
}

func (k *kernel) setDefence(d edgeDefence) error { return k.Defences.Put(uint32(0), &d) }

// setReflectors writes all ports' bits; a packet may meet some of the old ones
// meanwhile.
func (k *kernel) setReflectors(ports []uint16) error {
	rows := make([]uint64, k.Reflectors.MaxEntries())
	for _, p := range ports {
		rows[p/64] |= 1 << (p % 64)
	}
	for i, bits := range rows {
		if err := k.Reflectors.Put(uint32(i), bits); err != nil {
			return err
		}
	}
	return nil
}
