package xdp

import (
	"net"
	"testing"

	"meridian/internal/testkit"
	"meridian/internal/testkit/netns"
)

// What is sent natively from a veth device may be thrown away by its other end:
// it is attached to natively only where that is asked for.
func TestVethIsAttachedToGenerically(t *testing.T) {
	for asked, want := range map[Mode]Mode{Auto: Generic, Native: Native} {
		if got := newSite(t, spec, asked).mode(); got != want {
			t.Errorf("asked for mode %q: attached in mode %q, want %q", asked, got, want)
		}
	}
}

// A program that was taken off its device is not there, though it has a link.
func TestTakenOffTheDevice(t *testing.T) {
	testkit.Root(t)
	m := newMachine(t, newPlan(t, spec, nil))
	ns, err := netns.New("off")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
	err = ns.Enter(func() error {
		dev, err := net.InterfaceByName("lo")
		if err != nil {
			return err
		}
		l, _, err := attach(m.Dns, dev, Generic)
		if err != nil {
			return err
		}
		defer l.Close()
		p := &Path{link: l}
		if !p.attached(dev.Index) || p.attached(dev.Index+1) {
			t.Error("it is not at its device, or at another")
		}
		if err := l.Detach(); err != nil {
			return err
		}
		if p.attached(dev.Index) {
			t.Error("it is said to be at the device")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
