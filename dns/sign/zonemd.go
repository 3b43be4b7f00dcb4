package sign

import (
	"bytes"
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"slices"

	"meridian/dns/zone"
)

// Digest gives the ZONEMD RDATA of a zone: scheme SIMPLE, SHA-384 (RFC 8976
// section 2.2).
func Digest(z *zone.Zone) []byte {
	h := sha512.New384()
	digest(z, h)
	out := binary.BigEndian.AppendUint32(nil, z.Serial)
	return h.Sum(append(out, 1, 1))
}

// digest feeds every record of the zone in canonical form and order (RFC 8976
// section 3.3), but for the ZONEMD set at the apex and its signatures.
func digest(z *zone.Zone, h hash.Hash) {
	type rec struct {
		owner string
		sets  []zone.RRset
	}
	var list []rec
	for n := range z.Nodes() {
		list = append(list, rec{n.Name, n.Sets})
	}
	for n := range z.NSEC3s() {
		list = append(list, rec{n.Name, []zone.RRset{n.Set}})
	}
	slices.SortStableFunc(list, func(a, b rec) int { return zone.Compare(a.owner, b.owner) })
	var buf []byte
	apex := z.Apex().Name
	for _, r := range list {
		buf = buf[:0]
		rrsigs := sigsOf(r.sets, r.owner == apex)
		done := false
		for i := range r.sets {
			set := &r.sets[i]
			if set.Type > zone.TypeRRSIG && !done {
				buf, done = appendSigs(buf, r.owner, rrsigs), true
			}
			if set.Type == zone.TypeZONEMD && r.owner == apex {
				continue
			}
			for rdata := range each(set.Data) {
				buf = appendRecord(buf, r.owner, set.Type, set.TTL, zone.Canonical(set.Type, rdata))
			}
		}
		if !done {
			buf = appendSigs(buf, r.owner, rrsigs)
		}
		_, _ = h.Write(buf)
	}
}

// sig is one RRSIG record.
type sig struct {
	ttl   uint32
	rdata []byte
}

// sigsOf gives the signatures of an owner in canonical order.
func sigsOf(sets []zone.RRset, apex bool) []sig {
	var out []sig
	for i := range sets {
		if apex && sets[i].Type == zone.TypeZONEMD {
			continue
		}
		for rdata := range each(sets[i].Sigs) {
			out = append(out, sig{sets[i].TTL, zone.Canonical(zone.TypeRRSIG, rdata)})
		}
	}
	slices.SortFunc(out, func(a, b sig) int { return bytes.Compare(a.rdata, b.rdata) })
	return out
}

func appendSigs(buf []byte, owner string, sigs []sig) []byte {
	for _, s := range sigs {
		buf = appendRecord(buf, owner, zone.TypeRRSIG, s.ttl, s.rdata)
	}
	return buf
}

// Errors of VerifyDigest.
var (
	ErrNoDigest = errors.New("the zone has no ZONEMD that can be verified")
	ErrDigest   = errors.New("the zone's content is not what its ZONEMD says")
)

// VerifyDigest checks a zone against its ZONEMD records (RFC 8976 section 4):
// one that matches is enough; ErrNoDigest where none is of this serial, of
// scheme SIMPLE and of a known hash.
func VerifyDigest(z *zone.Zone) error {
	set := z.Apex().Get(zone.TypeZONEMD)
	if set == nil {
		return ErrNoDigest
	}
	type kind struct{ scheme, hash byte }
	seen := map[kind]int{}
	for rdata := range each(set.Data) {
		if len(rdata) >= 6 {
			seen[kind{rdata[4], rdata[5]}]++
		}
	}
	result := ErrNoDigest
	for rdata := range each(set.Data) {
		if len(rdata) < 6+12 || binary.BigEndian.Uint32(rdata) != z.Serial || rdata[4] != 1 || seen[kind{1, rdata[5]}] > 1 {
			continue
		}
		var h hash.Hash
		switch rdata[5] {
		case 1:
			h = sha512.New384()
		case 2:
			h = sha512.New()
		default:
			continue
		}
		if digest(z, h); bytes.Equal(h.Sum(nil), rdata[6:]) {
			return nil
		}
		result = fmt.Errorf("%w (serial %d, hash algorithm %d)", ErrDigest, z.Serial, rdata[5])
	}
	return result
}
