package answer

import (
	"iter"

	"meridian/dns/zone"
	"meridian/fleet"
	"meridian/geo"
	"meridian/steer"
)

// Fast is what a fast path before the sockets has to know beside the answers
// themselves, which it has asked for ahead of the queries.
type Fast struct {
	ECS     bool   // Client Subnet is read
	NSID    string // answers NSID; empty: nothing does
	Cookies bool   // cookies are given
	Require bool   // and wanted from clients that know them

	Secret func(day int64) [16]byte // of cookies made on a day
	Fixed  [][16]byte               // in its place, the newest first

	Whoami  []byte // name that is answered by who asks, in wire form and lower case; nil for none
	Reserve int    // octets of EDNS options that any answer may bring
}

// Fast gives it.
func (p *Plan) Fast() Fast {
	f := Fast{ECS: p.settings.ecs, NSID: p.settings.nsid, Cookies: p.settings.cookies.on(),
		Secret: p.settings.cookies.secret, Fixed: p.settings.cookies.fixed,
		Require: p.settings.cookies.require, Whoami: p.settings.whoami}
	if to := p.settings.errorsTo; to != "" {
		f.Reserve = 4 + len(to)
	}
	return f
}

// Deepest gives the zone that a name in wire form and lower case belongs to;
// nil where there is none, or it has no content.
func (p *Plan) Deepest(name []byte) *zone.Zone {
	return p.find(name, 0).content()
}

// Unavailable gives the apexes of zones without content, in wire form.
func (p *Plan) Unavailable() iter.Seq[string] {
	return func(yield func(string) bool) {
		for z := range p.zones.all() {
			if z.Zone == nil && !yield(z.apex) {
				return
			}
		}
	}
}

// Constant says whether the last answer follows from its question alone, not
// from who asks or when. (What CO changes in an OPT it changes in others too.)
func (w *Worker) Constant() bool { return w.steered == nil && !w.online.used }

// Steered says by what the last answer was steered.
type Steered struct {
	Decision Decision
	Rotate   fleet.Rotate // how the order of records changes
	Records  int          // that the answer is made of
	Absent   bool         // the answer proves that there is none, and for that depends on other decisions too
	of       target       // makes those of names that answer alike equal
}

// Decision names one that a plan makes for all clients: of which service, and
// for what kind of answer. It is comparable.
type Decision struct {
	service int
	kind    answerKind
}

// Made is what one steered answer is made of. It is comparable.
type Made struct{ of outcome }

// Steered gives that of the last answer; false where it was not steered.
func (w *Worker) Steered() (Steered, bool) {
	if w.steered == nil {
		return Steered{}, false
	}
	kind, ok := w.steered.kindOf(w.req.qtype)
	return Steered{Decision{w.steered.service, kind}, w.steered.rotate, w.scratch.set.Count, w.absentN > 0, *w.steered}, ok
}

// Suppose makes all steered answers of the worker from what is given, whoever
// asks, until Decide; where their records rotate, that one comes first which
// stands so many behind the first.
func (w *Worker) Suppose(m Made, turn int) {
	w.scratch.suppose, w.scratch.supposed, w.scratch.supposedTurn = true, m.of, uint32(turn)
}

// Decide ends Suppose.
func (w *Worker) Decide() { w.scratch.suppose = false }

// Clients is the table that finds the class of a client; nil without a fleet.
func (p *Plan) Clients() *geo.Table { return p.table }

// Decided is what a plan has decided, by class of client.
type Decided struct {
	p  *Plan
	st *state
}

// Decided gives it.
func (p *Plan) Decided(d Decision) Decided {
	return Decided{p, p.steering.states[d.service][d.kind]}
}

// Decisions gives all that the plan makes.
func (p *Plan) Decisions() iter.Seq[Decision] {
	return func(yield func(Decision) bool) {
		for i := range p.steering.states {
			for kind, st := range p.steering.states[i] {
				if st != nil && !yield(Decision{i, answerKind(kind)}) {
					return
				}
			}
		}
	}
}

// Key is equal for what is decided alike, by the same plan or by plans that
// follow from one another. It is comparable.
func (d Decided) Key() any { return d.st }

// Classes is the number of classes.
func (d Decided) Classes() int { return len(d.st.of) }

// Of gives the number of what clients of a class get. Such numbers are below
// Classes, or have Sliced set.
func (d Decided) Of(class int) uint32 { return d.st.entries[d.st.of[class]] }

// Sliced marks what depends on a client's slot too.
const Sliced = inSlots

// Made gives what a number stands for; slot counts for those with Sliced set.
func (d Decided) Made(number uint32, slot steer.Slot) Made {
	if number&Sliced == 0 {
		return Made{d.st.outcomes[number]}
	}
	o, _ := d.p.choose(d.st.service, d.st.kind, d.st.rankings[number&^Sliced], slot)
	return Made{o}
}

// Scopes gives the scopes of answers: those of the clients' blocks where nil,
// none where uniform.
func (d Decided) Scopes() (scopes geo.Scopes, uniform bool) { return d.st.wide, d.st.uniform }
