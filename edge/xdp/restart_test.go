package xdp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"meridian/internal/testkit"
	"meridian/internal/testkit/netns"
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
// gives how many were and how many were not. Not each within a second, for a machine
// that is busy takes its time; but who is asked patiently waits for all in the end.
func (r *region) asking(ctx context.Context, vip netip.Addr, patience time.Duration) (answered, lost int, err error) {
	c, err := r.client.Dial(ctx, "udp", netip.AddrPortFrom(vip, 7).String())
	if err != nil {
		return 0, 0, err
	}
	defer c.Close()
	open, buf := map[int]bool{}, make([]byte, 100) // by length, which the answer tells
	await := func(within time.Duration, enough func() bool) {
		c.SetReadDeadline(time.Now().Add(within))
		for !enough() {
			n, err := c.Read(buf)
			if err != nil {
				return
			}
			var name string
			var length int
			if _, err := fmt.Sscan(string(buf[:n]), &name, &length); err == nil && open[length] {
				delete(open, length)
				answered++
			}
		}
	}
	for length := 1; ctx.Err() == nil; length = length%1000 + 1 {
		if open[length] {
			lost++ // a thousand ago
		}
		open[length] = true
		if _, err := c.Write(make([]byte, length)); err != nil {
			return answered, lost, err
		}
		await(time.Second, func() bool { return !open[length] })
	}
	await(patience, func() bool { return len(open) == 0 })
	return answered, lost + len(open), nil
}

// A node that is started again, as another version would be, goes on with the
// tables it left: no packet is lost meanwhile, no flow moves, what was counted
// counts on, and the device notices nothing. Where the flow table begins anew with
// another size, or all tables do, since their layout is another, flows move that
// only its records held, and no connections to gateways.
func TestRestartLosesNothing(t *testing.T) {
	for name, c := range map[string]struct {
		gateway bool
		flows   func(start int) int      // nil: as ever
		between func(*testing.T, string) // done to the pins while no process is there
		anew    bool                     // records of flows begin anew
	}{
		"balancer":               {},
		"balancer, more flows":   {flows: func(start int) int { return 1 << (12 + start) }, anew: true},
		"balancer, other layout": {between: otherLayout, anew: true},
		"gateway":                {gateway: true},
		"gateway, other layout":  {gateway: true, between: otherLayout},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRegion(t, regionSpec, 1600)
			r.start(Native)
			ns, cfg := r.lb, Config{Roles: Roles{L4: true}, Health: newTrackers()}
			if c.gateway {
				ns, cfg = r.gw1, Config{Roles: Roles{L7: true}}
			}
			cfg.Pins = pinned(t)
			start, counted := 0, uint64(0)
			run := func() {
				if c.flows != nil {
					cfg.Flows = c.flows(start)
				}
				start++
				l := r.run(ns, cfg)
				eventually(t, "ready", func() bool { return l.Ready() == nil })
			}
			r.stop[ns.Name]()
			run()
			layout := layouts(t, cfg.Pins)
			connections, flows := r.spreadOut(), r.recorded()
			r.unmoved(ns, func() {
				for i := range 3 {
					counted = r.counted(ns.Name)
					r.stop[ns.Name]()
					connections.stay(t, "while no process is there")
					if c.between != nil {
						c.between(t, cfg.Pins)
					}
					run()
					connections.stay(t, "after a restart")
					if i == 0 && c.anew {
						flows.move(t)
					}
					flows.stay(t, "after a restart")
					if got := r.counted(ns.Name); got < counted && c.between == nil {
						t.Errorf("packets of VIPs: %d after %d", got, counted)
					}
					if got := layouts(t, cfg.Pins); !slices.Equal(got, layout) {
						t.Errorf("tables are kept in %v, were in %v", got, layout)
					}
				}
			})
		})
	}
}

// layouts lists the folders of tables in one of pins.
func layouts(t *testing.T, dir string) (out []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.IsDir() {
			out = append(out, e.Name())
		}
	}
	return out
}

// counted gives how many packets a node has met at its VIPs.
func (r *region) counted(node string) (n uint64) {
	r.t.Helper()
	traffic, err := r.nodes[node].Traffic()
	r.must(err)
	for _, v := range traffic.VIPs {
		n += v.Packets
	}
	return n
}

// pinned gives a folder for pins, let go of at the test's end.
func pinned(t *testing.T) string {
	t.Helper()
	dir := bpffs(t)
	t.Cleanup(func() {
		if _, err := Detach(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// otherLayout has the tables in the folder be those of another layout.
func otherLayout(t *testing.T, dir string) {
	t.Helper()
	for _, name := range layouts(t, dir) {
		if err := os.Rename(filepath.Join(dir, name), filepath.Join(dir, "0123456789abcdef")); err != nil {
			t.Fatal(err)
		}
	}
}

// owners says whose each connection or flow is.
type owners map[asker]string

// recorded opens flows of datagrams, and has one of the two endpoints drain: those
// that are there stay for their records alone.
func (r *region) recorded() owners {
	r.t.Helper()
	out, at := owners{}, map[string]int{}
	for _, vip := range []netip.Addr{vip4, vip6} {
		for range 24 {
			flow := r.datagrams(vip)
			name, err := flow.ask()
			r.must(err)
			out[flow] = name
			at[name]++
		}
	}
	if len(at) != 2 {
		r.t.Fatalf("flows are at %v", at)
	}
	r.world = worldOf(r.t, strings.Replace(regionSpec, `{address: "10.7.3.2:7"}`, `{address: "10.7.3.2:7", state: draining}`, 1))
	for _, l := range r.nodes {
		r.must(l.Apply(r.world))
	}
	eventually(r.t, "one endpoint in the ring", func() bool {
		return r.nodes["lb"].ringMembers("echo/7/v4") == 1 && r.nodes["lb"].ringMembers("echo/7/v6") == 1
	})
	out.stay(r.t, "when an endpoint drains")
	return out
}

// move sees some go to others, and takes those for the owners.
func (o owners) move(t *testing.T) {
	t.Helper()
	moved := 0
	for c, was := range o {
		name, err := c.ask()
		if err != nil {
			t.Errorf("%s does not answer: %v", was, err)
		}
		if name != was {
			o[c] = name
			moved++
		}
	}
	if moved == 0 {
		t.Errorf("of %d none has moved", len(o))
	}
}

// spreadOut opens connections to both VIPs, some of them while gw1 takes no new ones.
func (r *region) spreadOut() owners {
	r.t.Helper()
	lb, out := r.nodes["lb"], owners{}
	in := func(n int) func() bool { return func() bool { return lb.ringMembers("gateways/ipip/v4") == n } }
	open := func() {
		for _, vip := range []netip.Addr{vip4, vip6} {
			for name, conns := range r.held(vip) {
				for _, c := range conns {
					out[c] = name
				}
			}
		}
	}
	eventually(r.t, "both in the ring", in(2))
	open()
	r.gateways["gw1"].ready.Store(false)
	eventually(r.t, "one in the ring", in(1))
	open()
	r.gateways["gw1"].ready.Store(true)
	eventually(r.t, "both back in the ring", in(2))
	return out
}

func (o owners) stay(t testing.TB, when string) {
	t.Helper()
	for c, want := range o {
		if name, err := c.ask(); err != nil || name != want {
			t.Errorf("%s: answered by %q, %v; expected %s", when, name, err, want)
		}
	}
}

// unmoved does something to a node while clients ask for datagrams of both VIPs, of
// which none is lost; its device gets another program and does not go down.
func (r *region) unmoved(ns *netns.NS, do func()) {
	r.t.Helper()
	updates, done := make(chan netlink.LinkUpdate, 1000), make(chan struct{})
	r.must(netlink.LinkSubscribeAt(ns.Handle(), updates, done))
	before, err := ns.Netlink().LinkByName("eth0")
	r.must(err)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for _, vip := range []netip.Addr{vip4, vip6} {
		wg.Go(func() {
			answered, lost, err := r.asking(ctx, vip, 20*time.Second)
			if err != nil || lost > 0 || answered == 0 {
				r.t.Errorf("%s: %d datagrams answered, %d lost, %v", vip, answered, lost, err)
			}
		})
	}
	do()
	cancel()
	wg.Wait()
	after, err := ns.Netlink().LinkByName("eth0")
	r.must(err)
	if a, b := before.Attrs().Xdp.ProgId, after.Attrs().Xdp.ProgId; a == b || b == 0 {
		r.t.Errorf("program %d was at the device before, %d after", a, b)
	}
	close(done)
	for u := range updates {
		if u.Attrs().Name == "eth0" && u.IfInfomsg.Flags&unix.IFF_RUNNING == 0 {
			r.t.Error("the device went down")
		}
	}
}

// What was kept is let go of by Detach, but not under a process that runs; and a
// second process does not get the same pins.
func TestDetach(t *testing.T) {
	r := newRegion(t, regionSpec, 1600)
	dir := bpffs(t)
	run := func() {
		l := r.run(r.gw1, Config{Roles: Roles{L7: true}, Pins: dir})
		eventually(t, "ready", func() bool { return l.Ready() == nil })
	}
	run()
	r.must(os.Mkdir(filepath.Join(dir, "another's"), 0o700))
	me := fmt.Sprintf("in use by process %d ", os.Getpid())
	second, err := New(Config{Node: "gw1", Roles: Roles{L7: true}, Pins: dir})
	r.must(err)
	r.must(second.Apply(r.world))
	err = r.gw1.Enter(func() error { return second.Run(t.Context()) })
	if !errors.Is(err, ErrClaimed) || !strings.Contains(err.Error(), me) {
		t.Errorf("a second one with the same pins: %v", err)
	}
	if _, err := Detach(dir); !errors.Is(err, ErrClaimed) || !strings.Contains(err.Error(), me) {
		t.Errorf("while it runs: %v", err)
	}
	r.stop["gw1"]()
	run() // nothing was taken from it
	r.stop["gw1"]()
	if got := attachedTo(t, r.gw1, "eth0"); got != Native {
		t.Errorf("attached in mode %q", got)
	}
	eth0, err := r.gw1.Netlink().LinkByName("eth0")
	r.must(err)
	if kept := keptAt(t, r.gw1); len(kept) != 2 {
		t.Errorf("the kernel keeps %v resolved, expected the routers", kept)
	}
	for i, want := range []int{eth0.Attrs().Index, 0} {
		var device int
		if err := r.gw1.Do(func() (err error) { device, err = Detach(dir); return err }); err != nil || device != want {
			t.Errorf("call %d: device %d, %v; expected %d", i, device, err, want)
		}
		if kept := keptAt(t, r.gw1); len(kept) > 0 {
			t.Errorf("the kernel keeps %v resolved", kept)
		}
		if got := attachedTo(t, r.gw1, "eth0"); got != "" {
			t.Errorf("still attached in mode %q", got)
		}
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 || entries[0].Name() != "another's" {
		t.Errorf("left are %v, %v", entries, err)
	}
}

// What cannot be attached leaves no tables behind; those of an earlier process stay.
func TestFailedOpenLeavesNoTables(t *testing.T) {
	r := newRegion(t, regionSpec, 1600)
	dir := pinned(t)
	other, err := r.gw1.PassXDP("eth0")
	r.must(err)
	fails := func() {
		t.Helper()
		l, err := New(Config{Node: "gw1", Roles: Roles{L7: true}, Pins: dir})
		r.must(err)
		r.must(l.Apply(r.world))
		if err := r.gw1.Enter(func() error { return l.Run(t.Context()) }); err == nil || !strings.Contains(err.Error(), "shares a device with none") {
			t.Errorf("beside another program: %v", err)
		}
	}
	fails()
	if left := layouts(t, dir); len(left) > 0 {
		t.Errorf("left are %v", left)
	}
	r.must(other.Close())
	l := r.run(r.gw1, Config{Roles: Roles{L7: true}, Pins: dir})
	eventually(t, "ready", func() bool { return l.Ready() == nil })
	r.stop["gw1"]()
	before := layouts(t, dir)
	r.must(os.Remove(pins(dir).link())) // and with it the program goes, a little later
	eventually(t, "another program at the device", func() bool {
		other, err = r.gw1.PassXDP("eth0")
		return err == nil
	})
	defer other.Close()
	fails()
	if after := layouts(t, dir); len(before) != 1 || !slices.Equal(before, after) {
		t.Errorf("tables were kept in %v, and are in %v", before, after)
	}
}

// A program that an earlier process attached stays in its mode, and the log says so.
func TestModeOfATakenOverLink(t *testing.T) {
	r := newRegion(t, regionSpec, 1600)
	var log bytes.Buffer
	r.log = slog.New(slog.NewTextHandler(&log, nil))
	dir := pinned(t)
	for _, mode := range []Mode{Native, Generic} {
		l := r.run(r.gw1, Config{Roles: Roles{L7: true}, Pins: dir, Mode: mode})
		eventually(t, "ready", func() bool { return l.Ready() == nil })
		if got := attachedTo(t, r.gw1, "eth0"); got != Native {
			t.Errorf("attached in mode %q", got)
		}
		r.stop["gw1"]()
	}
	if n := strings.Count(log.String(), "mode=native wanted=generic"); n != 1 {
		t.Errorf("said %d times in %s", n, &log)
	}
}

// A folder that cannot keep anything is refused, with the reason, and nothing is
// left there.
func TestPinsNeedABPFFileSystem(t *testing.T) {
	testkit.Root(t)
	dir := t.TempDir()
	_, err := load(Key{7}, 1<<10, pins(filepath.Join(dir, "pins", "node")))
	if err == nil || !strings.Contains(err.Error(), "not on a BPF file system") {
		t.Errorf("an ordinary folder: %v", err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("left are %v, %v", entries, err)
	}
	if _, err := Detach(dir); err == nil || !strings.Contains(err.Error(), "not on a BPF file system") {
		t.Errorf("detach of an ordinary folder: %v", err)
	}
	if _, err := os.Stat(dir); err != nil {
		t.Error(err)
	}
}
