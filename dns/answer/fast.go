package answer

import (
	"iter"

	"meridian/dns/zone"
)

// Fast is what a fast path before the sockets has to know beside the answers
// themselves, which it has asked for ahead of the queries.
type Fast struct {
	ECS     bool // Client Subnet is read
	NSID    bool // NSID is answered
	Cookies bool // cookies are given
	Require bool // and wanted from clients that know them

	Secret func(day int64) [16]byte // of cookies made on a day
	Fixed  [][16]byte               // in its place, the newest first

	Whoami  []byte // name that is answered by who asks, in wire form and lower case; nil for none
	Reserve int    // octets of EDNS options that any answer may bring
}

// Fast gives it.
func (p *Plan) Fast() Fast {
	f := Fast{ECS: p.settings.ecs, NSID: p.settings.nsid != "", Cookies: p.settings.cookies.on(),
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
// from who asks or when.
func (w *Worker) Constant() bool { return w.steered == nil && !w.compact }
