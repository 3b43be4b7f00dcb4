package xdp

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"meridian/edge/defence"
	"meridian/fleet"
	"meridian/geo"
)

// defended adds what the defence makes of the flow's packets.
func (x *explainer) defended(vip edgeVip) error {
	e := x.e
	g, err := x.kernel.gate(vip.Stats)
	if err != nil {
		return err
	}
	if gate := edgeGateMode(vip.Gate); gate == edgeGateModeGATE_SHUT || gate == edgeGateModeGATE_AUTO && g.attacked() {
		e.Reason += "; but a SYN is answered with a cookie, and what is of no known flow and brings none is let through as far as that is usual"
	}
	why, allowed := x.guard.stops(x.flow)
	if allowed {
		e.Reason += "; " + x.flow.Client.Addr().String() + " is on the allow list: no rule and no limit stops it"
		return nil
	}
	if e.Rules, err = x.ruled(); err != nil {
		return err
	}
	if len(e.Rules) > 0 {
		e.Reason += "; unless a rule decides: " + strings.Join(e.Rules, ", ") + " may match, by addresses, protocol and ports"
	}
	if why != "" {
		e.GoesTo, e.Reason = nil, "the defence drops all its packets ("+why+"); without it: "+e.Reason
	}
	return nil
}

// stops gives the reason to drop all packets of a flow, by lists and ports of
// reflectors; "": there is none. allowed: nothing that comes after these is either.
// Rules and limits are not looked at.
func (g *guard) stops(f Flow) (why string, allowed bool) {
	class := defence.None
	if g == nil {
		return "", false
	}
	if g.table != nil {
		class, _ = g.table.Lookup(f.Client.Addr())
	}
	if class != defence.Martian && f.Proto == protoUDP && slices.Contains(g.ports, f.Client.Port()) {
		return "drop reflected", false
	}
	return map[geo.Class]string{defence.Martian: "drop martian", defence.Blocked: "drop blocked",
		defence.BlockedCountry: "drop blocked_country", defence.BlockedASN: "drop blocked_asn"}[class], class == defence.Allowed
}

// ruled names the rules in force that packets of the flow may meet, with their
// modes, in order.
func (x *explainer) ruled() (names []string, err error) {
	if x.guard == nil || len(x.guard.rules) == 0 { // the tables may have the last ones yet
		return nil, nil
	}
	sets, err := readInner[edgeRules](x.kernel.RuleSets, 0, 1)
	if err != nil {
		return nil, fmt.Errorf("read rules: %w", err)
	}
	if sets == nil {
		return nil, nil
	}
	now := uint32(monotonic().Seconds())
	modes := map[edgeMode]fleet.RuleMode{edgeModeMODE_DROP: fleet.RuleDrop, edgeModeMODE_RATE: fleet.RuleRate, edgeModeMODE_COUNT: fleet.RuleCount}
	for i := range sets[0].Count {
		r := &sets[0].Rule[i]
		if (r.Until == 0 || r.Until > now) && r.may(x.flow) {
			name, ok := x.rules[r.Index]
			names = append(names, fmt.Sprintf("%s (%s)", either(ok, name, "one that has just come"), modes[edgeMode(r.Mode)]))
		}
	}
	return names, nil
}

// may says whether a packet of a flow may match, whatever else is in it.
func (r *edgeRule) may(f Flow) bool {
	fits := func(a netip.Addr, want, mask edgeAddress) bool {
		got := toAddress(a)
		for i := range got.Octet {
			if (got.Octet[i]^want.Octet[i])&mask.Octet[i] != 0 {
				return false
			}
		}
		return true
	}
	family := uint8(onlyIPv6)
	if f.Client.Addr().Is4() {
		family = onlyIPv4
	}
	sport, dport := f.Client.Port(), f.VIP.Port()
	return r.Families&family != 0 && (f.Proto^r.Proto)&r.ProtoMask == 0 &&
		sport >= r.SportFirst && sport <= r.SportLast && dport >= r.DportFirst && dport <= r.DportLast &&
		fits(f.Client.Addr(), r.Source, r.SourceMask) && fits(f.VIP.Addr(), r.Vip, r.VipMask)
}
