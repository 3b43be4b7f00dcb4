package xdp

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"meridian/edge/quiclb"
	"meridian/fleet"
	"meridian/geo"
	"meridian/internal/testkit"
)

// againstSpec has a VIP of each kind: of gateways, of endpoints behind a tunnel
// of either family and on the link, on this node, without members.
const againstSpec = `
anycast: {v4: [198.51.100.1], v6: ["2001:db8:a::1"]}
regions:
  - {id: fra, location: {latitude: 50, longitude: 8}, vips: {v4: [198.51.100.2], v6: ["2001:db8:a::2"]}}
nodes:
  - {name: lb, region: fra, roles: [l4], addresses: {v4: 10.0.0.1, v6: "fd00::1"}}
  - {name: both, region: fra, roles: [l4, l7], addresses: {v4: 10.0.0.4, v6: "fd00::4"}}
  - {name: gw1, region: fra, roles: [l7], addresses: {v4: 10.0.0.2, v6: "fd00::2"}}
  - {name: gw2, region: fra, roles: [l7], addresses: {v4: 10.0.0.5, v6: "fd00::5"}}
  - {name: gw3, region: fra, roles: [l7], addresses: {v6: "fd00::6"}}
services:
  - {service: web, protocol: https, ports: [443], redirect_http: false, pools: [{id: main, endpoints: [{address: "10.9.0.1:443"}]}]}
  - {service: dns, protocol: udp, ports: [53], forwarding: l2_dsr, pools: [{id: main, endpoints: [{address: "10.0.0.3:53"}, {address: "10.0.0.13:53"}]}]}
  - {service: own, protocol: tcp, ports: [22], pools: [{id: main, endpoints: [{address: "10.0.0.1:22"}]}]}
  - {service: six, protocol: tcp, ports: [66], pools: [{id: main, endpoints: [{address: "[fd00::9]:66"}, {address: "[fd00::a]:66"}]}]}
  - {service: two, protocol: udp, ports: [77], pools: [{id: main, endpoints: [{address: "10.0.0.7:77"}, {address: "10.0.0.8:77"}]}]}
  - {service: none, protocol: tcp, ports: [99], pools: [{id: main, endpoints: [{address: "10.0.0.9:99", state: disabled}]}]}
`

// againstRoles are the nodes of againstSpec that packets are sent to.
var againstRoles = map[string]Roles{"lb": {L4: true}, "gw1": {L7: true}, "both": {L4: true, L7: true}}

// kindsRoles are those of kinds.yaml.
var kindsRoles = map[string]Roles{"lb": {L4: true}, "gw": {L7: true}, "both": {L4: true, L7: true}}

// twin is the programs and the reference, with the same tables.
type twin struct {
	*machine
	mirror mirror
	ref    *reference
	counts map[string]uint64
}

func newTwin(t testing.TB, spec, node string, roles Roles) *twin {
	t.Helper()
	testkit.Root(t)
	k, err := load(Key{7}, 1<<20, "", blockIDs, plainIDs)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.Close() })
	m := newMirror(k, Key{7})
	m.ref.quic, m.ref.cookies = []quiclb.Config{blockIDs, plainIDs}, kindsKeys
	if err := k.Cookies.Put(uint32(0), &kindsKeys); err != nil {
		t.Fatal(err)
	}
	m.gue[netip.MustParseAddr("10.0.0.8")], m.gue[netip.MustParseAddr("fd00::a")], m.gue[netip.MustParseAddr("10.0.0.5")] = true, true, true
	w := &twin{machine: &machine{kernel: k, rec: newReconciler(m, Key{7}), state: map[fleet.Target]fleet.State{}}, mirror: m, ref: m.ref}
	w.applyTwin(t, spec, node, roles)
	for port := uint16(firstCheckPort); port <= lastCheckPort; port += 2 { // checks wait at every other port
		for _, c := range []struct {
			vip string
			at  uint16
			udp bool
		}{{any4, 443, false}, {any6, 443, false}, {any4, 53, true}, {any6, 77, true}} {
			vip := netip.MustParseAddr(c.vip)
			i, _ := checkPort(vip.Is6(), c.udp, port)
			if err := m.setAsked(i, edgeAsked{Vip: toAddress(vip), Port: swap16(c.at), Waits: 1}); err != nil {
				t.Fatal(err)
			}
		}
	}
	return w
}

// applyTwin is apply with ways of every kind: next hop known or not, on the
// link or behind a router, MTU known or not.
func (w *twin) applyTwin(t testing.TB, spec, node string, roles Roles) {
	t.Helper()
	var err error
	world := worldOf(t, spec)
	if w.want, err = plan(world, node, roles); err != nil {
		t.Fatal(err)
	}
	s := newShield(func() (geo.Source, error) { return kindsAtlas, nil }, func() {})
	if err := s.apply(world.Snapshot.Spec.Defence, w.want.ours()); err != nil {
		t.Fatal(err)
	}
	w.guard = s.guard.Load()
	w.reconcileTwin(t)
}

func (w *twin) reconcileTwin(t testing.TB) {
	t.Helper()
	err := w.rec.reconcile(inputs{want: w.want, guard: w.guard,
		state: func(t fleet.Target) fleet.State { return w.state[t] },
		hop: func(a netip.Addr) hop {
			last := a.As16()[15]
			return hop{mac: [6]byte{2, 0, 0, 0, 1, last}, source: macNode, known: last%5 != 2, onLink: last != 13,
				mtu:    map[bool]uint16{true: 1500, false: 0}[last%4 != 0],
				device: map[bool]uint32{true: 7, false: 0}[last%3 == 2]}
		}})
	if err != nil {
		t.Fatal(err)
	}
}

// xdpContext is the kernel's struct xdp_md.
type xdpContext struct{ Data, DataEnd, DataMeta, Ingress, Queue, Egress uint32 }

// dirt is put before the frame, where headers will stand: a header octet that
// the program leaves unset shows.
const dirt = 64

// dirty runs a frame through the program with its headroom full of ones.
func (w *twin) dirty(t testing.TB, frame []byte) (verdict string, out []byte) {
	t.Helper()
	in := append(bytes.Repeat([]byte{0xff}, dirt), frame...)
	opts := ebpf.RunOptions{Data: in, DataOut: make([]byte, 4096), Context: xdpContext{Data: dirt, DataEnd: uint32(len(in))}}
	code, err := w.edgeObjects.Edge.Run(&opts)
	if err != nil {
		t.Fatal(err)
	}
	return []string{"aborted", "drop", "pass", "tx", "redirect"}[code], opts.DataOut[dirt:]
}

// seconds is the program's clock.
func seconds(t testing.TB) uint32 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC_COARSE, &ts); err != nil {
		t.Fatal(err)
	}
	return uint32(ts.Sec)
}

// oneCPU keeps the caller on one processor, for budgets are by processor.
func oneCPU(t testing.TB) (done func()) {
	t.Helper()
	runtime.LockOSThread()
	var was, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &was); err != nil {
		t.Fatal(err)
	}
	for i := range 1024 {
		if was.IsSet(i) {
			one.Set(i)
			break
		}
	}
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := unix.SchedSetaffinity(0, &was); err != nil {
			t.Error(err)
		}
		runtime.UnlockOSThread()
	}
}

// agree runs a frame through the program and the reference, and gives what they
// say; a difference fails the test. The caller stays on one processor.
func (w *twin) agree(t testing.TB, what string, frame []byte) *outcome {
	t.Helper()
	if w.counts == nil {
		w.counts = w.counted(t)
	}
	before := seconds(t)
	verdict, out := w.dirty(t, frame)
	after := seconds(t)
	counts := w.counted(t)
	var reasons []string
	for name, n := range counts {
		for range n - w.counts[name] {
			reasons = append(reasons, name)
		}
	}
	w.counts = counts
	slices.Sort(reasons)
	var o *outcome
	for now := before; now <= after; now++ { // it was one of these seconds
		o = w.ref.decide(frame, now)
		if o.verdict() == verdict && slices.Equal(o.reasons(), reasons) && bytes.Equal(o.out, out) {
			o.commit()
			return o
		}
	}
	t.Fatalf("%s:\n%sthe program: %s (%s)\n%sthe reference: %s\n%s", what, hex.Dump(frame),
		verdict, strings.Join(reasons, " "), hex.Dump(out), o, hex.Dump(o.out))
	return nil
}

func (w *twin) counted(t testing.TB) map[string]uint64 {
	t.Helper()
	c, err := w.counters()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// sameTraffic compares what both have counted for each VIP.
func (w *twin) sameTraffic(t testing.TB) {
	t.Helper()
	for index, want := range w.ref.traffic {
		got, err := w.kernel.traffic(index)
		if err != nil || got.Packets != want.Packets || got.Octets != want.Octets {
			t.Errorf("VIP %d: %d packets of %d octets, %v; expected %d of %d", index, got.Packets, got.Octets, err, want.Packets, want.Octets)
		}
	}
}

// dice makes packets by chance; the same seed gives the same packets.
type dice struct{ *rand.Rand }

func newDice(seed uint64) dice { return dice{rand.New(rand.NewPCG(seed, 1))} }

func pick[T any](d dice, from ...T) T { return from[d.IntN(len(from))] }

// often is true so many times in a hundred.
func (d dice) often(percent int) bool { return d.IntN(100) < percent }

func (d dice) bytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(d.Uint32())
	}
	return b
}

// The addresses that packets come from and go to: clients, VIPs, nodes.
var (
	diceClients4 = []string{client4, client4, "203.0.113.6", "203.0.113.70", "203.0.113.200", "192.0.2.254", "10.0.0.4", any4}
	diceClients6 = []string{client6, "2001:db8:c::6", "fd00::4", any6}
	diceVIPs4    = []string{any4, any4, any4, "198.51.100.2", "198.51.100.3", "10.0.0.1", "198.51.100.17"}
	diceVIPs6    = []string{any6, any6, any6, "2001:db8:a::2", "2001:db8:a::3", "fd00::1", "2001:db8:b::9"}
	diceNodes4   = []string{"10.0.0.1", "10.0.0.2", "10.0.0.4", "10.0.0.5", "10.0.0.77"}
	diceNodes6   = []string{"fd00::1", "fd00::2", "fd00::4", "fd00::6", "fd00::77"}
	dicePorts    = []int{443, 443, 443, 53, 53, 22, 66, 77, 77, 99, 80, 0, 8443, 8443, 9443, 9443, 25, 88}
)

// frame makes one, and says of what kind it is.
func (d dice) frame() (what string, frame []byte) {
	what, ip := d.packet(0)
	var tags []int
	for range pick(d, 0, 0, 0, 0, 1, 2, 3) {
		tags = append(tags, d.IntN(4096))
	}
	frame = fromRouter(ip, tags...)
	if len(tags) > 1 && d.often(50) {
		frame[12], frame[13] = 0x88, 0xa8
	}
	if d.often(30) {
		what, frame = what+", padded", append(frame, d.bytes(d.IntN(40))...)
	}
	if d.often(35) {
		what, frame = what+", broken", d.broken(frame)
	}
	return what, frame[:min(len(frame), maxOffline-dirt)]
}

// broken changes octets, and cuts or lengthens the frame.
func (d dice) broken(frame []byte) []byte {
	out := slices.Clone(frame)
	for range 1 + d.IntN(3) {
		at := d.IntN(min(len(out), 100))
		switch d.IntN(6) {
		case 0:
			out[at] = byte(d.Uint32())
		case 1:
			out[at] ^= 1 << d.IntN(8)
		case 2:
			out[at] = pick[byte](d, 0, 1, 4, 6, 17, 41, 43, 44, 58, 60, 0x45, 0x60, 0xff)
		case 3:
			if len(out) > at+14 {
				out = out[:len(out)-at]
			}
		case 4:
			out = append(out, d.bytes(at)...)
		case 5:
			if len(out) > at+20 {
				binary.BigEndian.PutUint16(out[at:], uint16(d.IntN(2000)))
			}
		}
	}
	return out
}

// packet makes an IP packet: plain, an ICMP message, or a tunnel with another
// inside.
func (d dice) packet(depth int) (what string, ip []byte) {
	v6 := d.often(45)
	if depth == 0 && d.often(40) {
		return d.tunnel(v6)
	}
	src, dst := pick(d, diceClients4...), pick(d, diceVIPs4...)
	if v6 {
		src, dst = pick(d, diceClients6...), pick(d, diceVIPs6...)
	}
	if d.often(5) { // a check's reply
		src, dst = dst, src
	}
	what, proto, payload := d.payload(src, dst, v6)
	return what, d.ip(src, dst, v6, proto, payload)
}

// payload makes what is in an IP packet.
func (d dice) payload(src, dst string, v6 bool) (what string, proto byte, payload []byte) {
	sport, dport := 5000+d.IntN(60), pick(d, dicePorts...)
	if d.often(5) {
		sport, dport = dport, 60990+d.IntN(1020)
	}
	data := d.bytes(pick(d, 0, 0, 1, 8, 30, 1200, 1400+d.IntN(120)))
	switch d.IntN(12) {
	case 10: // a SYN that is whole, or an ACK
		s := sealed{ipHeader: ipHeader{src: src, dst: dst}, sport: sport, dport: dport, seq: d.Uint32(), ack: d.Uint32(),
			flags: pick[byte](d, syn, syn, syn|0xc0, ack), options: pick(d, nil, synOptions, otherOptions, d.bytes(4*d.IntN(11))), data: data}
		b := s.bytes()
		return "whole TCP", protoTCP, b[len(b)-20-len(s.options)-len(data):]
	case 11:
		id := d.connectionID()
		return "QUIC", protoUDP, datagram(sport, pick(d, 443, 443, 9443, 8443), pick(d, shortHeader(id), longHeader(0xe0, id), shortHeader(id[:d.IntN(len(id))]))...)
	case 0, 1, 2, 3:
		return "TCP", protoTCP, segment(sport, dport, pick[byte](d, syn, ack, ack, rst, rst|ack, syn|ack, 1|ack, 0, 0xff), data...)
	case 4, 5, 6:
		return "UDP", protoUDP, datagram(sport, dport, data...)
	case 7:
		return "echo", pick[byte](d, protoICMP, protoICMPv6), d.echo(src, dst, v6)
	case 8:
		what, message := d.icmpError(src, dst, v6)
		return what, map[bool]byte{true: protoICMPv6, false: protoICMP}[v6], message
	}
	return "another protocol", byte(d.IntN(256)), data
}

// connectionID is one of a gateway's, under either configuration, or of nobody's.
func (d dice) connectionID() []byte {
	c := pick(d, blockIDs, blockIDs, plainIDs)
	server := quiclb.ServerID(&fleet.Node{Name: pick(d, "gw", "gw1", "gw2", "both", "nobody")})
	codec, err := quiclb.New(c)
	if err != nil {
		panic(err)
	}
	id, err := codec.Encode(server[:], d.bytes(c.Nonce))
	if err != nil {
		panic(err)
	}
	return id
}

func (d dice) echo(src, dst string, v6 bool) []byte {
	if v6 {
		return icmp6(src, dst, pick[byte](d, 128, 128, 129, 135), pick[byte](d, 0, 0, 0, 1), d.Uint32(), d.bytes(d.IntN(60)))
	}
	return icmp4(pick[byte](d, 8, 8, 0, 13), pick[byte](d, 0, 0, 0, 1), d.Uint32(), d.bytes(d.IntN(60)))
}

// icmpError quotes a packet that the VIP at dst sent, or somebody else.
func (d dice) icmpError(src, dst string, v6 bool) (string, []byte) {
	from, to := dst, pick(d, diceClients4...)
	if v6 {
		to = pick(d, diceClients6...)
	}
	if d.often(20) {
		from = src
	}
	proto, sent := byte(protoTCP), segment(pick(d, dicePorts...), 5000+d.IntN(60), ack, d.bytes(d.IntN(40))...)
	if d.often(40) {
		proto, sent = pick[byte](d, protoUDP, protoUDP, 50), datagram(pick(d, dicePorts...), 5000+d.IntN(60), d.bytes(d.IntN(40))...)
	}
	quoted := d.ip(from, to, v6, proto, sent)
	if d.often(40) {
		quoted = quoted[:d.IntN(len(quoted)+1)]
	}
	if v6 {
		return "ICMPv6 error", icmp6(src, dst, pick[byte](d, 1, 2, 3, 4, 5), 0, 1400, quoted)
	}
	return "ICMP error", icmp4(pick[byte](d, 3, 3, 11, 12, 5), pick[byte](d, 0, 4), 1400, quoted)
}

// ip puts the header before, with options, extension headers and fragmentation.
func (d dice) ip(src, dst string, v6 bool, proto byte, payload []byte) []byte {
	if !v6 {
		h := ipHeader{src: src, dst: dst, proto: proto, tos: byte(d.Uint32()), ttl: byte(1 + d.IntN(255)), id: pick(d, d.IntN(8), d.IntN(65536))}
		h.frag = pick(d, 0, 0, 0, df, df, df, 0x2000, 100, 0x2000|100, 0x8000, 0xffff)
		if d.often(15) {
			h.options = bytes.Repeat([]byte{1}, 4*(1+d.IntN(10)))
		}
		return h.packet(payload)
	}
	for range pick(d, 0, 0, 0, 0, 0, 1, 1, 2, 3, 5, 6, 7, 8) {
		kind := pick[byte](d, 0, 43, 60, 60, 44)
		if kind == 44 {
			offset := pick(d, 0, 1, 1, 8, 9, 800)
			payload = cat([]byte{proto, 0}, be16(offset), []byte{0, 0, 0, byte(d.IntN(4))}, payload)
		} else {
			size := pick(d, 0, 0, 0, 1, 30, 255)
			payload = cat([]byte{proto, byte(size)}, make([]byte, 6+8*size), payload)
		}
		proto = kind
	}
	return ipHeader{src: src, dst: dst, proto: proto, tos: byte(d.Uint32()), ttl: byte(1 + d.IntN(255)), label: d.Uint32() & 0xfffff}.packet(payload)
}

// tunnel makes a packet in a tunnel to a node: IP in IP or in UDP.
func (d dice) tunnel(v6 bool) (string, []byte) {
	what, inner := d.packet(1)
	src, dst := pick(d, diceNodes4...), pick(d, diceNodes4...)
	if v6 {
		src, dst = pick(d, diceNodes6...), pick(d, diceNodes6...)
	}
	proto := byte(protoIPIP)
	if inner[0]>>4 == 6 {
		proto = protoIPv6
	}
	if d.often(30) {
		if d.often(50) { // variant 0, with a header
			words := pick(d, 0, 0, 1, 2, 31)
			inner = cat([]byte{byte(words) | pick[byte](d, 0, 0, 0, 0x20, 0x80), proto, 0, 0}, make([]byte, 4*words), inner)
		}
		proto, inner = protoUDP, datagram(0xc123, pick(d, 6080, 6080, 6080, 6081), inner...)
	}
	if d.often(70) { // plain
		h := ipHeader{src: src, dst: dst, proto: proto, id: d.IntN(64), label: uint32(d.IntN(64)), frag: pick(d, 0, df), tos: pick[byte](d, 0, 0, 1, 2, 3)}
		return "tunnelled " + what, h.packet(inner)
	}
	return "oddly tunnelled " + what, d.ip(src, dst, v6, proto, inner)
}
