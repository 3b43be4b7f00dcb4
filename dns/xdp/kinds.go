package xdp

import (
	"encoding/binary"
	"slices"

	"meridian/dns/zone"
)

// typeOther is the first of those for private use: what one of them gets that a
// name has not stands for all types that the name has not.
const (
	typeOther = 65280
	typeCAA   = 257
)

// aliasTypes are those that are made ready for names whose answer leads on to
// another name: what is there depends on the type.
var aliasTypes = []uint16{zone.TypeA, zone.TypeAAAA, zone.TypeHTTPS, zone.TypeCNAME, zone.TypeMX, zone.TypeTXT,
	zone.TypeNS, zone.TypeSRV, zone.TypeSOA, zone.TypeDS, typeCAA, zone.TypePTR}

// commonTypes come first where a name has more types than the program looks
// through.
var commonTypes = []uint16{zone.TypeA, zone.TypeAAAA, zone.TypeHTTPS, zone.TypeNS, zone.TypeSOA, zone.TypeMX, zone.TypeTXT, zone.TypeDNSKEY, zone.TypeDS}

// kind is what a type gets, without and with DO.
type kind struct {
	rtype uint16
	refs  [2]ref
}

// kindsRecord is struct kinds of the program.
func kindsRecord(list []kind, other [2]ref) []byte {
	ne := binary.NativeEndian
	out := []byte{byte(dnsWhatWHAT_KINDS), byte(len(list)), 0, 0}
	out = ne.AppendUint32(ne.AppendUint32(out, other[0]), other[1])
	for _, k := range list {
		out = ne.AppendUint16(ne.AppendUint16(out, k.rtype), 0)
		out = ne.AppendUint32(ne.AppendUint32(out, k.refs[0]), k.refs[1])
	}
	return pad(out)
}

// kinds gives the record of what a name gets by type. n is where its records
// are, or nil.
func (c *compiler) kinds(n *zone.Node, ask asking) []byte {
	absent := uint16(typeOther)
	for n != nil && n.Get(absent) != nil {
		absent++
	}
	other := ask(absent)
	var types []uint16
	if n != nil {
		if n.Get(zone.TypeNS) != nil { // of an apex it is the parent's, of a delegation the zone's own
			types = append(types, zone.TypeDS)
		}
		for i := range n.Sets {
			types = append(types, n.Sets[i].Type)
		}
		if n.Steer > 0 {
			types = append(types, zone.TypeA, zone.TypeAAAA, zone.TypeHTTPS)
		}
	}
	if c.alias(other) {
		other = [2]ref{}
		types = append(types, aliasTypes...)
	}
	slices.SortStableFunc(types, func(a, b uint16) int { return commonness(a) - commonness(b) })
	var list []kind
	for i, t := range types {
		if slices.Contains(types[:i], t) {
			continue
		}
		if refs := ask(t); refs != other || t == zone.TypeNSEC || t == zone.TypeKEY {
			list = append(list, kind{t, refs})
		}
	}
	if len(list) > maxKinds {
		list, other = list[:maxKinds], [2]ref{}
	}
	return kindsRecord(list, other)
}

func commonness(t uint16) int {
	if i := slices.Index(commonTypes, t); i >= 0 {
		return i
	}
	return len(commonTypes)
}

// alias says whether one of the answers follows an alias, or is the sockets'
// and may do so.
func (c *compiler) alias(refs [2]ref) bool {
	for _, r := range refs {
		if r == refPass || c.arena.alias(r) {
			return true
		}
	}
	return false
}
