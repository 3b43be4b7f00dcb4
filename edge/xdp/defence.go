package xdp

import (
	"time"

	"meridian/fleet"
	"meridian/geo"
)

// SetGeo takes another geo database into use for the lists of countries and AS
// numbers. On an error the last one stays.
func (l *Layer4) SetGeo(source geo.Source) error { return l.guard.setGeo(source) }

// AddRule puts a rule in force on this node, before the Spec's, until its time
// has come, which has to be given; one of the same name that was added gives
// way to it. Errors are ErrRule.
func (l *Layer4) AddRule(r fleet.PacketRule) error { return l.guard.add(r) }

// DropRule takes away a rule that was added; false: there is none of that name.
func (l *Layer4) DropRule(name string) bool { return l.guard.drop(name) }

// Where a rule comes from: the Spec, or AddRule.
const (
	OriginSpec = "spec"
	OriginNode = "node"
)

// RuleStatus is a rule in force and what it has met since it came.
type RuleStatus struct {
	fleet.PacketRule
	Origin  string `json:"origin"`  // OriginSpec or OriginNode
	Packets uint64 `json:"packets"` // that matched
	Octets  uint64 `json:"octets"`  // of them, IP packets
	Dropped uint64 `json:"dropped"` // packets of them
}

// Rules lists the rules in force, in their order.
func (l *Layer4) Rules() ([]RuleStatus, error) {
	now := bootSecond(time.Now())
	out := []RuleStatus{}
	for _, r := range l.guard.guard.Load().rules {
		if r.until != 0 && r.until <= now {
			continue
		}
		s := RuleStatus{PacketRule: r.PacketRule, Origin: r.origin()}
		t, err := l.stats.rule(r.key())
		if err != nil {
			return nil, err
		}
		s.Packets, s.Octets, s.Dropped = t.Packets, t.Octets, t.Dropped
		out = append(out, s)
	}
	return out, nil
}

func (r *rule) origin() string { return r.key().origin() }

func (k ruleKey) origin() string {
	if k.added {
		return OriginNode
	}
	return OriginSpec
}

// Traffic is what the node has met since the program was loaded.
type Traffic struct {
	Reasons map[string]uint64 `json:"reasons"` // packets by what became of them, as in meridian_l4_packets_total
	VIPs    []VIPTraffic      `json:"vips"`
	Seen    uint64            `json:"seen"` // packets while sampling was on
	Lost    uint64            `json:"lost"` // samples beyond the budget, or that nobody read in time
}

// VIPTraffic is one VIP's, without what was dropped before.
type VIPTraffic struct {
	VIP     string `json:"vip"` // as tcp/192.0.2.1:443
	Service string `json:"service"`
	Packets uint64 `json:"packets"`
	Octets  uint64 `json:"octets"`
}

// Traffic reads the counters. Without a program at the device all are 0.
func (l *Layer4) Traffic() (Traffic, error) { return l.stats.traffic() }
