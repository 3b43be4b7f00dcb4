package sign

import (
	"bytes"

	"meridian/dns/zone"
	"meridian/fleet"
)

// ParentSets gives the RDATAs of the CDS and CDNSKEY sets of a zone (RFC 7344
// section 4): what the parent's DS set should be. Both are empty where nothing
// is to be said.
func ParentSets(name fleet.Name, s *State, p *fleet.DNSSECPolicy) (cds, cdnskey [][]byte) {
	mode := p.CDS
	if s.Leave && mode != fleet.CDSNever {
		mode = fleet.CDSDelete
	}
	switch mode {
	case fleet.CDSNever:
		return nil, nil
	case fleet.CDSDelete: // RFC 8078 section 4
		return [][]byte{{0, 0, 0, 0, 0}}, [][]byte{{0, 0, 3, 0, 0}}
	}
	known := true
	for _, k := range s.DSKeys() {
		known = known && k.DS.State == Omnipresent
		cds = append(cds, k.DSFor(name).RData())
		cdnskey = append(cdnskey, k.RData())
	}
	if mode == fleet.CDSRollover && known {
		return nil, nil
	}
	return cds, cdnskey
}

// Request names what the zone asks of its parent by CDS and the parent has not
// done yet; empty where there is no such thing.
func Request(name fleet.Name, s *State, p *fleet.DNSSECPolicy) string {
	cds, _ := ParentSets(name, s, p)
	waits := s.waits()
	if len(cds) == 1 && len(cds[0]) == 5 { // delete
		waits = s.has(func(k *Key) bool { return k.DS.published() })
	}
	if !waits {
		return ""
	}
	return string(bytes.Join(cds, nil))
}

// Signal gives the records that tell a parent of a zone's keys before it has
// any DS (authenticated bootstrapping, RFC 9615 section 4.1): copies of the
// zone's CDS and CDNSKEY below each nameserver's name. They are to be
// published in the signed zones that the nameservers' names belong to, and go
// when the parent has the DS. A nameserver inside of the zone cannot vouch for
// it, and a name that would be too long is left out.
func Signal(name fleet.Name, s *State, p *fleet.DNSSECPolicy) []Record {
	if s.Leave || p.CDS == fleet.CDSDelete {
		return nil
	}
	for i := range s.Keys {
		if s.Keys[i].DS.State == Omnipresent {
			return nil
		}
	}
	cds, cdnskey := ParentSets(name, s, p)
	var out []Record
	for _, ns := range p.Signal {
		if ns.In(name) {
			continue
		}
		owner := append([]byte("\x07_dsboot"), zone.Wire(name)...)
		owner = append(owner[:len(owner)-1], "\x07_signal"...)
		owner = append(owner, zone.Wire(ns)...)
		if len(owner) > 255 {
			continue
		}
		for _, r := range cds {
			out = append(out, Record{owner, zone.TypeCDS, seconds(p.TTL), r})
		}
		for _, r := range cdnskey {
			out = append(out, Record{owner, zone.TypeCDNSKEY, seconds(p.TTL), r})
		}
	}
	return out
}
