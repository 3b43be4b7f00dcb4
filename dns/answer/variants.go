package answer

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"meridian/dns/zone"
	"meridian/fleet"
	"meridian/steer"
)

// NameVariants is everything that a steered name can answer with for one
// type, whatever health, shifts and clients are.
type NameVariants struct {
	Name   fleet.Name   // absolute
	Type   uint16       // A, AAAA or HTTPS
	Empty  bool         // the type may be absent: NODATA
	Sets   []zone.RRset // all different, none empty, records in canonical order (RFC 4034 section 6.3), with the name's TTL
	Export []byte       // from Exports: Data of the one of Sets that transfers show; empty for none
}

// Variants gives what the steered names of a zone can answer with, for the
// signer: for each name its A, AAAA and, where it has one, HTTPS. The error
// names the steered name that can answer in too many ways to sign them all.
func Variants(w *fleet.World, z *fleet.Zone) ([]NameVariants, error) {
	now, next := echLists(w)
	if next == "" {
		return variants(w.Snapshot, z, now)
	}
	return variants(w.Snapshot, z, now, next)
}

// variants is Variants with the lists that HTTPS records may have.
func variants(s *fleet.Snapshot, z *fleet.Zone, ech ...string) ([]NameVariants, error) {
	var out []NameVariants
	for i := range z.Steered {
		st := &z.Steered[i]
		name, err := fleet.Under(st.Name, z.Zone)
		if err != nil {
			return nil, fmt.Errorf("steered name %q: %w", st.Name, err)
		}
		sets, err := variantsOf(s, st, ech)
		if err != nil {
			return nil, fmt.Errorf("steered name %s: %w", name, err)
		}
		for _, v := range sets {
			v.Name = name
			out = append(out, v)
		}
	}
	return out, nil
}

func variantsOf(s *fleet.Snapshot, st *fleet.Steered, ech []string) ([]NameVariants, error) {
	service := slices.IndexFunc(s.Spec.Services, func(svc fleet.Service) bool { return svc.Service == st.Service })
	if service < 0 {
		return nil, fmt.Errorf("service %q does not exist", st.Service)
	}
	ttl := uint32(st.TTL.D() / time.Second)
	var out []NameVariants
	for _, f := range []steer.Family{steer.V4, steer.V6} {
		list, err := steer.Outcomes(s, service, f)
		if err != nil {
			return nil, err
		}
		v := NameVariants{Type: typeOf(f)}
		for _, o := range list {
			v.add(addressSet(s.Spec, o.Regions, o.Anycast, f), ttl)
		}
		out = append(out, v)
	}
	if st.HTTPS == nil {
		return out, nil
	}
	list, err := steer.HTTPSOutcomes(s, service, st.HTTPS.Second)
	if err != nil {
		return nil, fmt.Errorf("type HTTPS: %w", err)
	}
	v := NameVariants{Type: zone.TypeHTTPS}
	for _, o := range list {
		for _, list := range ech {
			v.add(httpsSet(s.Spec, st.HTTPS, echFor(s.Spec, service, list), &o), ttl)
		}
	}
	return append(out, v), nil
}

func typeOf(f steer.Family) uint16 {
	if f == steer.V6 {
		return zone.TypeAAAA
	}
	return zone.TypeA
}

// add notes a set, in canonical order, once.
func (v *NameVariants) add(set zone.RRset, ttl uint32) {
	if set.Count == 0 {
		v.Empty = true
		return
	}
	set.TTL, set.Data = ttl, canonical(set.Data)
	if !slices.ContainsFunc(v.Sets, func(had zone.RRset) bool { return string(had.Data) == string(set.Data) }) {
		v.Sets = append(v.Sets, set)
	}
}

// canonical sorts the records of a set by their RDATA.
func canonical(data []byte) []byte { return appendCanonical(nil, data) }

// appendCanonical appends the records of data in order of their RDATA (RFC
// 4034 section 6.3); dst and data do not overlap. Sets of steering are small.
func appendCanonical(dst, data []byte) []byte {
	start := len(dst)
	for rest := data; len(rest) > 0; {
		rdata, after := zone.Next(rest)
		record := rest[:len(rest)-len(after)]
		at := start
		for at < len(dst) {
			had, _ := zone.Next(dst[at:])
			if bytes.Compare(had, rdata) > 0 {
				break
			}
			at += 2 + len(had)
		}
		dst = append(dst, record...)
		copy(dst[at+len(record):], dst[at:len(dst)-len(record)])
		copy(dst[at:], record)
		rest = after
	}
	return dst
}

// appendRdata appends one record in the form of zone.RRset.Data.
func appendRdata(data, rdata []byte) []byte {
	return append(binary.BigEndian.AppendUint16(data, uint16(len(rdata))), rdata...)
}

// addressSet gives the addresses of some regions, or the anycast ones.
func addressSet(spec *fleet.Spec, regions []uint8, anycast bool, f steer.Family) zone.RRset {
	set := zone.RRset{Type: typeOf(f)}
	for _, a := range addressesOf(spec, regions, anycast, f) {
		set.Data = appendRdata(set.Data, a.AsSlice())
		set.Count++
	}
	return set
}

// exportSet gives those of a steered name's exported addresses that are of a
// type, in canonical order.
func exportSet(st *fleet.Steered, qtype uint16) zone.RRset {
	set := zone.RRset{Type: qtype, TTL: uint32(st.TTL.D() / time.Second)}
	for _, a := range st.Export {
		if a.Is4() == (qtype == zone.TypeA) {
			set.Data = appendRdata(set.Data, a.AsSlice())
			set.Count++
		}
	}
	set.Data = canonical(set.Data)
	return set
}

func addressesOf(spec *fleet.Spec, regions []uint8, anycast bool, f steer.Family) []netip.Addr {
	of := func(v *fleet.VIPs) []netip.Addr {
		if f == steer.V6 {
			return v.V6
		}
		return v.V4
	}
	if anycast {
		return of(&spec.Anycast)
	}
	var out []netip.Addr
	for _, r := range regions {
		out = append(out, of(&spec.Regions[r].VIPs)...)
	}
	return out
}

// Keys of SVCB parameters (RFC 9460 section 14.3.2).
const (
	svcALPN     = 1
	svcPort     = 3
	svcIPv4Hint = 4
	svcECH      = 5 // RFC 9848
	svcIPv6Hint = 6
)

// httpsSet gives the HTTPS records of an outcome (RFC 9460): one whose hints
// are the addresses that A and AAAA answer, and one of lower priority with
// those of the second-best region. Without any address there is none.
func httpsSet(spec *fleet.Spec, h *fleet.SteeredHTTPS, ech string, o *steer.HTTPSOutcome) zone.RRset {
	set := zone.RRset{Type: zone.TypeHTTPS}
	add := func(priority uint16, v4, v6 zone.RRset) {
		if v4.Count+v6.Count > 0 {
			set.Data = appendHTTPS(set.Data, priority, h, ech, v4.Data, v6.Data)
			set.Count++
		}
	}
	add(1, addressSet(spec, o.V4.Regions, o.V4.Anycast, steer.V4), addressSet(spec, o.V6.Regions, o.V6.Anycast, steer.V6))
	if o.Second >= 0 && set.Count > 0 {
		second := []uint8{uint8(o.Second)}
		add(2, addressSet(spec, second, false, steer.V4), addressSet(spec, second, false, steer.V6))
	}
	return set
}

// appendHTTPS appends one record in the form of zone.RRset.Data: priority, the
// owner itself as target, and parameters in ascending order of key (RFC 9460
// section 2.2). The hints are given as records of addresses.
func appendHTTPS(data []byte, priority uint16, h *fleet.SteeredHTTPS, ech string, v4, v6 []byte) []byte {
	start := len(data)
	data = append(data, 0, 0, byte(priority>>8), byte(priority), 0)
	if len(h.ALPN) > 0 {
		n := 0
		for _, id := range h.ALPN {
			n += 1 + len(id)
		}
		data = appendParam(data, svcALPN, n)
		for _, id := range h.ALPN {
			data = append(append(data, byte(len(id))), id...)
		}
	}
	if h.Port != 443 {
		data = binary.BigEndian.AppendUint16(appendParam(data, svcPort, 2), h.Port)
	}
	data = appendHints(data, svcIPv4Hint, v4, 4)
	if ech != "" {
		data = append(appendParam(data, svcECH, len(ech)), ech...)
	}
	data = appendHints(data, svcIPv6Hint, v6, 16)
	binary.BigEndian.PutUint16(data[start:], uint16(len(data)-start-2))
	return data
}

func appendParam(data []byte, key uint16, length int) []byte {
	return binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(data, key), uint16(length))
}

func appendHints(data []byte, key uint16, records []byte, size int) []byte {
	if len(records) == 0 {
		return data
	}
	data = appendParam(data, key, len(records)/(2+size)*size)
	for ; len(records) > 0; records = records[2+size:] {
		data = append(data, records[2:2+size]...)
	}
	return data
}
