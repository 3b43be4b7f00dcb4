//go:build linux

package lab

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"meridian/internal/testkit"
	"meridian/internal/testkit/netns"
)

func newNS(t *testing.T, name string) *netns.NS {
	t.Helper()
	testkit.Root(t)
	n, err := netns.New(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	return n
}

// eventually waits for a state of the kernel that has no event to wait for.
func eventually(t *testing.T, within time.Duration, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("not within %s: %s", within, what)
		}
	}
}

func TestWireDelaysFramesAndPassesLossOfCarrier(t *testing.T) {
	a, b := newNS(t, "a"), newNS(t, "b")
	w, err := newWire(
		netns.End{NS: a, Dev: "wan0", Addrs: []netip.Prefix{netip.MustParsePrefix("10.8.0.1/24")}},
		netns.End{NS: b, Dev: "wan0", Addrs: []netip.Prefix{netip.MustParsePrefix("10.8.0.2/24")}},
		30*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})

	l, err := b.Listen("tcp", "10.8.0.2:7000")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	connect := func() time.Duration {
		start := time.Now()
		c, err := a.Dial(t.Context(), "tcp", "10.8.0.2:7000")
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		return time.Since(start)
	}
	connect() // ARP
	if d := connect(); d < 60*time.Millisecond {
		t.Errorf("a handshake took %s, less than two delays", d)
	}

	down := func(n *netns.NS) bool {
		link, err := n.Netlink().LinkByName("wan0")
		return err == nil && link.Attrs().OperState == netlink.OperDown
	}
	if err := a.Down("wan0"); err != nil {
		t.Fatal(err)
	}
	eventually(t, 15*time.Second, "b loses carrier", func() bool { return down(b) })
	if err := a.Up("wan0"); err != nil {
		t.Fatal(err)
	}
	eventually(t, 15*time.Second, "b has carrier again", func() bool { return !down(b) })
	connect()
}
