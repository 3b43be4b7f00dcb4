package zone

import (
	"bytes"
	"cmp"
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"slices"
)

// Hash algorithms of ZONEMD (RFC 8976 section 5.3).
const (
	ZONEMDSHA384 = 1
	ZONEMDSHA512 = 2
)

// Errors of VerifyZONEMD.
var (
	ErrZONEMDUnsupported = errors.New("no ZONEMD has a scheme and algorithm that is known here")
	ErrZONEMDWrong       = errors.New("no ZONEMD has the digest of the zone")
)

// ZONEMD computes the digest of the zone by scheme SIMPLE (RFC 8976 section
// 3.3.1) and one of the hash algorithms above.
func (z *Zone) ZONEMD(alg uint8) ([]byte, error) {
	d := digester{apex: z.Apex().Name}
	switch alg {
	case ZONEMDSHA384:
		d.hash = sha512.New384()
	case ZONEMDSHA512:
		d.hash = sha512.New()
	default:
		return nil, fmt.Errorf("ZONEMD hash algorithm %d is not known", alg)
	}
	hashed := z.nsec3
	for n := range z.Nodes() {
		sets := n.Sets
		for len(hashed) > 0 {
			order := Compare(hashed[0].Name, n.Name)
			if order > 0 {
				break
			}
			if order == 0 {
				sets = append(slices.Clone(sets), hashed[0].Set)
			} else {
				d.owner(hashed[0].Name, []RRset{hashed[0].Set})
			}
			hashed = hashed[1:]
		}
		d.owner(n.Name, sets)
	}
	for i := range hashed {
		d.owner(hashed[i].Name, []RRset{hashed[i].Set})
	}
	return d.hash.Sum(nil), nil
}

// digester feeds records in canonical form and order to a hash.
type digester struct {
	hash hash.Hash
	apex string
	buf  []byte
}

// owner adds the sets of one owner, in order of type; their signatures are a
// set of type RRSIG. The apex's ZONEMD and its signatures are left out.
func (d *digester) owner(name string, sets []RRset) {
	type part struct {
		rtype uint16
		set   *RRset
	}
	var parts []part
	signed := false
	for i := range sets {
		if name == d.apex && sets[i].Type == TypeZONEMD {
			continue
		}
		parts = append(parts, part{sets[i].Type, &sets[i]})
		signed = signed || len(sets[i].Sigs) > 0
	}
	if signed {
		parts = append(parts, part{TypeRRSIG, nil})
	}
	slices.SortFunc(parts, func(a, b part) int { return cmp.Compare(a.rtype, b.rtype) })
	for _, p := range parts {
		if p.set != nil {
			d.records(name, p.rtype, p.set.TTL, p.set.Data)
			continue
		}
		for _, q := range parts { // in order of the type that they cover
			if q.set != nil {
				d.records(name, TypeRRSIG, q.set.TTL, q.set.Sigs)
			}
		}
	}
}

func (d *digester) records(name string, t uint16, ttl uint32, data []byte) {
	for rdata := range each(data) {
		rdata = Canonical(t, rdata)
		b := append(d.buf[:0], name...)
		b = binary.BigEndian.AppendUint16(b, t)
		b = append(b, 0, 1)
		b = binary.BigEndian.AppendUint32(b, ttl)
		b = binary.BigEndian.AppendUint16(b, uint16(len(rdata)))
		d.buf = append(b, rdata...)
		d.hash.Write(d.buf)
	}
}

// VerifyZONEMD holds the zone to its ZONEMD (RFC 8976 section 4); nil where
// one has the right digest, or where the zone has none.
// ErrZONEMDUnsupported says that nothing could be verified.
func (z *Zone) VerifyZONEMD() error {
	set := z.Apex().Get(TypeZONEMD)
	if set == nil {
		return nil
	}
	tried := false
	for rdata := range each(set.Data) {
		scheme, alg, want := rdata[4], rdata[5], rdata[6:]
		twice := 0
		for other := range each(set.Data) {
			if other[4] == scheme && other[5] == alg {
				twice++
			}
		}
		if scheme != 1 || alg != ZONEMDSHA384 && alg != ZONEMDSHA512 {
			continue
		}
		tried = true
		if binary.BigEndian.Uint32(rdata) != z.Serial || twice > 1 {
			continue
		}
		if got, err := z.ZONEMD(alg); err != nil {
			return err
		} else if bytes.Equal(got, want) {
			return nil
		}
	}
	if !tried {
		return fmt.Errorf("zone %s: %w", z.Name, ErrZONEMDUnsupported)
	}
	return fmt.Errorf("zone %s: %w", z.Name, ErrZONEMDWrong)
}
