package xdp

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"meridian/internal/testkit/netns"
)

// attachedTo gives the mode in which a program is at a device, by the kernel's
// word.
func attachedTo(t *testing.T, ns *netns.NS, dev string) Mode {
	t.Helper()
	link, err := ns.Netlink().LinkByName(dev)
	if err != nil {
		t.Fatal(err)
	}
	switch x := link.Attrs().Xdp; {
	case x == nil || !x.Attached:
		return ""
	case x.AttachMode == 1:
		return Native
	case x.AttachMode == 2:
		return Generic
	}
	return "?"
}

// The program comes with Run and goes with it, in the mode asked for; a device
// that takes no native program gets a generic one.
func TestAttachment(t *testing.T) {
	for _, c := range []struct {
		mode   Mode
		device string
		want   Mode
	}{{Auto, "eth0", Native}, {Native, "eth0", Native}, {Generic, "eth0", Generic}, {Auto, "lo", Generic}} {
		t.Run(string(c.mode)+" on "+c.device, func(t *testing.T) {
			r := newRegion(t, regionSpec, 1500)
			for range 2 { // a restart finds nothing in its way
				l := r.run(r.gw1, Config{Roles: Roles{L7: true}, Mode: c.mode, Device: c.device})
				eventually(t, "ready", func() bool { return l.Ready() == nil })
				if got := attachedTo(t, r.gw1, c.device); got != c.want {
					t.Errorf("attached in mode %q, expected %q", got, c.want)
				}
				r.stop["gw1"]()
				if got := attachedTo(t, r.gw1, c.device); got != "" {
					t.Errorf("still attached in mode %q after the end", got)
				}
				if l.Ready() == nil {
					t.Error("ready after the end")
				}
			}
		})
	}
}

// What a generic program sees must not be merged.
func TestGenericModeTurnsReceiveOffloadOff(t *testing.T) {
	r := newRegion(t, regionSpec, 1500)
	gro := func(cmd, value uint32) (got uint32) {
		r.must(r.gw1.Do(func() (err error) {
			got, err = ethtool("eth0", cmd, value)
			return err
		}))
		return got
	}
	for _, c := range []struct {
		mode Mode
		want uint32
	}{{Native, 1}, {Generic, 0}} {
		gro(unix.ETHTOOL_SGRO, 1)
		l := r.run(r.gw1, Config{Roles: Roles{L7: true}, Mode: c.mode})
		eventually(t, "ready", func() bool { return l.Ready() == nil })
		if got := gro(unix.ETHTOOL_GGRO, 0); got != c.want {
			t.Errorf("in mode %s receive offload is %d, expected %d", c.mode, got, c.want)
		}
		r.stop["gw1"]()
	}
}

func TestRunSaysWhyItCannotAttach(t *testing.T) {
	r := newRegion(t, regionSpec, 1500)
	for _, c := range []struct {
		mode         Mode
		device, want string
	}{{Native, "lo", "attach to lo in native mode"}, {Auto, "eth7", "device eth7: Link not found"}} {
		l, err := New(Config{Node: "gw1", Roles: Roles{L7: true}, Mode: c.mode, Device: c.device})
		r.must(err)
		r.must(l.Apply(r.world))
		err = r.gw1.Enter(func() error { return l.Run(context.Background()) })
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("Run: %v, expected %q", err, c.want)
		}
	}
	first := r.run(r.gw1, Config{Roles: Roles{L7: true}})
	eventually(t, "ready", func() bool { return first.Ready() == nil })
	second, err := New(Config{Node: "gw1", Roles: Roles{L7: true}})
	r.must(err)
	r.must(second.Apply(r.world))
	err = r.gw1.Enter(func() error { return second.Run(context.Background()) })
	if err == nil || !strings.Contains(err.Error(), "attach to eth0 in native mode") || !strings.Contains(err.Error(), "the program of another edge is there (id ") {
		t.Errorf("a second one on the device: %v, expected that it cannot attach", err)
	}
}

// Another program at the device is named, whatever its mode and ours; and stays.
func TestAnotherProgramAtTheDevice(t *testing.T) {
	r := newRegion(t, regionSpec, 1500)
	other, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: "firewall", Type: ebpf.XDP,
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 2), asm.Return()}}) // XDP_PASS
	r.must(err)
	defer other.Close()
	info, err := other.Info()
	r.must(err)
	id, _ := info.ID()
	eth0, err := r.gw1.Netlink().LinkByName("eth0")
	r.must(err)
	want := fmt.Sprintf("the XDP program firewall is there (id %d), and layer 4 shares a device with none: take that off first (ip link set dev eth0 xdp off", id)
	for _, theirs := range []int{nl.XDP_FLAGS_DRV_MODE, nl.XDP_FLAGS_SKB_MODE} {
		r.must(r.gw1.Do(func() error { return netlink.LinkSetXdpFdWithFlags(eth0, other.FD(), theirs) }))
		for _, mode := range []Mode{Auto, Native, Generic} {
			l, err := New(Config{Node: "gw1", Roles: Roles{L7: true}, Mode: mode})
			r.must(err)
			r.must(l.Apply(r.world))
			err = r.gw1.Enter(func() error { return l.Run(t.Context()) })
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("theirs is attached by %d, ours to be in mode %s: %v", theirs, mode, err)
			}
		}
		if attachedTo(t, r.gw1, "eth0") == "" {
			t.Error("the other program is gone")
		}
		r.must(r.gw1.Do(func() error { return netlink.LinkSetXdpFdWithFlags(eth0, -1, theirs) }))
	}
}

// Without a World Run waits, and ends when told to.
func TestRunEndsWithoutAWorld(t *testing.T) {
	l, err := New(Config{Node: "gw1", Roles: Roles{L7: true}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := l.Run(ctx); err != nil {
		t.Error(err)
	}
}

// A World with another own address of the node is taken up by a new session if
// the machine holds the address, else refused.
func TestOwnAddressMayChange(t *testing.T) {
	r := newRegion(t, regionSpec, 1600)
	lb := r.start(Native)
	wrong := worldOf(t, strings.Replace(regionSpec, "10.7.1.2", "10.7.1.9", 1))
	apply := func() error { return r.lb.Do(func() error { return lb.Apply(wrong) }) }
	if err := apply(); err == nil || !strings.Contains(err.Error(), `node "lb": no device holds the node's address: [10.7.1.9]`) {
		t.Errorf("an address that the machine has not: %v", err)
	}
	uses := func(want string) func() bool {
		return func() bool {
			_, err := r.post(vip4, 1000)
			own, _ := lb.ownInTables()
			return err == nil && lb.Ready() == nil && own == netip.MustParseAddr(want)
		}
	}
	eventually(t, "an answer by the old address", uses("10.7.1.2"))
	r.must(r.lb.AddAddr("eth0", netip.MustParsePrefix("10.7.1.9/24")))
	r.world = wrong
	r.must(apply())
	for _, name := range []string{"gw1", "gw2"} {
		r.must(r.nodes[name].Apply(r.world)) // they trust the new address
	}
	eventually(t, "an answer by the new address", uses("10.7.1.9"))
	if got := attachedTo(t, r.lb, "eth0"); got != Native {
		t.Errorf("attached in mode %q after the change", got)
	}
}

// Where the new address has gone by the time that the session should follow,
// the old session stays and serves; it follows when the address is back.
func TestOldSessionStaysUntilTheNewAddressIsThere(t *testing.T) {
	r := newRegion(t, regionSpec, 1600)
	r.start(Native)
	r.stop["lb"]()
	lb := r.run(r.lb, Config{Roles: Roles{L4: true}, Mode: Native, Health: newTrackers(), Pins: pinned(t)})
	eventually(t, "ready", func() bool { return lb.Ready() == nil })
	next := worldOf(t, strings.NewReplacer("10.7.1.2", "10.7.1.9", "fd07:1::2", "fd07:1::9").Replace(regionSpec))
	d, err := plan(next, "lb", Roles{L4: true})
	r.must(err)
	lb.want.Store(d) // as Apply would have, with the addresses there
	poke(lb.kick)
	eventually(t, "a reason", func() bool {
		err := lb.Ready()
		return err != nil && strings.Contains(err.Error(), "the old one stays in use")
	})
	if _, err := r.post(vip4, 1000); err != nil {
		t.Errorf("by the old session: %v", err)
	}
	counts := func() (failures, changes uint64) {
		lb.stats.mu.Lock()
		defer lb.stats.mu.Unlock()
		return lb.stats.failures, lb.stats.changes
	}
	failures, changes := counts()
	eventually(t, "more tries", func() bool { now, _ := counts(); return now >= failures+2 })
	if _, now := counts(); now != changes {
		t.Errorf("rings were written %d times, though nothing has changed", now-changes)
	}
	for _, a := range []string{"10.7.1.9/24", "fd07:1::9/64"} {
		r.must(r.lb.AddAddr("eth0", netip.MustParsePrefix(a)))
	}
	for _, name := range []string{"gw1", "gw2"} {
		r.must(r.nodes[name].Apply(next))
	}
	eventually(t, "the new address in use", func() bool {
		own, _ := lb.ownInTables()
		return lb.Ready() == nil && own == netip.MustParseAddr("10.7.1.9")
	})
}

// An own address at another device takes the program there, and what is kept is that
// at the new one; where another program has the device, the old one stays at its
// own, and outlives the process there.
func TestProgramMovesToAnotherDevice(t *testing.T) {
	for _, taken := range []bool{false, true} {
		t.Run(fmt.Sprintf("taken=%v", taken), func(t *testing.T) {
			r := newRegion(t, regionSpec, 1600)
			r.start(Native)
			r.stop["lb"]()
			lb := r.run(r.lb, Config{Roles: Roles{L4: true}, Mode: Native, Health: newTrackers(), Pins: pinned(t)})
			eventually(t, "ready", func() bool { return lb.Ready() == nil })
			r.must(netns.Veth(netns.End{NS: r.lb, Dev: "other", Addrs: []netip.Prefix{netip.MustParsePrefix("10.8.0.2/24")}},
				netns.End{NS: r.router, Dev: "other"}, 1500))
			if taken {
				pass, err := r.lb.PassXDP("other")
				r.must(err)
				defer pass.Close()
			}
			next := worldOf(t, strings.NewReplacer("10.7.1.2", "10.8.0.2", `, v6: "fd07:1::2"`, "").Replace(regionSpec))
			r.must(r.lb.Do(func() error { return lb.Apply(next) }))
			at, off := "other", "eth0"
			if taken {
				at, off = "eth0", "other"
				eventually(t, "a reason", func() bool {
					err := lb.Ready()
					return err != nil && strings.Contains(err.Error(), "the old one stays in use") && strings.Contains(err.Error(), "shares a device with none")
				})
				if _, err := r.post(vip4, 1000); err != nil {
					t.Errorf("by the old session: %v", err)
				}
			} else {
				eventually(t, "the program at the other device", func() bool {
					return attachedTo(t, r.lb, "other") == Native && attachedTo(t, r.lb, "eth0") == ""
				})
			}
			r.stop["lb"]()
			if got := attachedTo(t, r.lb, at); got != Native {
				t.Errorf("after the end the program is attached to %s in mode %q", at, got)
			}
			if got := attachedTo(t, r.lb, off); (got != "") != taken {
				t.Errorf("after the end a program is attached to %s in mode %q", off, got)
			}
		})
	}
}

// A session at another device lets go of the neighbours at the one before, though
// with pins that one's end lets nothing go; and at its own end keeps, with pins,
// those that the program goes on by.
func TestNeighboursAtTheDeviceBeforeAreLetGo(t *testing.T) {
	for _, kept := range []bool{false, true} {
		t.Run(fmt.Sprintf("pins=%v", kept), func(t *testing.T) {
			r := newRegion(t, regionSpec, 1600)
			cfg := Config{Roles: Roles{L4: true}, Mode: Native, Health: newTrackers()}
			if kept {
				cfg.Pins = pinned(t)
			}
			lb := r.run(r.lb, cfg)
			holds := func(want ...string) func() bool {
				return func() bool { return slices.Equal(keptAt(t, r.lb), want) }
			}
			eventually(t, "the router is kept", holds("10.7.1.1", "fd07:1::1"))
			r.must(netns.Veth(netns.End{NS: r.lb, Dev: "other", Addrs: []netip.Prefix{netip.MustParsePrefix("10.8.0.2/24")}},
				netns.End{NS: r.router, Dev: "other"}, 1500))
			next := worldOf(t, strings.NewReplacer("10.7.1.2", "10.8.0.2", "10.7.2.2", "10.8.0.3", "10.7.3.2", "10.8.0.4",
				`, v6: "fd07:1::2"`, "", `, v6: "fd07:2::2"`, "", `, v6: "fd07:3::2"`, "").Replace(regionSpec))
			r.must(r.lb.Do(func() error { return lb.Apply(next) }))
			eventually(t, "the gateways at the other device are kept, and they alone", holds("10.8.0.3", "10.8.0.4"))
			r.stop["lb"]()
			if got := len(keptAt(t, r.lb)); got > 0 != kept {
				t.Errorf("after the end %d are kept", got)
			}
		})
	}
}

// A machine's network may come up after the program.
func TestRunWaitsForTheNodesAddress(t *testing.T) {
	r := newRegion(t, strings.NewReplacer("10.7.2.2\"", "10.7.2.9\"", "v4: 10.7.2.2", "v4: 10.7.2.9", `, v6: "fd07:2::2"`, "").Replace(regionSpec), 1500)
	l := r.run(r.gw1, Config{Roles: Roles{L7: true}})
	eventually(t, "a reason", func() bool { return errors.Is(l.Ready(), errNoAddress) })
	r.must(r.gw1.AddAddr("eth0", netip.MustParsePrefix("10.7.2.9/24")))
	eventually(t, "ready", func() bool { return l.Ready() == nil })
}

// ownInTables reads the node's own IPv4 address as the program has it.
func (l *Layer4) ownInTables() (netip.Addr, error) {
	l.stats.mu.Lock()
	defer l.stats.mu.Unlock()
	var n edgeNode
	if l.stats.kernel == nil {
		return netip.Addr{}, errNotAttached
	}
	err := l.stats.kernel.Self.Lookup(uint32(0), &n)
	return netip.AddrFrom16(n.Own4.Octet).Unmap(), err
}

func TestMetrics(t *testing.T) {
	r := newRegion(t, regionSpec, 1600)
	lb := r.start(Native)
	reg := prometheus.NewPedanticRegistry()
	lb.Register(reg)
	eventually(t, "both in the ring", func() bool { return lb.ringMembers("gateways/ipip/v4") == 2 })
	if _, err := r.post(vip4, 1000); err != nil {
		t.Fatal(err)
	}
	families, err := reg.Gather()
	r.must(err)
	values := map[string]float64{}
	for _, f := range families {
		for _, m := range f.Metric {
			name := f.GetName()
			for _, l := range m.Label {
				name += " " + l.GetName() + "=" + l.GetValue()
			}
			values[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	for name, want := range map[string]float64{
		"meridian_l4_attached mode=native":                        1,
		"meridian_l4_ring_members group=echo/7/v6":                2,
		"meridian_l4_ring_members group=gateways/ipip/v4":         2,
		"meridian_l4_members group=gateways/ipip/v4 state=active": 2,
		"meridian_l4_reconcile_failures_total":                    0,
		"meridian_l4_packets_total reason=untrusted verdict=drop": 0,
	} {
		if got, ok := values[name]; !ok || got != want {
			t.Errorf("%s is %v, expected %v", name, got, want)
		}
	}
	for _, name := range []string{
		"meridian_l4_packets_total reason=tunnel verdict=tx",
		"meridian_l4_packets_total reason=reply verdict=drop",
		"meridian_l4_flow_lookups_total result=safe",
		"meridian_l4_vip_packets_total service=web vip=tcp/192.0.2.10:80",
		"meridian_l4_vip_bytes_total service=web vip=tcp/192.0.2.10:80",
		"meridian_l4_checks_total result=ok",
		"meridian_l4_ring_changes_total",
	} {
		if values[name] == 0 {
			t.Errorf("%s is 0 or absent; there are %v", name, values)
		}
	}
}
