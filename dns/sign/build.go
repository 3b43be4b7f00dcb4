package sign

import (
	"encoding/binary"
	"fmt"

	"meridian/dns/zone"
)

// build gives the zone of the items, with its digest where one is wanted.
func (m *maker) build() (*zone.Zone, error) {
	z, err := m.assemble()
	if err != nil || !m.ZONEMD {
		return z, err
	}
	apex := m.byName[m.apex]
	for _, it := range apex.sets {
		if it.set.Type != zone.TypeZONEMD {
			continue
		}
		shown, err := z.Exported()
		if err != nil {
			return nil, err
		}
		digest, err := shown.ZONEMD(zone.ZONEMDSHA384)
		if err != nil {
			return nil, err
		}
		rdata := append(binary.BigEndian.AppendUint32(nil, m.Serial), 1, zone.ZONEMDSHA384) // scheme SIMPLE
		it.set = newSet(zone.TypeZONEMD, it.set.TTL, append(rdata, digest...))
		it.sigs, it.expires, it.made, it.kept = nil, m.Now, 0, 0
		if m.sign(it); it.err != nil {
			return nil, it.err
		}
	}
	return m.assemble()
}

// assemble puts sets and signatures into a zone.
func (m *maker) assemble() (*zone.Zone, error) {
	b := zone.NewBuilder(m.base.Name)
	b.Exports = len(m.Variants) > 0
	for _, it := range m.items {
		owner := []byte(it.owner)
		if it.variant || len(it.lacks) > 0 {
			set := it.set
			set.Sigs = it.sigs
			if err := b.AddVariant(owner, zone.Variant{Set: set, Lacks: it.lacks, Export: it.export}); err != nil {
				return nil, fmt.Errorf("%s: %w", zone.Text(owner), err)
			}
			continue
		}
		for rdata := range each(it.set.Data) {
			if err := b.Add(owner, it.set.Type, it.set.TTL, rdata); err != nil {
				return nil, fmt.Errorf("%s: %w", zone.Text(owner), err)
			}
		}
		for rdata := range each(it.sigs) {
			if err := b.Add(owner, zone.TypeRRSIG, it.set.TTL, rdata); err != nil {
				return nil, fmt.Errorf("%s: %w", zone.Text(owner), err)
			}
		}
	}
	return b.Build()
}
