package conformance

import (
	"context"
	"errors"
	"io"
	"maps"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"meridian/dns/answer"
	"meridian/dns/server"
	"meridian/dns/xdp"
	"meridian/internal/testkit"
	"meridian/internal/testkit/netns"
)

// TestDifferentialInTheKernel is TestDifferential with Meridian's answers made
// in the kernel, as far as they are.
func TestDifferentialInTheKernel(t *testing.T) {
	list := readDifferences(t).without(aspectFile, aspectOdd)
	for _, w := range worlds(t) {
		t.Run(w.name, func(t *testing.T) {
			var path *xdp.Path
			total := differential(t, w, list, func(t testing.TB, dir string) (p peer) {
				p, path = inKernel(t, dir)
				return p
			})
			a := path.Answered()
			t.Logf("%d questions, %d of them answered in the kernel", total, a.Queries)
			if a.Queries == 0 {
				t.Error("none was answered in the kernel")
			}
		})
	}
}

// TestOddMessagesInTheKernel sends what is malformed or rare to a device with
// the program and to one without: both say the same, or nothing.
func TestOddMessagesInTheKernel(t *testing.T) {
	testkit.Root(t)
	w := world{dir: t.TempDir()}
	w.add(t, "odd.test.", "$TTL 60\n@ SOA ns1 host 1 7200 3600 1209600 60\n@ NS ns1\nns1 A 192.0.2.1\n", nil)
	servers := ourselves(t, w.dir)
	messages := oddMessages("odd.test.")
	var wg sync.WaitGroup
	for name, m := range messages {
		wg.Go(func() { // all at once: silence takes its time
			var replies [2]normal
			var both sync.WaitGroup
			for i, s := range servers {
				both.Go(func() {
					c := client{addr: s.addr, patience: silence}
					defer c.close()
					replies[i] = normalise(c.ask(m, false), dns.TypeSOA)
				})
			}
			both.Wait()
			if !maps.Equal(replies[0].text, replies[1].text) {
				t.Errorf("%s: the sockets say %v, a device with the program %v", name, replies[0].text, replies[1].text)
			}
		})
	}
	wg.Wait()
}

// ourselves is Meridian on the zone files of a folder, with the sockets
// answering and, where that can be, at a device with the kernel answering too;
// what is answered there is logged in the end.
func ourselves(t testing.TB, dir string) []peer {
	t.Helper()
	out := []peer{meridian(t, dir)}
	if os.Geteuid() != 0 {
		return out // TestDifferentialInTheKernel says that root is needed
	}
	p, path := inKernel(t, dir)
	t.Cleanup(func() {
		if a := path.Answered(); a.Queries > 0 {
			t.Logf("%d questions were answered in the kernel", a.Queries)
		}
	})
	p.name = "kernel"
	return append(out, p)
}

const (
	kernelServer = "192.0.2.53"
	kernelClient = "192.0.2.100"
)

// inKernel serves the zone files of a folder at a device in a namespace, and
// gives an address on loopback from where queries are brought there.
func inKernel(t testing.TB, dir string) (peer, *xdp.Path) {
	t.Helper()
	testkit.Root(t)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	there, err := netns.New("server")
	must(err)
	t.Cleanup(func() { there.Close() })
	here, err := netns.New("client")
	must(err)
	t.Cleanup(func() { here.Close() })
	must(netns.Veth(netns.End{NS: there, Dev: "eth0", Addrs: []netip.Prefix{netip.MustParsePrefix(kernelServer + "/24")}},
		netns.End{NS: here, Dev: "eth0", Addrs: []netip.Prefix{netip.MustParsePrefix(kernelClient + "/24")}}, 1500))
	pass, err := here.PassXDP("eth0")
	must(err)
	t.Cleanup(func() { pass.Close() })
	path, err := xdp.New(xdp.Config{Device: "eth0", Log: quiet()})
	must(err)
	s, err := server.New(server.Config{Listen: []netip.AddrPort{netip.MustParseAddrPort(kernelServer + ":53")}, Logger: quiet(),
		Identity: answer.Identity{Node: "here", Version: "meridian"}, Fast: inside{path, there}})
	must(err)
	_, err = s.LoadDir(t.Context(), dir)
	must(err)
	ctx, cancel := context.WithCancel(context.Background())
	must(there.Enter(func() error { return s.Open(ctx) }))
	var done sync.WaitGroup
	done.Go(func() {
		if err := s.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); done.Wait() })
	for tick := time.NewTicker(5 * time.Millisecond); ; <-tick.C {
		if _, ok := path.Attached(); ok {
			break
		}
	}
	return peer{"meridian", bring(t, here)}, path
}

// inside has calls made in a namespace.
type inside struct {
	*xdp.Path
	ns *netns.NS
}

func (i inside) Serve(s *server.Serving) error {
	return i.ns.Enter(func() error { return i.Path.Serve(s) })
}

func (i inside) Close() error { return i.ns.Enter(i.Path.Close) }

// bring listens on loopback, and brings what comes to the nameserver from a
// namespace.
func bring(t testing.TB, ns *netns.NS) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	u, err := net.ListenPacket("udp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	dial := func(network string) (c net.Conn, err error) {
		err = ns.Do(func() error {
			c, err = net.Dial(network, kernelServer+":53")
			return err
		})
		return c, err
	}
	var done sync.WaitGroup
	done.Go(func() { bringStreams(l, dial) })
	done.Go(func() { bringDatagrams(u, dial) })
	t.Cleanup(func() { l.Close(); u.Close(); done.Wait() })
	return l.Addr().String()
}

func bringStreams(l net.Listener, dial func(string) (net.Conn, error)) {
	var done sync.WaitGroup
	defer done.Wait()
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		done.Go(func() {
			defer c.Close()
			to, err := dial("tcp")
			if err != nil {
				return
			}
			defer to.Close()
			done.Go(func() { io.Copy(c, to); c.Close() })
			io.Copy(to, c)
		})
	}
}

// bringDatagrams has a socket for each client.
func bringDatagrams(u net.PacketConn, dial func(string) (net.Conn, error)) {
	var done sync.WaitGroup
	sockets := map[string]net.Conn{}
	defer func() {
		for _, c := range sockets {
			c.Close()
		}
		done.Wait()
	}()
	buf := make([]byte, 65535)
	for {
		n, from, err := u.ReadFrom(buf)
		if err != nil {
			return
		}
		c := sockets[from.String()]
		if c == nil {
			if c, err = dial("udp"); err != nil {
				continue
			}
			sockets[from.String()] = c
			done.Go(func() {
				buf := make([]byte, 65535)
				for {
					n, err := c.Read(buf)
					if errors.Is(err, net.ErrClosed) {
						return
					}
					if err == nil {
						u.WriteTo(buf[:n], from)
					}
				}
			})
		}
		c.Write(buf[:n])
	}
}
