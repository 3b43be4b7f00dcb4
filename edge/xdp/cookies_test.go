package xdp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"meridian/internal/testkit"
	"meridian/internal/testkit/netns"
)

// cookieRegion is the region with a second http service on port 81, where the
// tests' own servers are, and cookies.
func cookieRegion(mode string, threshold int) string {
	return strings.Replace(regionSpec, "ports: [80]", "ports: [80, 81]", 1) +
		fmt.Sprintf("defence: {syn_cookies: {mode: %s, threshold: %d}}\n", mode, threshold)
}

// tcpFacts is what the kernel says of one end of a connection.
type tcpFacts struct {
	options  byte // TCPI_OPT_*: 1 timestamps, 2 SACK, 4 window scale, 8 ECN
	snd, rcv byte // window scales
	sndMSS   uint32
}

func factsOf(c net.Conn) (f tcpFacts, err error) {
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		return f, err
	}
	cerr := raw.Control(func(fd uintptr) {
		var info *unix.TCPInfo
		if info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err != nil {
			return
		}
		scales := (*[8]byte)(unsafe.Pointer(info))[6] // two fields of four bits, which Go has none for
		f = tcpFacts{info.Options, scales & 15, scales >> 4, info.Snd_mss}
	})
	if err == nil {
		err = cerr
	}
	return f, err
}

// mirror serves connections at a VIP's port 81 of a gateway: it answers what it
// is sent, and tells the kernel's facts of its end.
func (r *region) mirror(ns *netns.NS, facts *sync.Map) {
	r.t.Helper()
	for _, vip := range []netip.Addr{vip4, vip6} {
		l, err := ns.Listen("tcp", netip.AddrPortFrom(vip, 81).String())
		r.must(err)
		r.t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				f, err := factsOf(c)
				if err == nil {
					facts.Store(c.RemoteAddr().String(), f)
				}
				go func() {
					defer c.Close()
					io.Copy(c, c)
				}()
			}
		}()
	}
}

// cookies waits until a node does its part in SYN cookies.
func (l *Layer4) cookies(t *testing.T) {
	t.Helper()
	eventually(t, l.cfg.Node+" works with SYN cookies", func() bool {
		l.stats.mu.Lock()
		defer l.stats.mu.Unlock()
		return l.stats.works && l.stats.cookies != ""
	})
}

// counted gives a node's counter.
func (l *Layer4) counted(reason string) uint64 {
	l.stats.mu.Lock()
	defer l.stats.mu.Unlock()
	if l.stats.kernel == nil {
		return 0
	}
	c, err := l.stats.kernel.counters()
	if err != nil {
		return 0
	}
	return c[reason]
}

// talk opens a connection, sends so many octets there and back, and compares what
// the two ends know of each other.
func (r *region) talk(vip netip.Addr, octets int, facts *sync.Map) (client, server tcpFacts, err error) {
	c, err := r.client.Dial(r.t.Context(), "tcp", netip.AddrPortFrom(vip, 81).String())
	if err != nil {
		return client, server, err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	out := bytes.Repeat([]byte("meridian"), octets/8)
	go c.Write(out)
	in := make([]byte, len(out))
	if _, err := io.ReadFull(c, in); err != nil {
		return client, server, err
	}
	if !bytes.Equal(in, out) {
		return client, server, fmt.Errorf("another content came back")
	}
	if client, err = factsOf(c); err != nil {
		return client, server, err
	}
	f, ok := facts.Load(c.LocalAddr().String())
	if !ok {
		return client, server, fmt.Errorf("no gateway knows the connection")
	}
	return client, f.(tcpFacts), nil
}

// Every connection begins with a cookie of the balancer's, and is as good as any
// other: window scales, selective acknowledgements and timestamps as agreed, with
// and without each.
func TestConnectionsThatBeginWithACookie(t *testing.T) {
	for _, mode := range []Mode{Native, Generic} {
		t.Run(string(mode), func(t *testing.T) {
			r := newRegion(t, cookieRegion("always", 1), 1600)
			lb := r.start(mode)
			lb.cookies(t)
			var facts sync.Map
			r.mirror(r.gw1, &facts)
			r.mirror(r.gw2, &facts)
			for _, c := range []struct {
				name                   string
				timestamps, sack, wide string // the client's settings
				options                byte
			}{
				{"all", "1", "1", "1", 7},
				{"without timestamps", "0", "1", "1", 6},
				{"without SACK", "1", "0", "1", 5},
				{"without scale", "1", "1", "0", 3},
				{"nothing", "0", "0", "0", 0},
			} {
				r.must(r.client.Sysctl("net/ipv4/tcp_timestamps", c.timestamps))
				r.must(r.client.Sysctl("net/ipv4/tcp_sack", c.sack))
				r.must(r.client.Sysctl("net/ipv4/tcp_window_scaling", c.wide))
				for _, vip := range []netip.Addr{vip4, vip6} {
					for range 8 {
						client, server, err := r.talk(vip, 200_000, &facts)
						if err != nil {
							t.Fatalf("%s, %s: %v", c.name, vip, err)
						}
						if client.options&7 != c.options || server.options&7 != c.options {
							t.Errorf("%s, %s: options %#x and %#x, expected %#x", c.name, vip, client.options, server.options, c.options)
						}
						if client.snd != server.rcv || client.rcv != server.snd {
							t.Errorf("%s, %s: scales %+v and %+v", c.name, vip, client, server)
						}
						if c.wide == "1" && client.snd != 7 {
							t.Errorf("%s, %s: scale %d", c.name, vip, client.snd)
						}
					}
				}
			}
			for _, vip := range []netip.Addr{vip4, vip6} {
				r.reachesBoth(vip)
			}
			n := lb.counted("tx_cookie")
			accepted := r.nodes["gw1"].counted("cookie_accepted") + r.nodes["gw2"].counted("cookie_accepted")
			if n < 80 || accepted < 80 || accepted > n {
				t.Errorf("%d SYNs answered, %d connections accepted", n, accepted)
			}
			for _, g := range []string{"gw1", "gw2"} {
				if r.nodes[g].counted("cookie_accepted") == 0 || r.nodes[g].counted("cookie_refused") > 0 {
					t.Errorf("%s: accepted %d, refused %d", g, r.nodes[g].counted("cookie_accepted"), r.nodes[g].counted("cookie_refused"))
				}
			}
		})
	}
}

// ECN is agreed on by cookie too.
func TestECNByCookie(t *testing.T) {
	r := newRegion(t, cookieRegion("always", 1), 1600)
	r.start(Native).cookies(t)
	var facts sync.Map
	r.mirror(r.gw1, &facts)
	r.mirror(r.gw2, &facts)
	r.must(r.client.Sysctl("net/ipv4/tcp_ecn", "1"))
	for _, vip := range []netip.Addr{vip4, vip6} {
		client, server, err := r.talk(vip, 100_000, &facts)
		if err != nil || client.options&8 == 0 || server.options&8 == 0 {
			t.Errorf("%s: %+v, %+v, %v: expected ECN", vip, client, server, err)
		}
	}
}

// One balancer answers the SYN and the other gets the ACK, which any gateway
// takes.
func TestAnotherBalancersCookie(t *testing.T) {
	spec := strings.Replace(churnSpec, "ports: [80]", "ports: [80, 81]", 1) + "defence: {syn_cookies: {mode: always}}\n"
	r := newRegion(t, spec, 1600)
	for _, ns := range []*netns.NS{r.gw1, r.gw2, r.more["gw3"], r.more["gw4"]} {
		r.run(ns, Config{Roles: Roles{L7: true}})
		r.serve(ns)
	}
	var facts sync.Map
	for _, ns := range []*netns.NS{r.gw1, r.gw2, r.more["gw3"], r.more["gw4"]} {
		r.mirror(ns, &facts)
	}
	for _, ns := range []*netns.NS{r.lb, r.more["lb2"]} {
		l := r.run(ns, Config{Roles: Roles{L4: true}, Health: newTrackers()})
		eventually(t, ns.Name+" ready", func() bool { return l.Ready() == nil })
		l.cookies(t)
	}
	r.apart("10.7.1.2", "10.7.4.2")
	const connections = 40
	for range connections {
		if _, _, err := r.talk(vip4, 8000, &facts); err != nil {
			t.Fatal(err)
		}
	}
	made, met := r.nodes["lb"].counted("tx_cookie"), r.nodes["lb2"].counted("cookie_valid")
	if made != connections || met != connections || r.nodes["lb"].counted("cookie_valid") != 0 || r.nodes["lb2"].counted("tx_cookie") != 0 {
		t.Errorf("lb made %d cookies and met %d, lb2 made %d and met %d; expected %d, 0, 0, %d", made, r.nodes["lb"].counted("cookie_valid"),
			r.nodes["lb2"].counted("tx_cookie"), met, connections, connections)
	}
}

// apart has the router send SYNs for the IPv4 VIP to one balancer and all else to
// another.
func (r *region) apart(syns, rest string) {
	r.t.Helper()
	const table, mark = 100, 1
	r.must(r.router.AddRoute(netip.PrefixFrom(vip4, 32), netip.MustParseAddr(rest)))
	nl := r.router.Netlink()
	r.must(nl.RouteAdd(&netlink.Route{Dst: netns.IPNet(netip.PrefixFrom(vip4, 32)), Gw: netip.MustParseAddr(syns).AsSlice(), Table: table}))
	rule := netlink.NewRule()
	rule.Mark, rule.Table, rule.Family, rule.Priority = mark, table, netlink.FAMILY_V4, 10
	r.must(nl.RuleAdd(rule))
	marks, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, License: "GPL", Instructions: asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.LoadAbs(14+20+13, asm.Byte), // TCP's flags, where IPv4 has no options
		asm.And.Imm(asm.R0, syn),
		asm.JEq.Imm(asm.R0, 0, "out"),
		asm.StoreImm(asm.R6, 8, mark, asm.Word), // skb->mark
		asm.Mov.Imm(asm.R0, -1).WithSymbol("out"),
		asm.Return(),
	}})
	r.must(err)
	r.t.Cleanup(func() { marks.Close() })
	r.must(r.router.Do(func() error {
		dev, err := net.InterfaceByName("to-client")
		if err != nil {
			return err
		}
		at, err := link.AttachTCX(link.TCXOptions{Program: marks, Attach: ebpf.AttachTCXIngress, Interface: dev.Index})
		if err == nil {
			r.t.Cleanup(func() { at.Close() })
		}
		return err
	}))
}

// Where gateways cannot take cookies of others they answer with their own.
func TestTheKernelsCookies(t *testing.T) {
	r := newRegion(t, cookieRegion("kernel", 1), 1600)
	for _, ns := range []*netns.NS{r.gw1, r.gw2} {
		r.must(ns.Sysctl("net/ipv4/tcp_syncookies", "2"))
	}
	r.start(Native)
	for _, vip := range []netip.Addr{vip4, vip6} {
		r.reachesBoth(vip)
		for range 4 {
			if got, err := r.post(vip, 100_000); err != nil || !strings.HasSuffix(got, " 100000") {
				t.Errorf("%s: %q, %v", vip, got, err)
			}
		}
	}
	for _, g := range []string{"gw1", "gw2"} {
		if r.nodes[g].counted("tx_cookie") == 0 {
			t.Errorf("%s answered no SYN with a cookie", g)
		}
	}
	if n := r.nodes["lb"].counted("tx_cookie"); n > 0 {
		t.Errorf("the balancer answered %d", n)
	}
}

// Before tcx, programs at tc are filters; one takes the place of what a killed
// process left, and goes when it is closed.
func TestProgramAsAFilter(t *testing.T) {
	r := newRegion(t, regionSpec, 1500)
	const shot = 2
	reaches := func() bool { // a port where nobody listens
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		_, err := r.client.Dial(ctx, "tcp", "10.7.2.2:9")
		return errors.Is(err, unix.ECONNREFUSED)
	}
	eventually(t, "an answer", reaches)
	dev, err := r.gw1.Netlink().LinkByName("eth0")
	r.must(err)
	filters := func() int {
		list, err := r.gw1.Netlink().FilterList(dev, netlink.HANDLE_MIN_INGRESS)
		r.must(err)
		return len(list)
	}
	var at io.Closer
	for range 2 {
		prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, License: "GPL",
			Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, shot), asm.Return()}})
		r.must(err)
		at, err = attachFilter(prog, r.gw1.Netlink(), dev.Attrs().Index)
		r.must(err)
		r.must(prog.Close())
		if n := filters(); n != 1 {
			t.Errorf("%d filters", n)
		}
		if reaches() {
			t.Error("the program sees no packets")
		}
	}
	r.must(at.Close())
	if n := filters(); n != 0 {
		t.Errorf("%d filters are left", n)
	}
	eventually(t, "an answer again", reaches)
}

// A node says what it cannot do, and why.
func TestNodeSaysWhyCookiesDoNotWork(t *testing.T) {
	for mode, c := range map[string]struct{ setting, want string }{
		"auto":   {"0", "net.ipv4.tcp_syncookies is 0"},
		"kernel": {"1", "net.ipv4.tcp_syncookies is 1"},
	} {
		t.Run(mode, func(t *testing.T) {
			r := newRegion(t, cookieRegion(mode, 1), 1600)
			r.must(r.gw1.Sysctl("net/ipv4/tcp_syncookies", c.setting))
			var log testkit.Buffer
			r.log = slog.New(slog.NewTextHandler(&log, nil))
			l := r.run(r.gw1, Config{Roles: Roles{L7: true}})
			eventually(t, "ready", func() bool { return l.Ready() == nil })
			eventually(t, "the reason", func() bool { return strings.Contains(log.String(), c.want) })
			r.must(r.gw1.Sysctl("net/ipv4/tcp_syncookies", "2"))
			works := func() bool {
				l.stats.mu.Lock()
				defer l.stats.mu.Unlock()
				return l.stats.works
			}
			eventually(t, "that they work", works)
		})
	}
}
