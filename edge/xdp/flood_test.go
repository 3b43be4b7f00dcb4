package xdp

import (
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"meridian/internal/testkit/netns"
)

// flood sends SYNs for a VIP's port from a namespace of its own as fast as can
// be, each from another client, until it is stopped; stop gives how many there
// were.
func (r *region) flood(vip netip.AddrPort) (stop func() uint64) {
	return r.sendAll(0, sealed{ipHeader: ipHeader{src: "0.0.0.0", dst: vip.Addr().String(), frag: df}, dport: int(vip.Port()), seq: 77,
		flags: syn, options: synOptions}.bytes())
}

// sendAll sends copies of a TCP packet in that way: each from another client, or
// to one of so many ports.
func (r *region) sendAll(ports uint32, packet []byte) (stop func() uint64) {
	r.t.Helper()
	const net16 = 9
	ns, err := netns.New("flooder")
	r.must(err)
	r.t.Cleanup(func() { ns.Close() })
	r.connect(ns, net16, 1500)
	pass, err := ns.PassXDP("eth0") // live frames need a device that is ready for XDP
	r.must(err)
	r.t.Cleanup(func() { pass.Close() })
	// What is sent to clients that are not there ends at the router.
	r.must(r.router.Netlink().RouteAdd(&netlink.Route{Dst: netns.IPNet(netip.MustParsePrefix("100.64.0.0/10")), Type: unix.RTN_BLACKHOLE}))
	frame := cat(r.mac(r.router, "to-flooder"), r.mac(ns, "eth0"), be16(0x0800), packet)
	h := loadHarness(r.t, map[string]uint32{"restored": uint32(len(frame)), "spread": ports}, frame)
	var dev *net.Interface
	r.must(ns.Do(func() error { dev, err = net.InterfaceByName("eth0"); return err }))
	md := struct{ Data, End, Meta, Device, Queue, Egress uint32 }{End: uint32(len(frame)), Device: uint32(dev.Index)}
	var over atomic.Bool
	ended := make(chan error, 1)
	go func() {
		ended <- ns.Enter(func() error {
			for !over.Load() {
				_, err := h.Flood.Run(&ebpf.RunOptions{Data: frame, Repeat: 1 << 14, Flags: unix.BPF_F_TEST_XDP_LIVE_FRAMES, Context: &md})
				if err != nil {
					return err
				}
				runtime.Gosched()
			}
			return nil
		})
	}()
	return sync.OnceValue(func() (sent uint64) {
		over.Store(true)
		if err := <-ended; err != nil {
			r.t.Errorf("flood: %v", err)
		}
		r.must(h.Wrong.Get(&sent))
		return sent
	})
}

func (r *region) mac(ns *netns.NS, dev string) []byte {
	r.t.Helper()
	l, err := ns.Netlink().LinkByName(dev)
	r.must(err)
	return l.Attrs().HardwareAddr
}

// strays counts the packets of a flood that come to a gateway's kernel, out of
// their tunnels.
func (r *region) strays(ns *netns.NS) func() uint64 {
	r.t.Helper()
	count, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	r.must(err)
	r.t.Cleanup(func() { count.Close() })
	const source, net10, net = 14 + 12, -1 << 22, 100<<24 | 64<<16 // 100.64.0.0/10
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, License: "GPL", Instructions: asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.LoadAbs(source, asm.Word),
		asm.And.Imm(asm.R0, net10),
		asm.JNE.Imm(asm.R0, net, "out"),
		asm.LoadMapValue(asm.R1, count.FD(), 0),
		asm.Mov.Imm(asm.R2, 1),
		asm.StoreXAdd(asm.R1, asm.R2, asm.DWord),
		asm.Mov.Imm(asm.R0, -1).WithSymbol("out"),
		asm.Return(),
	}})
	r.must(err)
	r.t.Cleanup(func() { prog.Close() })
	r.must(ns.Do(func() error {
		dev, err := interfaceNamed("eth0")
		if err != nil {
			return err
		}
		at, err := link.AttachTCX(link.TCXOptions{Program: prog, Attach: ebpf.AttachTCXIngress, Interface: dev})
		if err == nil {
			r.t.Cleanup(func() { at.Close() })
		}
		return err
	}))
	return func() (n uint64) {
		r.must(count.Lookup(uint32(0), &n))
		return n
	}
}

func interfaceNamed(name string) (int, error) {
	dev, err := net.InterfaceByName(name)
	if err != nil {
		return 0, err
	}
	return dev.Index, nil
}

// A SYN flood as fast as it can be made ends at the balancer: of the flood less
// than a hundredth comes to a gateway, while every connection goes on that began
// before it, and every one that begins now is made.
func TestSYNFloodEndsAtTheBalancer(t *testing.T) {
	r := newRegion(t, cookieRegion("auto", 1000), 1600)
	lb := r.start(Native)
	lb.cookies(t)
	held := map[*conn]string{}
	for _, vip := range []netip.Addr{vip4, vip6} {
		for name, conns := range r.held(vip) {
			for _, c := range conns {
				held[c] = name
			}
		}
	}
	at := netip.AddrPortFrom(vip4, 80)
	strays1, strays2 := r.strays(r.gw1), r.strays(r.gw2)
	stop := r.flood(at)
	defer stop()
	eventually(t, "an answer by cookie", func() bool { return lb.counted("tx_cookie") > 0 })
	eventually(t, "the attack known", func() bool {
		lb.stats.mu.Lock()
		defer lb.stats.mu.Unlock()
		return lb.stats.attacked["tcp/"+at.String()] && !lb.stats.attacked["tcp/"+netip.AddrPortFrom(vip6, 80).String()]
	})
	began := time.Now()
	opened, asked := 0, 0
	for time.Since(began) < 5*time.Second {
		for _, vip := range []netip.Addr{vip4, vip6} {
			name, err := r.connectTo(vip).ask()
			if err != nil {
				t.Fatalf("a new connection to %s: %q, %v", vip, name, err)
			}
			opened++
		}
		for c, want := range held {
			if name, err := c.ask(); err != nil || name != want {
				t.Fatalf("an old connection: %q, %v; expected %s", name, err, want)
			}
			asked++
		}
	}
	took := time.Since(began)
	sent := stop()
	reached := strays1() + strays2()
	t.Logf("%d SYNs, of which %d were answered and %d (%.4f %%) reached a gateway; in the last %s %d connections began and %d old ones were asked %d times: all answered",
		sent, lb.counted("tx_cookie"), reached, 100*float64(reached)/float64(sent), took.Round(time.Millisecond), opened, len(held), asked)
	if reached*100 >= sent {
		t.Errorf("%d of %d packets of the flood reached a gateway, expected less than 1 %%", reached, sent)
	}
	if n := lb.counted("tx_cookie"); n < sent/2 {
		t.Errorf("%d of %d SYNs were answered", n, sent)
	}
	// A node that has just begun knows little of what is usual, so of packets on old
	// connections some may have to be sent again.
	if n := lb.counted("drop_no_cookie"); n*100 > uint64(asked) || lb.counted("drop_bad_checksum") > 0 {
		t.Errorf("%d legal packets were dropped for want of a cookie, %d for their checksum", n, lb.counted("drop_bad_checksum"))
	}
}

// Forged replies to the checks of gateways, in the VIP's name and to all of the
// checks' ports, take the program's time and the link's, and nothing else: checks
// pass, but for one whose packets the flooded link loses.
func TestForgedRepliesStarveNoCheck(t *testing.T) {
	r := newRegion(t, regionSpec, 1600)
	lb := r.start(Native)
	checks := func() (passed, failed uint64) {
		lb.stats.mu.Lock()
		defer lb.stats.mu.Unlock()
		return lb.stats.checks[true], lb.stats.checks[false]
	}
	stop := r.sendAll(checkPorts, sealed{ipHeader: ipHeader{src: vip4.String(), dst: "10.7.1.2", frag: df}, sport: 80, dport: firstCheckPort, seq: 77,
		flags: syn | ack, options: synOptions}.bytes())
	defer stop()
	eventually(t, "forged replies", func() bool { return lb.counted("drop_unasked") > 100_000 })
	before, failed := checks()
	eventually(t, "checks", func() bool {
		passed, _ := checks()
		return passed > before+60
	})
	if passed, now := checks(); (now-failed)*10 > passed-before || lb.Ready() != nil {
		t.Errorf("%d checks failed and %d passed, %v", now-failed, passed-before, lb.Ready())
	}
	sent := stop()
	full, taken := lb.counted("drop_reply_full"), lb.counted("drop_reply")
	t.Logf("%d forged replies, %d dropped as such; %d taken for replies with the true ones, %d without room", sent, lb.counted("drop_unasked"), taken, full)
	if full*100 > taken || taken*10 > sent {
		t.Errorf("of %d forged replies %d had no room, and %d were taken with the true ones", sent, full, taken)
	}
}
