package xdp

import (
	"bytes"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/cilium/ebpf"

	"meridian/internal/testkit"
	"meridian/internal/testkit/netns"
)

// connected opens connections from the fixtures' clients to a listener at each
// VIP, all in one namespace, and gives their client's sides.
func connected(t *testing.T, n int) (*netns.NS, map[netip.AddrPort]bool) {
	t.Helper()
	testkit.Root(t)
	ns, err := netns.New("chance")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(ns.Up("lo"))
	clients := map[netip.AddrPort]bool{}
	for _, s := range sides {
		for _, a := range []string{s.client, s.vip} {
			addr := netip.MustParseAddr(a)
			must(ns.AddAddr("lo", netip.PrefixFrom(addr, addr.BitLen())))
		}
		l, err := ns.Listen("tcp", net.JoinHostPort(s.vip, "443"))
		must(err)
		t.Cleanup(func() { l.Close() })
		must(ns.Enter(func() error {
			for range n {
				d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(s.client)}}
				var c net.Conn
				eventually(t, "a connection", func() bool { // the kernel makes an address's route in its own time
					c, err = d.Dial("tcp", net.JoinHostPort(s.vip, "443"))
					return err == nil
				})
				t.Cleanup(func() { c.Close() })
				clients[c.LocalAddr().(*net.TCPAddr).AddrPort()] = true
			}
			return nil
		}))
	}
	return ns, clients
}

// With real sockets: what a gateway's kernel has is the gateway's, what it does
// not have goes on to the next that may, in the order and as far as the reference
// says.
func TestSecondChanceAgainstReference(t *testing.T) {
	for _, node := range []string{"gw1", "both"} {
		t.Run(node, func(t *testing.T) {
			ns, clients := connected(t, 20)
			w := newTwin(t, againstSpec, node, againstRoles[node])
			w.ref.has = func(p *refPacket) bool { return p.dport == 443 && clients[netip.AddrPortFrom(p.src, p.sport)] }
			met := map[string]int{}
			err := ns.Enter(func() error {
				defer oneCPU(t)()
				for client := range clients {
					for i := range 8 {
						known := i%2 == 0
						for _, r := range w.chance(t, client, known, []int{0, 1, 2, maxHops}[i/2]) {
							met[r]++
						}
					}
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			w.sameTraffic(t)
			for _, r := range []string{"chance_mine", "chance_none", "tx_passed_on", "pass_decapsulated"} {
				if met[r] == 0 {
					t.Errorf("no packet met %s: %v", r, met)
				}
			}
		})
	}
}

// chance sends a packet of a connection, or of one that nobody has, in the clear
// and in a tunnel that says how often it was passed on; and an ICMP error about
// it, and it in fragments.
func (w *twin) chance(t *testing.T, client netip.AddrPort, known bool, hops int) (reasons []string) {
	t.Helper()
	s := sides[0]
	own, proto, balancer := fromAddress(w.ref.node.Own4), byte(protoIPIP), "10.0.0.1"
	if client.Addr().Is6() {
		s, own, proto, balancer = sides[1], fromAddress(w.ref.node.Own6), protoIPv6, "fd00::1"
	}
	if hops == 1 { // by a gateway that owned slots
		balancer = map[string]string{"10.0.0.1": "10.0.0.5", "fd00::1": "fd00::5"}[balancer]
	}
	port := int(client.Port())
	if !known {
		port = port%30000 + 1000
	}
	data := segment(port, 443, ack, bytes.Repeat([]byte{1}, 28)...)
	packets := [][]byte{s.packet(protoTCP, data), s.packet(protoTCP, segment(port, 443, syn)), s.packet(protoTCP, segment(port, 443, rst))}
	quoted := ipHeader{src: s.vip, dst: s.client, proto: protoTCP}.packet(segment(443, port, ack))
	if s.v6 {
		piece := func(more int, part []byte) []byte {
			return s.packet(44, cat([]byte{protoTCP, 0}, be16(more), []byte{0, 0, byte(hops), byte(port)}, part))
		}
		packets = append(packets, s.packet(protoICMPv6, icmp6(s.client, s.vip, 2, 0, 1400, quoted)), piece(1, data[:24]), piece(24, data[24:]))
	} else {
		piece := func(frag int, part []byte) []byte {
			return ipHeader{src: s.client, dst: s.vip, proto: protoTCP, id: port, frag: frag}.packet(part)
		}
		packets = append(packets, s.packet(protoICMP, icmp4(3, 4, 1400, quoted)), piece(0x2000, data[:24]), piece(3, data[24:]))
	}
	for i, p := range packets {
		tunnel := ipHeader{src: balancer, dst: own.String(), proto: proto, id: hops, label: uint32(hops)}.packet(p)
		for _, frame := range [][]byte{fromRouter(tunnel), fromRouter(p)} {
			reasons = append(reasons, w.agree(t, fmt.Sprintf("%s, packet %d, passed on %d times", client, i, hops), frame).reasons()...)
		}
	}
	return reasons
}

// A driver that leaves less room before the frame than a header takes.
func TestNoHeadroom(t *testing.T) {
	m := newMachine(t, programSpec, "lb", Roles{L4: true})
	const taken = 200 // of 256 octets
	frame := fromRouter(sides[0].packet(protoTCP, segment(5000, 443, syn)))
	in := append(make([]byte, taken), frame...)
	before, err := m.counters()
	if err != nil {
		t.Fatal(err)
	}
	opts := ebpf.RunOptions{Data: in, DataOut: make([]byte, 4096), Context: xdpContext{Data: taken, DataEnd: uint32(len(in))}}
	code, err := m.edgeObjects.Edge.Run(&opts)
	if err != nil || code != 1 || !bytes.Equal(opts.DataOut[taken:], frame) {
		t.Errorf("verdict %d, %v", code, err)
	}
	after, err := m.counters()
	if err != nil || after["drop_no_room"] != before["drop_no_room"]+1 {
		t.Errorf("drop_no_room counted %d, %v", after["drop_no_room"], err)
	}
}

// While a ring is swapped the kernel has the owners of the new one beside the slots
// of the old one. A slot that goes back to the gateway that had it before, and has
// its connections, is this gateway's by its slot for so long.
func TestSecondChanceWhileARingIsSwapped(t *testing.T) {
	w := newTwin(t, againstSpec, "gw1", againstRoles["gw1"])
	w.ref.has = func(*refPacket) bool { return false }
	w.applyTwin(t, strings.Replace(againstSpec, `"fd00::5"}}`, `"fd00::5"}, state: draining}`, 1), "gw1", againstRoles["gw1"])
	old := maps.Clone(w.ref.rings)
	w.applyTwin(t, againstSpec, "gw1", againstRoles["gw1"])
	for index, next := range w.ref.rings {
		if next.owners != nil {
			w.ref.rings[index] = ringTable{old[index].slots, next.owners}
		}
	}
	if err := w.mirror.kernel.setRings(w.ref.rings); err != nil {
		t.Fatal(err)
	}
	v, _ := w.ref.vipAt(netip.MustParseAddr("198.51.100.2"), 443, protoTCP)
	met := map[string]int{}
	for port := range 2000 {
		p := &refPacket{src: netip.MustParseAddr(sides[0].client), sport: uint16(1024 + port)}
		slot, _, owners := w.ref.slot(v, w.ref.flowHash(p, v))
		now, next := w.ref.endpoint(slot), w.ref.endpoint(owners[0])
		if now.How != uint8(edgeForwardFORWARD_LOCAL) || next.How == now.How {
			continue
		}
		tcp := ipHeader{src: sides[0].client, dst: "198.51.100.2", proto: protoTCP}.packet(segment(1024+port, 443, ack))
		o := w.agree(t, fmt.Sprintf("port %d", 1024+port), fromRouter(ipHeader{src: "10.0.0.1", dst: "10.0.0.2", proto: protoIPIP}.packet(tcp)))
		met[o.reason]++
	}
	if met["tx_passed_on"] < 50 || len(met) > 1 {
		t.Errorf("packets of another gateway's connections met %v, expected that they are passed on", met)
	}
}
