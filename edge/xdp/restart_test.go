package xdp

import (
	"context"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"meridian/internal/testkit"
)

// bpffs gives a folder on a BPF file system of the test's own.
func bpffs(t *testing.T) string {
	t.Helper()
	testkit.Root(t)
	dir := t.TempDir()
	if err := unix.Mount("bpf", dir, "bpf", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir + "/node"
}

// asking sends datagrams to the VIP, each once the one before was answered, and
// gives how many were and how many were not within a second.
func (r *region) asking(ctx context.Context, vip netip.Addr) (answered, lost int, err error) {
	c, err := r.client.Dial(ctx, "udp", netip.AddrPortFrom(vip, 7).String())
	if err != nil {
		return 0, 0, err
	}
	defer c.Close()
	buf := make([]byte, 100)
	for ctx.Err() == nil {
		if _, err := c.Write([]byte("x")); err != nil {
			return answered, lost, err
		}
		c.SetReadDeadline(time.Now().Add(time.Second))
		if _, err := c.Read(buf); err != nil {
			lost++
		} else {
			answered++
		}
	}
	return answered, lost, nil
}

// A balancer that is started again, as another version would be, goes on with
// the tables it left: no packet is lost meanwhile, no flow moves, and the device
// notices nothing.
func TestRestartLosesNothing(t *testing.T) {
	r := newRegion(t, regionSpec, 1600)
	r.start(Native)
	r.stop["lb"]()
	dir := bpffs(t)
	t.Cleanup(func() {
		if err := Detach(dir); err != nil {
			t.Error(err)
		}
	})
	run := func() *Layer4 {
		l := r.run(r.lb, Config{Roles: Roles{L4: true}, Health: newTrackers(), Pins: dir})
		eventually(t, "ready", func() bool { return l.Ready() == nil })
		return l
	}
	run()
	owner := map[*conn]string{}
	for _, vip := range []netip.Addr{vip4, vip6} {
		for name, conns := range r.held(vip) {
			for _, c := range conns {
				owner[c] = name
			}
		}
	}
	updates, done := make(chan netlink.LinkUpdate, 1000), make(chan struct{})
	ns := r.lb.Handle()
	r.must(netlink.LinkSubscribeAt(ns, updates, done))
	before, err := r.lb.Netlink().LinkByName("eth0")
	r.must(err)

	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for _, vip := range []netip.Addr{vip4, vip6} {
		wg.Go(func() {
			answered, lost, err := r.asking(ctx, vip)
			if err != nil || lost > 0 || answered == 0 {
				t.Errorf("%s: %d datagrams answered, %d lost, %v", vip, answered, lost, err)
			}
		})
	}
	for range 5 {
		r.stop["lb"]()
		if got := attachedTo(t, r.lb, "eth0"); got != Native {
			t.Errorf("attached in mode %q while no process is there", got)
		}
		for c, want := range owner {
			if name, err := c.ask(); err != nil || name != want {
				t.Errorf("while no process is there: answered by %q, %v; expected %s", name, err, want)
			}
		}
		run()
		for c, want := range owner {
			if name, err := c.ask(); err != nil || name != want {
				t.Errorf("after a restart: answered by %q, %v; expected %s", name, err, want)
			}
		}
	}
	cancel()
	wg.Wait()
	after, err := r.lb.Netlink().LinkByName("eth0")
	r.must(err)
	if a, b := before.Attrs().Xdp.ProgId, after.Attrs().Xdp.ProgId; a == b {
		t.Errorf("program %d is still at the device", a)
	}
	close(done)
	for u := range updates {
		if u.Attrs().Name == "eth0" && u.IfInfomsg.Flags&unix.IFF_RUNNING == 0 {
			t.Error("the device went down")
		}
	}
}

// What was kept is let go of by Detach.
func TestDetach(t *testing.T) {
	r := newRegion(t, regionSpec, 1600)
	dir := bpffs(t)
	l := r.run(r.gw1, Config{Roles: Roles{L7: true}, Pins: dir})
	eventually(t, "ready", func() bool { return l.Ready() == nil })
	r.stop["gw1"]()
	if got := attachedTo(t, r.gw1, "eth0"); got != Native {
		t.Errorf("attached in mode %q", got)
	}
	for i := range 2 {
		if err := Detach(dir); err != nil {
			t.Errorf("call %d: %v", i, err)
		}
		if got := attachedTo(t, r.gw1, "eth0"); got != "" {
			t.Errorf("still attached in mode %q", got)
		}
	}
}

// A folder that cannot keep anything is refused, with the reason.
func TestPinsNeedABPFFileSystem(t *testing.T) {
	testkit.Root(t)
	_, err := load(Key{7}, 1<<10, pins(t.TempDir()))
	if err == nil || !strings.Contains(err.Error(), "not on a BPF file system") {
		t.Errorf("an ordinary folder: %v", err)
	}
}
