package main

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"

	"meridian/fleet"
	"meridian/internal/testkit"
	"meridian/internal/testkit/netns"
)

func hostOf(t *testing.T, f fleet.Forwarding, vips, own string) *host {
	t.Helper()
	h := &host{forwarding: f}
	if err := h.parse(strings.Fields(vips), strings.Fields(own)); err != nil {
		t.Fatal(err)
	}
	return h
}

func printed(t *testing.T, steps []step) string {
	t.Helper()
	var b bytes.Buffer
	if err := script(&b, steps); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// setups are what hosts are told.
var setups = []struct {
	forwarding fleet.Forwarding
	vips, own  string
	want, undo string
}{
	{fleet.L2DSR, "192.0.2.10 2001:db8::10 198.51.100.0/28 2001:db8:1::/64", "", `
# answer ARP on each link for its own addresses alone
sysctl -w net/ipv4/conf/all/arp_ignore=1
# ask by ARP in the link's own name
sysctl -w net/ipv4/conf/all/arp_announce=2
# take packets for the VIP
ip address replace 192.0.2.10/32 dev lo
ip address replace 2001:db8::10/128 dev lo nodad preferred_lft 0
# take packets for the whole network
ip -4 route replace local 198.51.100.0/28 dev lo
ip -6 route replace local 2001:db8:1::/64 dev lo
`, `
# take the VIP off
ip address del 192.0.2.10/32 dev lo
ip address del 2001:db8::10/128 dev lo
ip -4 route del local 198.51.100.0/28 dev lo
ip -6 route del local 2001:db8:1::/64 dev lo
`},
	{fleet.IPIP, "192.0.2.10", "10.0.0.7", `
# answer ARP on each link for its own addresses alone
sysctl -w net/ipv4/conf/all/arp_ignore=1
# ask by ARP in the link's own name
sysctl -w net/ipv4/conf/all/arp_announce=2
# the tunnel's driver
modprobe ipip
# end the tunnel here
ip link add meridian4in4 type ipip local 10.0.0.7 remote any
ip link set meridian4in4 up
# take packets whose sender is reached by another device
sysctl -w net/ipv4/conf/meridian4in4/rp_filter=2
# the tunnel's driver
modprobe sit
# end the tunnel here
ip link add meridian6in4 type sit local 10.0.0.7 remote any
ip link set meridian6in4 up
# take packets for the VIP
ip address replace 192.0.2.10/32 dev lo
`, `
# take the VIP off
ip address del 192.0.2.10/32 dev lo
# take the tunnel down
ip link del meridian4in4
ip link del meridian6in4
`},
	{fleet.GUE, "2001:db8::10", "fd00::7", `
# UDP round the tunnel
modprobe fou6
# listen for the tunnel's datagrams
ip fou add port 6080 gue -6
# the tunnel's driver
modprobe ip6_tunnel
# end the tunnel here
ip link add meridianin6 type ip6tnl local fd00::7 remote any mode any encaplimit none
ip link set meridianin6 up
# take packets whose sender is reached by another device
sysctl -w net/ipv4/conf/meridianin6/rp_filter=2
# take packets for the VIP
ip address replace 2001:db8::10/128 dev lo nodad preferred_lft 0
`, `
# take the VIP off
ip address del 2001:db8::10/128 dev lo
# take the tunnel down
ip link del meridianin6
# listen for the tunnel's datagrams no more
ip fou del port 6080 -6
`},
}

func TestHostsetupPrintsCommands(t *testing.T) {
	for _, c := range setups {
		h := hostOf(t, c.forwarding, c.vips, c.own)
		if got := printed(t, h.steps()); got != c.want[1:] {
			t.Errorf("%s: got\n%s\nexpected\n%s", c.forwarding, got, c.want[1:])
		}
		if got := printed(t, h.undo()); got != c.undo[1:] {
			t.Errorf("%s, undo: got\n%s\nexpected\n%s", c.forwarding, got, c.undo[1:])
		}
	}
}

func TestHostsetupRefusesWhatItCannotSetUp(t *testing.T) {
	for _, c := range []struct {
		forwarding, vips, own, want string
	}{
		{"geneve", "192.0.2.10", "", "--forwarding geneve: expected ipip, gue, l2_dsr"},
		{"l2_dsr", "", "", "expected --vip"},
		{"ipip", "192.0.2.10", "10.0.0.7 fd00::7 10.0.0.8", "--own 10.0.0.8: expected one address by family"},
		{"l2_dsr", "192.0.2.10/28", "", "--vip 192.0.2.10/28: expected an address, or a network as 192.0.2.0/28"},
		{"l2_dsr", "web.test", "", "--vip web.test: expected an address, or a network as 192.0.2.0/28"},
		{"ipip", "192.0.2.10", "", "forwarding ipip ends in a tunnel at the host: expected --own"},
		{"ipip", "192.0.2.10", "here", "--own here: expected an address"},
	} {
		h := &host{forwarding: fleet.Forwarding(c.forwarding)}
		if err := h.parse(strings.Fields(c.vips), strings.Fields(c.own)); err == nil || err.Error() != c.want {
			t.Errorf("error %v, expected %s", err, c.want)
		}
	}
}

func TestHostsetupsJSON(t *testing.T) {
	h := hostOf(t, fleet.L2DSR, "2001:db8::10", "")
	b, err := json.Marshal(map[string][]step{"commands": h.steps()})
	const want = `{"commands":[{"why":"take packets for the VIP","run":["ip","address","replace","2001:db8::10/128","dev","lo","nodad","preferred_lft","0"]}]}`
	if err != nil || string(b) != want {
		t.Errorf("%s, %v", b, err)
	}
}

// linked gives a namespace for a host, whose eth0 leads to a router.
func linked(t *testing.T) *netns.NS {
	t.Helper()
	var both [2]*netns.NS
	for i, name := range []string{"host", "peer"} {
		ns, err := netns.New(name)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { ns.Close() })
		both[i] = ns
	}
	own := []netip.Prefix{netip.MustParsePrefix("10.0.0.7/24"), netip.MustParsePrefix("fd00::7/64")}
	router := []netip.Prefix{netip.MustParsePrefix("10.0.0.1/24"), netip.MustParsePrefix("fd00::1/64")}
	if err := netns.Veth(netns.End{NS: both[0], Dev: "eth0", Addrs: own}, netns.End{NS: both[1], Dev: "eth0", Addrs: router}, 1500); err != nil {
		t.Fatal(err)
	}
	return both[0]
}

// do runs the commands in a namespace.
func do(t *testing.T, ns *netns.NS, steps []step) {
	t.Helper()
	for _, s := range steps {
		cmd := exec.Command(s.Run[0], s.Run[1:]...)
		cmd.Stderr = os.Stderr
		if err := ns.Start(cmd); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Fatalf("%s: %v", s.Run, err)
		}
	}
}

// What is printed does what it says, in a namespace; but for the tunnels, for
// which not every kernel has the drivers.
func TestHostsetupWorks(t *testing.T) {
	testkit.Root(t)
	testkit.Program(t, "ip")
	testkit.Program(t, "sysctl")
	ns := linked(t)
	h := hostOf(t, fleet.L2DSR, "192.0.2.10 2001:db8::10 198.51.100.0/28 2001:db8:1::/64", "")
	holds := func(addr string) error { return ns.Holds(netip.MustParseAddr(addr)) }
	addresses := []string{"192.0.2.10", "2001:db8::10", "198.51.100.5", "2001:db8:1::5"}
	for _, a := range addresses {
		if holds(a) == nil {
			t.Fatalf("%s is the host's before", a)
		}
	}
	for range 2 { // and again, which changes nothing
		do(t, ns, h.steps())
		for _, a := range addresses {
			if err := holds(a); err != nil {
				t.Errorf("%s is not the host's: %v", a, err)
			}
		}
	}
	if err := ns.Do(func() error {
		for key, want := range map[string]string{"arp_ignore": "1", "arp_announce": "2"} {
			if b, err := os.ReadFile("/proc/sys/net/ipv4/conf/all/" + key); err != nil || strings.TrimSpace(string(b)) != want {
				t.Errorf("%s is %q, %v", key, b, err)
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	do(t, ns, h.undo())
	for _, a := range addresses {
		if holds(a) == nil {
			t.Errorf("%s is the host's still", a)
		}
	}
}
