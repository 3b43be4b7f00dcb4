package xdp

import (
	"fmt"
	"net/netip"
	"strings"
)

// defended adds what the defence makes of the flow's packets.
func (x *explainer) defended(vip edgeVip) error {
	e := x.e
	under, err := x.kernel.attacked(vip.Stats)
	if err != nil {
		return err
	}
	if gate := edgeGateMode(vip.Gate); gate == edgeGateModeGATE_SHUT || gate == edgeGateModeGATE_AUTO && under {
		e.Reason += "; but a SYN is answered with a cookie, and what is of no known flow and brings none is let through as far as that is usual"
	}
	if e.Rules, err = x.ruled(); err != nil {
		return err
	}
	if len(e.Rules) > 0 {
		e.Reason += "; unless a rule decides: " + strings.Join(e.Rules, ", ") + " may match, by addresses, protocol and ports"
	}
	if why := x.guard.stops(x.flow.Client.Addr()); why != "" {
		e.GoesTo, e.Reason = nil, "the defence drops what comes from "+x.flow.Client.Addr().String()+" ("+why+"); without it: "+e.Reason
	}
	return nil
}

// ruled names the rules in force that packets of the flow may meet, with their
// modes, in order.
func (x *explainer) ruled() (names []string, err error) {
	if x.guard == nil || len(x.guard.rules) == 0 {
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
	for i := range min(int(sets[0].Count), len(x.guard.rules)) {
		r := &sets[0].Rule[i]
		if (r.Until == 0 || r.Until > now) && r.may(x.flow) {
			names = append(names, fmt.Sprintf("%s (%s)", x.guard.rules[i].Name, x.guard.rules[i].Mode))
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
