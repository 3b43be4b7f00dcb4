package answer

import (
	"net/netip"
	"slices"
	"time"

	"meridian/dns/zone"
	"meridian/fleet"
	"meridian/geo"
	"meridian/steer"
)

// answerKind is what steering makes an RRset of.
type answerKind uint8

const (
	kindA answerKind = iota
	kindAAAA
	kindHTTPS  // hints of both families
	kindSecond // and those of the second-best region
	answerKinds
)

// outcome is what one answer is made of. It is comparable.
type outcome struct {
	v4, v6 steer.Choice
	second uint8 // region of the HTTPS record of lower priority, or steer.None
}

// state is every decision of one kind of answer for services that are decided
// alike, made before the query: an entry for each ranking, and which ranking
// an address has. Where a share splits clients the entry is the ranking
// itself, and the client's slot decides.
type state struct {
	service  int // the first such service
	kind     answerKind
	of       []uint32 // by class: ranking
	rankings []*steer.Ranking
	entries  []uint32 // by ranking: index in outcomes; with inSlots set, in rankings
	outcomes []outcome
	sets     []zone.RRset // A and AAAA: by outcome
	uniform  bool         // all rankings have one entry: what clients get differs by slots at most
	wide     geo.Scopes   // as wide as one answer goes; nil until settled
}

// inSlots marks an entry that depends on the slot.
const inSlots = 1 << 31

// stateKey names what a state follows from, within one ground.
type stateKey struct {
	steer.Key
	kind answerKind
}

// steering is what a plan has decided in the present scene.
type steering struct {
	needed [][answerKinds]bool   // by service
	states [][answerKinds]*state // by service; those needed
	cache  map[stateKey]*state
	wide   map[string]geo.Scopes // by kind of ranking and entries
	data   [2][][]byte           // by family and region: its addresses as records; the anycast ones come last

	latency     *steer.LatencyMap // nil for none
	latencyFrom fleet.Object      // what it was read from
}

// begin notes what the Spec needs.
func (s *steering) begin(spec *fleet.Spec, service func(string) int) {
	s.needed = make([][answerKinds]bool, len(spec.Services))
	for i := range s.needed {
		s.needed[i][kindA], s.needed[i][kindAAAA] = true, true
	}
	for i := range spec.Zones {
		for _, st := range spec.Zones[i].Steered {
			if n := service(st.Service); st.HTTPS != nil && n >= 0 {
				s.needed[n][httpsKind(st.HTTPS)] = true
			}
		}
	}
	for f, family := range []steer.Family{steer.V4, steer.V6} {
		s.data[f] = nil
		for r := range spec.Regions {
			s.data[f] = append(s.data[f], addressSet(spec, []uint8{uint8(r)}, false, family).Data)
		}
		s.data[f] = append(s.data[f], addressSet(spec, nil, true, family).Data)
	}
	s.cache, s.wide = nil, nil
}

func httpsKind(h *fleet.SteeredHTTPS) answerKind {
	if h.Second {
		return kindSecond
	}
	return kindHTTPS
}

// steer makes the decisions that the scene of before has not made.
func (p *Plan) steer(v *fleet.View, now time.Time) {
	before := p.scene
	p.scene = steer.NewScene(p.classes, v, p.world.Shifts, now, before)
	had := p.steering.cache
	if before == nil || !p.scene.Ground(before) {
		had = nil
	}
	s := &p.steering
	s.cache = make(map[stateKey]*state, len(had))
	s.states = make([][answerKinds]*state, len(p.world.Snapshot.Spec.Services))
	for i := range s.states {
		key := p.scene.Key(i)
		for kind := range answerKinds {
			if !s.needed[i][kind] {
				continue
			}
			k := stateKey{key, kind}
			st := s.cache[k]
			if st == nil {
				if st = had[k]; st == nil {
					st = p.decide(i, kind)
				}
				s.cache[k] = st
			}
			s.states[i][kind] = st
		}
	}
}

// decide makes the decisions on one service.
func (p *Plan) decide(service int, kind answerKind) *state {
	k := p.classes.Kind(service)
	st := &state{service: service, kind: kind, of: p.classes.ByClass(k), rankings: p.classes.Rankings(k), uniform: true}
	st.entries = make([]uint32, len(st.rankings))
	known := map[outcome]uint32{}
	slotted, briefs := map[string]uint32{}, map[string]uint32{}
	var room [64]byte
	for i, r := range st.rankings {
		brief, plain := p.brief(room[:0], service, kind, r)
		if plain {
			if id, ok := briefs[string(brief)]; ok {
				st.entries[i] = id
				continue
			}
		}
		o, sliced := p.choose(service, kind, r, 0)
		id, ok := known[o]
		switch {
		case sliced:
			effect := p.scene.Effect(service, r)
			if id, ok = slotted[effect]; !ok {
				id = inSlots | uint32(i)
				slotted[effect] = id
			}
		case !ok:
			id = uint32(len(st.outcomes))
			known[o] = id
			st.outcomes = append(st.outcomes, o)
			if kind <= kindAAAA {
				set := zone.RRset{}
				set.Data, set.Count = p.records(nil, kind, &o)
				st.sets = append(st.sets, set)
			}
		}
		st.entries[i] = id
		if st.uniform = st.uniform && id == st.entries[0]; plain {
			briefs[string(brief)] = id
		}
	}
	return st
}

// brief appends what a decision of one kind comes down to: see steer.Brief.
func (p *Plan) brief(b []byte, service int, kind answerKind, r *steer.Ranking) (_ []byte, ok bool) {
	if kind != kindAAAA {
		if b, ok = p.scene.Brief(b, service, steer.V4, r); !ok || kind == kindA {
			return b, ok
		}
	}
	return p.scene.Brief(b, service, steer.V6, r)
}

// choose gives what an answer is made of for one ranking and slot.
func (p *Plan) choose(service int, kind answerKind, r *steer.Ranking, slot steer.Slot) (o outcome, sliced bool) {
	o.second = steer.None
	switch kind {
	case kindA:
		c := p.scene.Choose(service, steer.V4, r, slot)
		return outcome{v4: c.Answer(), second: steer.None}, c.Sliced
	case kindAAAA:
		c := p.scene.Choose(service, steer.V6, r, slot)
		return outcome{v6: c.Answer(), second: steer.None}, c.Sliced
	}
	v4, v6 := p.scene.Choose(service, steer.V4, r, slot), p.scene.Choose(service, steer.V6, r, slot)
	// Hints are part of the RDATA, so that their order would make another record.
	o.v4, o.v6, sliced = v4.Set(), v6.Set(), v4.Sliced || v6.Sliced
	if kind == kindSecond && !v4.Anycast && !v6.Anycast {
		for _, next := range [2]uint8{v4.Next(), v6.Next()} {
			if next != steer.None && !slices.Contains(v4.Regions(), next) && !slices.Contains(v6.Regions(), next) {
				o.second = next
				break
			}
		}
		sliced = sliced || p.scene.NextSliced(service)
	}
	return o, sliced
}

// records appends the addresses of an A or AAAA answer.
func (p *Plan) records(data []byte, kind answerKind, o *outcome) (_ []byte, count int) {
	c, f := &o.v4, 0
	if kind == kindAAAA {
		c, f = &o.v6, 1
	}
	data = p.appendRecords(data, f, c)
	return data, len(data) / recordLen(f)
}

// recordLen is the octets of one address in the form of zone.RRset.Data.
func recordLen(family int) int { return 2 + 4 + 12*family }

// appendRecords appends the addresses of a choice as records.
func (p *Plan) appendRecords(data []byte, family int, c *steer.Choice) []byte {
	of := p.steering.data[family]
	if c.Anycast {
		return append(data, of[len(of)-1]...)
	}
	for _, r := range c.Regions() {
		data = append(data, of[r]...)
	}
	return data
}

// lookup gives the entry of a client and the scope for which it holds, and
// from the entry what the answer is made of. index is that of the outcome in
// outcomes, or -1 for one that lives in w until the next does.
func (p *Plan) lookup(w *scratch, st *state, client netip.Addr) (o *outcome, index, scope int) {
	at := p.table.Find(client)
	id := st.entries[st.of[p.table.Class(at)]]
	switch {
	case st.uniform:
	case st.wide != nil:
		scope = st.wide.Scope(at)
	default:
		scope = p.table.Scope(at)
	}
	if id&inSlots == 0 {
		return &st.outcomes[id], int(id), scope
	}
	slot, bits := steer.SlotOf(client)
	w.made, _ = p.choose(st.service, st.kind, st.rankings[id&^inSlots], slot)
	return &w.made, -1, max(scope, bits)
}

// scratch is what a worker keeps to make steered RRsets in.
type scratch struct {
	set   zone.RRset // what a steered name holds
	made  outcome
	data  []byte
	order []byte // the same records, rotated
	canon []byte // and in canonical order
	turn  uint32 // queries so far, for rotation

	suppose      bool // answers are made of what is supposed
	supposed     outcome
	supposedTurn uint32
}

// kindOf says what a steered name answers to a type; false where the type is
// not steered.
func (t *target) kindOf(qtype uint16) (kind answerKind, ok bool) {
	switch {
	case t.service < 0:
	case qtype == zone.TypeA:
		return kindA, true
	case qtype == zone.TypeAAAA:
		return kindAAAA, true
	case qtype == zone.TypeHTTPS && t.https != nil:
		return httpsKind(t.https), true
	}
	return 0, false
}

// pick gives what a steered name holds of a type for a client and the scope
// for which that holds; false where the type is not steered. The set lives in
// the worker until the next one does.
func (p *Plan) pick(w *scratch, t *target, qtype uint16, client netip.Addr) (set *zone.RRset, scope int, ok bool) {
	kind, ok := t.kindOf(qtype)
	if !ok {
		return nil, 0, false
	}
	st := p.steering.states[t.service][kind]
	o, index, scope := &w.supposed, -1, 0
	if !w.suppose {
		o, index, scope = p.lookup(w, st, client)
	}
	set = &w.set
	set.Type, set.TTL, set.Sigs = qtype, t.ttl, nil
	switch {
	case kind >= kindHTTPS:
		w.data, set.Count = p.appendHTTPS(w.data[:0], t.https, t.ech, o)
		set.Data = w.data
		return set, scope, true
	case index >= 0:
		set.Data, set.Count = st.sets[index].Data, st.sets[index].Count
	default:
		w.data, set.Count = p.records(w.data[:0], kind, o)
		set.Data = w.data
	}
	switch {
	case t.rotate == fleet.RotateNone || set.Count < 2:
	case w.suppose:
		w.turned(set, w.supposedTurn)
	default:
		scope = max(scope, w.rotate(set, t.rotate, client))
	}
	return set, scope, true
}

// rotate puts another record first, and gives the scope that this asks for.
func (w *scratch) rotate(set *zone.RRset, by fleet.Rotate, client netip.Addr) (scope int) {
	n := w.turn
	if by == fleet.RotateClient {
		var slot steer.Slot
		slot, scope = steer.SlotOf(client)
		n = uint32(slot)
	}
	w.turned(set, n)
	return scope
}

// turned puts the record first that comes so many after the first.
func (w *scratch) turned(set *zone.RRset, n uint32) {
	each := len(set.Data) / set.Count
	at := int(n%uint32(set.Count)) * each
	had := set.Data
	w.order = append(append(w.order[:0], had[at:]...), had[:at]...)
	set.Data = w.order
}

// appendHTTPS appends the HTTPS records of an outcome.
func (p *Plan) appendHTTPS(data []byte, h *fleet.SteeredHTTPS, ech string, o *outcome) (_ []byte, count int) {
	var hints [2][]byte
	var room [2][256]byte
	hints[0] = p.appendRecords(room[0][:0], 0, &o.v4)
	hints[1] = p.appendRecords(room[1][:0], 1, &o.v6)
	if len(hints[0])+len(hints[1]) == 0 {
		return data, 0
	}
	data, count = appendHTTPS(data, 1, h, ech, hints[0], hints[1]), 1
	if o.second != steer.None {
		v4, v6 := p.steering.data[0][o.second], p.steering.data[1][o.second]
		data, count = appendHTTPS(data, 2, h, ech, v4, v6), 2
	}
	return data, count
}

// Settle gives the plan with the scope of each steered answer as wide as the
// answer goes. It costs a pass over the clients' table for each distinct
// decision, which is why WithView leaves it: until then scopes are those of the
// clients' classes, which no answer ever divides.
func (p *Plan) Settle() *Plan {
	if p.world == nil || p.Settled() {
		return p
	}
	out := *p
	s := &out.steering
	had := s.wide
	s.wide = map[string]geo.Scopes{}
	settled := map[*state]*state{}
	for _, st := range s.cache {
		if st.uniform {
			settled[st] = st
			continue
		}
		key := wideKey(p.classes.Kind(st.service), st.entries)
		scopes := s.wide[key]
		if scopes == nil {
			if scopes = had[key]; scopes == nil {
				scopes = p.table.Widen(st.byClass())
			}
			s.wide[key] = scopes
		}
		next := *st
		next.wide = scopes
		settled[st] = &next
	}
	s.cache = make(map[stateKey]*state, len(p.steering.cache))
	for k, st := range p.steering.cache {
		s.cache[k] = settled[st]
	}
	s.states = slices.Clone(s.states)
	for i := range s.states {
		for k, st := range s.states[i] {
			if st != nil {
				s.states[i][k] = settled[st]
			}
		}
	}
	return &out
}

// byClass gives the entry of each class.
func (st *state) byClass() []uint32 {
	out := make([]uint32, len(st.of))
	for class, ranking := range st.of {
		out[class] = st.entries[ranking]
	}
	return out
}

// WithScopes gives the plan with the scopes of a settled one, where both have
// made the same decisions; else the plan itself.
func (p *Plan) WithScopes(settled *Plan) *Plan {
	if p.scene != settled.scene || p.Settled() {
		return p
	}
	out := *p
	out.steering = settled.steering
	return &out
}

// Settled says whether Settle would change nothing.
func (p *Plan) Settled() bool {
	for _, st := range p.steering.cache {
		if st.wide == nil && !st.uniform {
			return false
		}
	}
	return true
}

// wideKey names a partition: entries are numbered in order of ranking, so that
// equal partitions have equal entries.
func wideKey(kind int, entries []uint32) string {
	b := make([]byte, 0, 4+4*len(entries))
	put := func(v uint32) { b = append(b, byte(v>>24), byte(v>>16), byte(v>>8), byte(v)) }
	put(uint32(kind))
	for _, e := range entries {
		put(e)
	}
	return string(b)
}
