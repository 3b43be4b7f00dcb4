package rules

import (
	"errors"
	"fmt"
	"strings"

	"github.com/miekg/dns"

	"meridian/dns/zone"
	"meridian/fleet"
)

// RRset is one RRset as text, as the admin API shows and takes it.
type RRset struct {
	Name    string   `json:"name"`              // relative to the zone, @ for the apex, or absolute with a final dot
	Type    string   `json:"type"`              // as A, or TYPE65280 (RFC 3597)
	TTL     *uint32  `json:"ttl,omitempty"`     // default: as it is, or 3600 for a new one
	Records []string `json:"records,omitempty"` // the data of each in master-file form
	Delete  bool     `json:"delete,omitempty"`  // take the RRset away
}

const newTTL = 3600

// RRsets lists a zone's RRsets in canonical order of names. Signatures and
// what proves absence are left out where signed is false.
func RRsets(z *zone.Zone, signed bool) []RRset {
	out := []RRset{}
	for n := range z.Nodes() {
		for i := range n.Sets {
			s := &n.Sets[i]
			if !signed && (s.Type == zone.TypeNSEC || s.Type == dns.TypeNSEC3PARAM) && len(s.Sigs) > 0 {
				continue
			}
			ttl := s.TTL
			set := RRset{Name: string(zone.Text([]byte(n.Name))), Type: zone.TypeName(s.Type), TTL: &ttl}
			for rest := s.Data; len(rest) > 0; {
				var rdata []byte
				rdata, rest = zone.Next(rest)
				set.Records = append(set.Records, zone.RDATAText(s.Type, rdata))
			}
			out = append(out, set)
			if !signed || len(s.Sigs) == 0 {
				continue
			}
			sigs := RRset{Name: set.Name, Type: "RRSIG", TTL: &ttl}
			for rest := s.Sigs; len(rest) > 0; {
				var rdata []byte
				rdata, rest = zone.Next(rest)
				sigs.Records = append(sigs.Records, zone.RDATAText(zone.TypeRRSIG, rdata))
			}
			out = append(out, sigs)
		}
	}
	return out
}

// Patch replaces RRsets of a zone and leaves the others. Every set is checked
// before anything is said; errors are fleet.FieldErrors with paths as
// [0].records[1]. What the zone as a whole then breaks is an error of
// zone.With.
func Patch(z *zone.Zone, sets []RRset) (*zone.Zone, error) {
	var errs fleet.Errors
	var changes []zone.Change
	seen := map[string]bool{}
	for i := range sets {
		p := patch{zone: z, set: &sets[i], at: fmt.Sprintf("[%d]", i), errs: &errs}
		list := p.changes()
		key := string(p.owner) + "/" + fmt.Sprint(p.rtype)
		if p.owner != nil && seen[key] {
			errs.Addf(p.at, "%s %s is given twice", sets[i].Name, sets[i].Type)
		}
		seen[key] = true
		changes = append(changes, list...)
	}
	if err := errs.Err(); err != nil {
		return nil, err
	}
	if len(changes) == 0 {
		return z, nil
	}
	return z.With(changes)
}

// patch is one RRset that is to be replaced.
type patch struct {
	zone  *zone.Zone
	set   *RRset
	at    string
	errs  *fleet.Errors
	owner []byte
	rtype uint16
}

func (p *patch) changes() []zone.Change {
	name, err := fleet.Under(p.set.Name, p.zone.Name)
	if err != nil {
		p.errs.Addf(p.at+".name", "%s", err)
		return nil
	}
	if !name.In(p.zone.Name) {
		p.errs.Addf(p.at+".name", "%q is outside of zone %s", p.set.Name, p.zone.Name)
		return nil
	}
	var ok bool
	if p.rtype, ok = parseType(p.set.Type); !ok {
		p.errs.Addf(p.at+".type", "%q is not a type of records", p.set.Type)
		return nil
	}
	p.owner = zone.Wire(name)
	var have zone.RRset
	if n := p.zone.Node(p.owner); n != nil {
		if s := n.Get(p.rtype); s != nil {
			have = *s
		}
	}
	if p.set.Delete != (len(p.set.Records) == 0) {
		p.errs.Addf(p.at, "expected either records or delete")
		return nil
	}
	return p.replace(name, have)
}

func (p *patch) replace(name fleet.Name, have zone.RRset) []zone.Change {
	ttl := have.TTL
	switch {
	case p.set.TTL != nil && *p.set.TTL > 1<<31-1:
		p.errs.Addf(p.at+".ttl", "%d is more than 2147483647 (RFC 2181 section 8)", *p.set.TTL)
	case p.set.TTL != nil:
		ttl = *p.set.TTL
	case have.Count == 0:
		ttl = newTTL
	}
	var gone, come []zone.Change
	for rest := have.Data; len(rest) > 0; {
		var rdata []byte
		rdata, rest = zone.Next(rest)
		gone = append(gone, zone.Change{Delete: true, Owner: p.owner, Type: p.rtype, TTL: have.TTL, Data: rdata})
	}
	for j, text := range p.set.Records {
		rdata, err := ParseRDATA(p.rtype, text, p.zone.Name)
		if err != nil {
			p.errs.Addf(fmt.Sprintf("%s.records[%d]", p.at, j), "%s %s: %s", name, p.set.Type, err)
			continue
		}
		come = append(come, zone.Change{Owner: p.owner, Type: p.rtype, TTL: ttl, Data: rdata})
	}
	return append(gone, come...)
}

// parseType reads the name of a type that a zone can hold: a mnemonic or
// TYPE123 (RFC 3597 section 5).
func parseType(s string) (uint16, bool) {
	t, ok := zone.ParseType(s)
	meta := t == 0 || t == dns.TypeOPT || 128 <= t && t <= 255 // RFC 6895 section 3.1
	return t, ok && !meta
}

// ParseRDATA reads the data of one record in master-file form into wire form,
// uncompressed; names in it are relative to origin unless they end in a dot.
func ParseRDATA(rtype uint16, text string, origin fleet.Name) ([]byte, error) {
	if len(text) > 1<<18 {
		return nil, errors.New("is too long")
	}
	if strings.ContainsAny(text, "\n\r\x00") {
		return nil, errors.New("holds a line break")
	}
	zp := dns.NewZoneParser(strings.NewReader(". 1 IN "+zone.TypeName(rtype)+" "+text+"\n"), string(origin), "")
	rr, ok := zp.Next()
	if !ok {
		if err := zp.Err(); err != nil {
			msg, _, _ := strings.Cut(strings.TrimPrefix(err.Error(), "dns: "), " at line:")
			return nil, errors.New(msg)
		}
		return nil, errors.New("is empty")
	}
	if _, more := zp.Next(); more {
		return nil, errors.New("holds more than one record")
	}
	buf := make([]byte, dns.Len(rr)+16)
	n, err := dns.PackRR(rr, buf, 0, nil, false)
	if err != nil {
		buf = make([]byte, 1<<17)
		if n, err = dns.PackRR(rr, buf, 0, nil, false); err != nil {
			return nil, errors.New(strings.TrimPrefix(err.Error(), "dns: "))
		}
	}
	const head = 1 + 10 // the root as owner, type, class, TTL and length
	if rr.Header().Rrtype != rtype || n < head {
		return nil, errors.New("is of another type")
	}
	rdata := buf[head:n:n]
	if err := zone.CheckRDATA(rtype, rdata); err != nil {
		return nil, err
	}
	return rdata, nil
}
