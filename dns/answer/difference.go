package answer

import (
	"bytes"
	"iter"
	"reflect"
	"slices"
)

// Difference is in what two plans differ for a fast path, beside their zones.
type Difference struct {
	Settings bool // in what holds for all answers: all has to be made anew
	Clients  bool // in what is decided about, for whom, and with what addresses: so has all that is steered
	Decided  bool // in what is decided
}

// Differs says in what a plan differs from an older one, beside the zones of
// Altered. What it does not name is the same; it may name what is.
func (p *Plan) Differs(old *Plan) Difference {
	d := Difference{Settings: p.ready != old.ready || !p.settings.alike(&old.settings), Clients: !p.sameClients(old)}
	d.Decided = d.Clients || !slices.Equal(p.steering.states, old.steering.states)
	return d
}

// alike says whether answers to plain queries are the same under both.
func (s *settings) alike(o *settings) bool {
	return s.nsid == o.nsid && s.ecs == o.ecs && s.errorsTo == o.errorsTo && slices.Equal(s.whoami, o.whoami) &&
		s.cookies.on() == o.cookies.on() && s.cookies.require == o.cookies.require && slices.Equal(s.cookies.fixed, o.cookies.fixed)
}

// sameClients says whether both make decisions about the same services and
// kinds of answer, for the same classes of clients, and out of the same
// addresses.
func (p *Plan) sameClients(o *Plan) bool {
	for f := range p.steering.data {
		if !slices.EqualFunc(p.steering.data[f], o.steering.data[f], bytes.Equal) {
			return false
		}
	}
	return (p.world == nil) == (o.world == nil) && p.table == o.table && p.intent == o.intent && slices.Equal(p.steering.needed, o.steering.needed)
}

// Altered gives the apexes, in wire form, of zones that an older plan had not,
// or had and answered otherwise from, with those that have no content; and of
// zones that are gone. It may give one that is answered as before. The cost is
// that of the parts that differ.
func (p *Plan) Altered(old *Plan) iter.Seq[string] {
	return func(yield func(apex string) bool) {
		for i := range p.zones.shards {
			a, b := old.zones.shards[i], p.zones.shards[i]
			if reflect.ValueOf(a).UnsafePointer() == reflect.ValueOf(b).UnsafePointer() {
				continue
			}
			for apex, z := range b {
				if a[apex] != z && !yield(apex) {
					return
				}
			}
			for apex := range a {
				if b[apex] == nil && !yield(apex) {
					return
				}
			}
		}
	}
}

// Apex gives that of the zone that a name belongs to, with content or without;
// empty where there is none. Both are in wire form and lower case.
func (p *Plan) Apex(name []byte) string {
	if z := p.find(name, 0); z != nil {
		return z.apex
	}
	return ""
}
