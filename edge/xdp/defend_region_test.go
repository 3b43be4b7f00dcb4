package xdp

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"meridian/fleet"
)

// reaches says whether a request comes back within a time too short for a second
// try of the handshake.
func (r *region) reaches(vip netip.Addr) bool {
	ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
	defer cancel()
	c, err := r.client.Dial(ctx, "tcp", netip.AddrPortFrom(vip, 80).String())
	if err == nil {
		c.Close()
	}
	return err == nil
}

// measures says whether there is a metric of that name.
func (l *Layer4) measures(t *testing.T, name string) bool {
	t.Helper()
	reg := prometheus.NewPedanticRegistry()
	l.Register(reg)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return true
		}
	}
	return false
}

// With real sockets: a World without the block list lets in whom one with it keeps
// out.
func TestDefenceOfARunningNode(t *testing.T) {
	const section = `
defence:
  allow: {prefixes: ["fd07:0::/64"]}
  block: {prefixes: [10.7.0.0/24]}
  sampling: {rate: 1}
`
	r := newRegion(t, regionSpec, 1500)
	lb := r.start(Auto)
	open, closed := r.world, worldOf(t, regionSpec+section)
	eventually(t, "answers without any defence", func() bool { return r.reaches(vip4) && r.reaches(vip6) })
	r.must(lb.Apply(closed))
	eventually(t, "the block list", func() bool { return !r.reaches(vip4) && lb.counted("drop_blocked") > 0 })
	eventually(t, "who is on no list gets in", func() bool { return r.reaches(vip6) })
	if traffic, err := lb.Traffic(); err != nil || traffic.Reasons["drop_blocked"] == 0 {
		t.Errorf("traffic %+v, %v", traffic, err)
	}
	r.must(lb.Apply(open))
	eventually(t, "no block list", func() bool { return r.reaches(vip4) })
}

// A rule that is added keeps a client out, is counted and sampled, and goes when it
// is taken away or its time has come.
func TestRuleOfARunningNode(t *testing.T) {
	r := newRegion(t, regionSpec+"defence: {sampling: {rate: 1}}\n", 1500)
	lb := r.start(Auto)
	eventually(t, "answers without a rule", func() bool { return r.reaches(vip4) })
	drop := fleet.PacketRule{Name: "out", Mode: fleet.RuleDrop, Until: time.Now().Add(time.Hour),
		Match: fleet.PacketMatch{Protocol: fleet.ProtocolTCP, Source: netip.MustParsePrefix("10.7.0.2/32"), Port: fleet.NumberRange{First: 80, Last: 80}}}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	seen := make(chan *Sample, 1)
	go lb.Samples(ctx, fleet.PacketSampling{Rate: 1, PerSecond: 10_000}, func(s *Sample) bool {
		if s.Reason != "drop_rule" {
			return true
		}
		seen <- s
		return false
	})
	r.must(lb.AddRule(drop))
	eventually(t, "the rule", func() bool { return !r.reaches(vip4) && lb.counted("drop_rule") > 0 })
	select {
	case s := <-seen:
		if s.Source.Addr() != netip.MustParseAddr("10.7.0.2") || s.Destination != netip.AddrPortFrom(vip4, 80) || !s.Defended {
			t.Errorf("sample %+v", s)
		}
	case <-ctx.Done():
		t.Error("no sample of what the rule drops")
	}
	list, err := lb.Rules()
	if err != nil || len(list) != 1 || list[0].Dropped == 0 || list[0].Origin != OriginNode {
		t.Errorf("rules %+v, %v", list, err)
	}
	traffic, err := lb.Traffic()
	if err != nil || traffic.Reasons["drop_rule"] == 0 || len(traffic.VIPs) == 0 {
		t.Errorf("traffic %+v, %v", traffic, err)
	}
	if !lb.measures(t, "meridian_l4_rule_dropped_total") {
		t.Error("the rule is not in the metrics")
	}
	if !lb.DropRule("out") {
		t.Error("the rule cannot be taken away")
	}
	eventually(t, "no rule", func() bool { return r.reaches(vip4) })

	// A rule ends by itself: the kernel knows when.
	drop.Until = time.Now().Add(2 * time.Second)
	r.must(lb.AddRule(drop))
	eventually(t, "the rule", func() bool { return !r.reaches(vip4) })
	eventually(t, "the rule's end", func() bool { return r.reaches(vip4) })
	if list, err := lb.Rules(); err != nil || len(list) > 0 {
		t.Errorf("rules %+v, %v", list, err)
	}
}
