package rules

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"meridian/dns/zone"
	"meridian/fleet"
)

// ContentVersion names a content: 128 bits of its SHA-256, in hex. It is the
// version of zones in the store, on the wire and on disk, and their ETag.
func ContentVersion(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:16])
}

// ZoneObject gives a zone's content as an object of fleet.Zones.
func ZoneObject(name fleet.Name, data []byte) fleet.Object {
	return fleet.Object{Key: fleet.ObjectKey{Kind: fleet.ObjectZone, ID: string(name)}, Data: data, Version: ContentVersion(data)}
}

// LiveObject gives a live object of fleet.World.Live.
func LiveObject(id fleet.Name, data []byte) fleet.Object {
	return fleet.Object{Key: fleet.ObjectKey{Kind: fleet.ObjectLive, ID: string(id)}, Data: data, Version: ContentVersion(data)}
}

// LiveFor gives the live objects that a node's roles need: gateways what they
// show and answer with and which gateways there were before them, nameservers what
// their records say.
func LiveFor(n *fleet.Node, all *fleet.Zones) *fleet.Zones {
	var put []fleet.Object
	for o := range all.All() {
		need := false
		switch k, rest := fleet.ParseLiveID(o.Key.ID); k {
		case fleet.LiveCertificate, fleet.LiveToken, fleet.LiveALPN, fleet.LiveECHKeys:
			need = n.Has(fleet.RoleL7)
		case fleet.LiveECHList, fleet.LiveMark:
			need = n.Has(fleet.RoleDNS)
		case fleet.LiveGateways:
			need = rest == n.Region && n.Has(fleet.RoleL7)
		}
		if need {
			put = append(put, o)
		}
	}
	var none *fleet.Zones
	return none.With(put, nil)
}

// CheckZones holds the contents of the dynamic zones against the names that
// the Spec steers in them. Zones that steer none have been checked when they
// were written.
func CheckZones(w *fleet.World, contents *fleet.Zones) error {
	var errs []error
	for i := range w.Snapshot.Spec.Zones {
		z := &w.Snapshot.Spec.Zones[i]
		o, ok := contents.Get(z.Zone)
		if !z.Dynamic || len(z.Steered) == 0 || !ok {
			continue
		}
		content, err := zone.Reload(nil, z, o.Data, "")
		if err == nil {
			err = CheckContent(w.Snapshot.Spec, z, content)
		}
		if err != nil {
			errs = append(errs, &ObjectError{Key: o.Key, Msg: err.Error()})
		}
	}
	return errors.Join(errs...)
}

// CheckContent holds a zone's content against what the Spec adds to it: what a
// zone has that was signed elsewhere has its signatures there, and what the
// fleet adds would have none.
func CheckContent(spec *fleet.Spec, z *fleet.Zone, content *zone.Zone) error {
	if !content.Signed || spec.Settings(z).DNSSEC != "" {
		return nil
	}
	switch {
	case len(z.Steered) > 0:
		return fmt.Errorf("the zone is signed, and its steered name %s would have no signatures: have the fleet sign the zone (dnssec), or leave it unsigned", z.Steered[0].Name)
	case len(z.Aliases) > 0:
		return fmt.Errorf("the zone is signed, and its alias %s would have no signatures: have the fleet sign the zone (dnssec), or leave it unsigned", z.Aliases[0].Name)
	}
	return nil
}

// WithSerial gives the zone with another serial in its SOA.
func WithSerial(z *zone.Zone, serial uint32) (*zone.Zone, error) {
	soa := z.Apex().Get(zone.TypeSOA)
	if soa == nil {
		return nil, fmt.Errorf("zone %s has no SOA", z.Name)
	}
	old, _ := zone.Next(soa.Data)
	next := slices.Clone(old)
	binary.BigEndian.PutUint32(next[len(next)-20:], serial)
	owner := []byte(z.Apex().Name)
	return z.With([]zone.Change{
		{Delete: true, Owner: owner, Type: zone.TypeSOA, TTL: soa.TTL, Data: old},
		{Owner: owner, Type: zone.TypeSOA, TTL: soa.TTL, Data: next},
	})
}
