package xdp

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"unsafe"

	"meridian/edge/defence"
	"meridian/fleet"
)

// rule is a rule in force.
type rule struct {
	fleet.PacketRule
	added bool   // on this node, by edge rule add
	until uint32 // seconds since boot; 0: for ever
}

// key tells rules apart: one that was added may have the name of one of the
// Spec's.
func (r *rule) key() ruleKey { return ruleKey{r.Name, r.added} }

type ruleKey struct {
	name  string
	added bool
}

// Units of the program's rates: see bpf/purse.h.
const (
	purseSecond = 1_000_000_000 * 16   // sixteenths of a nanosecond
	debtSecond  = 1_000_000_000 >> 6   // ticks of 64 ns
	maxBatch    = 64                   // packets that a CPU pays at a time, at most
	maxTallies  = 2 * defence.MaxRules // MAX_TALLIES
	mappedBits  = 128 - 32             // before an IPv4 address in one of IPv6's form
	allPorts    = ^uint16(0)           // the last port
	anyFragment = 1<<0 | 1<<1 | 1<<2   // by enum fragment
	onlyIPv4    = 1
	onlyIPv6    = 2
)

// priced gives what one packet costs at a rate, and how many a CPU pays at a
// time: a thousandth of a second's, so that what it holds back is no matter.
func priced(rate int) (cost uint64, batch uint32) {
	return purseSecond / uint64(rate), uint32(min(maxBatch, max(1, rate/1024)))
}

// program gives the rule as the program has it, and what it asks for in detail;
// named are the places that rules name.
func (r *rule) program(index uint32, named []defence.Place) (edgeRule, edgeDetail) {
	m := &r.Match
	out := edgeRule{
		Until: r.until, Index: index,
		SportLast: allPorts, DportLast: allPorts, LenLast: allPorts, TtlLast: 255, Fragments: anyFragment, Families: onlyIPv4 | onlyIPv6,
		Flags: m.Flags.Set, FlagsMask: m.Flags.Set | m.Flags.Clear,
	}
	switch r.Mode {
	case fleet.RuleDrop:
		out.Mode = uint8(edgeModeMODE_DROP)
	case fleet.RuleRate:
		out.Mode = uint8(edgeModeMODE_RATE)
		out.Cost, out.Batch = priced(r.Rate)
	case fleet.RuleCount:
		out.Mode = uint8(edgeModeMODE_COUNT)
	}
	if m.Protocol != "" {
		out.Proto = map[fleet.IPProtocol]uint8{fleet.ProtocolTCP: protoTCP, fleet.ProtocolUDP: protoUDP,
			fleet.ProtocolICMP: 1, fleet.ProtocolICMPv6: 58}[m.Protocol]
		out.ProtoMask = 0xff
	}
	addresses(&out, m)
	none := fleet.NumberRange{}
	if m.SourcePort != none {
		out.SportFirst, out.SportLast = m.SourcePort.First, m.SourcePort.Last
	}
	if m.Port != none {
		out.DportFirst, out.DportLast = m.Port.First, m.Port.Last
	}
	if m.Length != none {
		out.LenFirst, out.LenLast = m.Length.First, m.Length.Last
	}
	if m.TTL != none {
		out.TtlFirst, out.TtlLast = uint8(m.TTL.First), uint8(m.TTL.Last)
	}
	if m.ShowsPorts() {
		out.Ports = 1
	}
	switch m.Fragment {
	case fleet.FragmentNo:
		out.Fragments = 1 << 0
	case fleet.FragmentFirst:
		out.Fragments = 1 << 1
	case fleet.FragmentLater:
		out.Fragments = 1 << 2
	case fleet.FragmentYes:
		out.Fragments = 1<<1 | 1<<2
	}
	d, detailed := detail(m, named)
	if detailed {
		out.Detailed = 1
	}
	return out, d
}

// addresses puts in whom the rule's packets are from and for, and by what family.
func addresses(out *edgeRule, m *fleet.PacketMatch) {
	if m.ID.Given {
		out.Families &= onlyIPv4
	}
	for _, p := range []netip.Prefix{m.Source, m.VIP.Prefix} {
		switch {
		case p.Addr().Is4():
			out.Families &= onlyIPv4
		case p.Addr().Is6():
			out.Families &= onlyIPv6
		}
	}
	if m.Source.IsValid() {
		out.Source, out.SourceMask = masked(m.Source)
	}
	if m.VIP.IsValid() {
		out.Vip, out.VipMask = masked(m.VIP.Prefix)
	}
}

// detail gives what few rules ask for; false: this one does not.
func detail(m *fleet.PacketMatch, named []defence.Place) (edgeDetail, bool) {
	d := edgeDetail{WindowLast: allPorts, IdLast: allPorts}
	none := d
	if m.Window.Given {
		d.WindowFirst, d.WindowLast = m.Window.First, m.Window.Last
	}
	if m.ID.Given {
		d.IdFirst, d.IdLast = m.ID.First, m.ID.Last
	}
	d.Options = uint64(m.Options)
	d.Offset, d.Octets = m.Payload.Offset, uint16(m.Payload.Octets)
	d.Value, d.Mask = binary.NativeEndian.Uint64(m.Payload.Value[:]), binary.NativeEndian.Uint64(m.Payload.Mask[:])
	if p := defence.PlaceOf(m); p != (defence.Place{}) {
		d.Places = 1 << slices.Index(named, p)
	}
	return d, d != none
}

// masked gives a network as an address and a mask of both families' form.
func masked(p netip.Prefix) (addr, mask edgeAddress) {
	bits := p.Bits()
	if p.Addr().Is4() {
		bits += mappedBits
	}
	for i := range bits {
		mask.Octet[i/8] |= 0x80 >> (i % 8)
	}
	return toAddress(p.Masked().Addr()), mask
}

// setRules puts rules in place of the last ones, whole.
func (k *kernel) setRules(rules *edgeRules) error {
	return putInner(k.RuleSets, k.specs[edgeMapRuleSets], unsafe.Slice((*byte)(unsafe.Pointer(rules)), int(unsafe.Sizeof(*rules))))
}

// clearTally makes a place ready for another rule.
func (k *kernel) clearTally(index uint32) error {
	if err := k.Tallies.Put(index, make([]edgeTally, cpus())); err != nil {
		return err
	}
	if err := k.Credits.Put(index, make([]uint64, cpus())); err != nil {
		return err
	}
	return k.Purses.Put(index, &edgePurse{})
}

// tally sums a rule's counts over all CPUs.
func (k *kernel) tally(index uint32) (edgeTally, error) {
	var perCPU []edgeTally
	if err := k.Tallies.Lookup(index, &perCPU); err != nil {
		return edgeTally{}, err
	}
	var sum edgeTally
	for _, t := range perCPU {
		sum.Packets += t.Packets
		sum.Octets += t.Octets
		sum.Dropped += t.Dropped
	}
	return sum, nil
}
