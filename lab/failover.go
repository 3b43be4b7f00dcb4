//go:build linux

package lab

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/miekg/dns"
)

// pollEvery is the time between two looks while a failover is measured.
const pollEvery = 10 * time.Millisecond

// dnsFailover waits until the nameserver of region at answers the clients of
// region dead with another address than that region's, and gives the time
// since then. It asks from the nameserver's own machine, so that no distance
// is part of the figure.
func (l *Lab) dnsFailover(ctx context.Context, at *Region, dead *Region, since time.Time) (time.Duration, error) {
	node := at.Of(Gslb)[0]
	v4, _ := l.Topology.Addr(at, node)
	server := netip.AddrPortFrom(v4, l.Topology.DNSPort)
	subnet := l.Topology.CitiesOf(dead.ID)[0].Subnet
	old := dead.VIPs.V4[0]
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	var last error
	for {
		addrs, _, err := ask(ctx, l, node.Name, server, question{RegionalName, dns.TypeA}, subnet)
		if err == nil && !slices.Contains(addrs, old) {
			return time.Since(since), nil
		}
		last = err
		select {
		case <-ctx.Done():
			return 0, fmt.Errorf("nameserver %s still sends clients to %s (last error: %v)", node.Name, dead.ID, last)
		case <-tick.C:
		}
	}
}

// bgpFailover waits until the core router of the dead region's continent
// sends an anycast VIP elsewhere than to the dead region, in the kernel's own
// table, and gives the time since then.
func (l *Lab) bgpFailover(ctx context.Context, dead *Region, vip netip.Addr, since time.Time) (time.Duration, error) {
	core := l.in.Machine("core-" + dead.ID)
	p := netip.PrefixFrom(vip, vip.BitLen())
	old4, old6 := dead.uplink().host(2)
	tick := time.NewTicker(pollEvery / 5)
	defer tick.Stop()
	for {
		have, err := routesOf(core.Netlink())
		if hops := have[p]; err == nil && len(hops) > 0 && !slices.Contains(hops, old4) && !slices.Contains(hops, old6) {
			return time.Since(since), nil
		}
		select {
		case <-ctx.Done():
			return 0, fmt.Errorf("core-%s still has no other way to %s (last error: %v)", dead.ID, vip, err)
		case <-tick.C:
		}
	}
}

// home says whether everything of region r is where it belongs: every live
// nameserver sends its clients to it, and to the anycast addresses, of both
// families, and the core its anycast traffic.
func (l *Lab) home(ctx context.Context, r *Region) bool {
	for i := range l.Topology.Regions {
		at := &l.Topology.Regions[i]
		if !l.Alive(at.ID) {
			continue
		}
		node := at.Of(Gslb)[0]
		v4, _ := l.Topology.Addr(at, node)
		for _, q := range l.Topology.questions() {
			want := r.VIPs.All()
			if q.name == AnycastName {
				want = l.Topology.Anycast.All()
			}
			addrs, _, err := ask(ctx, l, node.Name, netip.AddrPortFrom(v4, l.Topology.DNSPort), q, l.Topology.CitiesOf(r.ID)[0].Subnet)
			if err != nil || !slices.ContainsFunc(addrs, func(a netip.Addr) bool { return slices.Contains(want, a) }) {
				return false
			}
		}
	}
	if l.in == nil {
		return true
	}
	have, err := routesOf(l.in.Machine("core-" + r.ID).Netlink())
	v4, v6 := r.uplink().host(2)
	for _, vip := range l.Topology.Anycast.All() {
		hops := have[netip.PrefixFrom(vip, vip.BitLen())]
		if err != nil || !(slices.Contains(hops, v4) || slices.Contains(hops, v6)) {
			return false
		}
	}
	return true
}

// settledFor is how long everything must be as it should before it counts.
const settledFor = 3 * time.Second

// settled waits until every region has been home, and every city served
// without a failure, for a while.
func (l *Lab) settled(ctx context.Context, t *tally) error {
	var since time.Time
	for {
		ok := t.calm(l.Topology.Cities, 5)
		for i := range l.Topology.Regions {
			ok = ok && l.home(ctx, &l.Topology.Regions[i])
		}
		switch {
		case !ok:
			since = time.Time{}
		case since.IsZero():
			since = time.Now()
		case time.Since(since) > settledFor:
			return nil
		}
		if dead := l.ps.fallen(); dead != nil {
			return dead
		}
		if wait(ctx, 100*time.Millisecond) != nil {
			return fmt.Errorf("the fleet did not settle: %s", l.unsettled(context.WithoutCancel(ctx), t))
		}
	}
}

// unsettled says what is not as it should be, for people.
func (l *Lab) unsettled(ctx context.Context, t *tally) string {
	s := ""
	for i := range l.Topology.Regions {
		if r := &l.Topology.Regions[i]; !l.home(ctx, r) {
			s += fmt.Sprintf("clients of %s are not sent to it; ", r.ID)
		}
	}
	for city, r := range t.last() {
		if r.err != nil {
			s += fmt.Sprintf("%s: %v; ", city, r.err)
		}
	}
	return s + "logs are in " + l.path("logs")
}
