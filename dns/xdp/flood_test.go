package xdp

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"meridian/dns/limit"
	"meridian/dns/zone"
)

// bare is the truncated answer to a query whose answer the kernel has not: the
// question, and an OPT that holds what answers the client's own options.
func bare(q, response []byte) []byte {
	end := headerLen
	for q[end] != 0 {
		end += 1 + int(q[end])
	}
	out := slices.Clone(q[:end+5])
	out[2], out[3] = q[2]&1|0x82, 0
	if q[11] == 0 {
		return out
	}
	out = append(out, 0, 0, typeOPT, 0x04, 0xd0, 0, 0, q[end+5+7]&0x80, 0, 0, 0)
	opt := len(out)
	for at := end + 16; at < len(q); at += 4 + int(binary.BigEndian.Uint16(q[at+2:])) {
		if code, n := binary.BigEndian.Uint16(q[at:]), int(binary.BigEndian.Uint16(q[at+2:])); code == 8 {
			out = append(out, q[at:at+4+n]...)
		}
	}
	if i := bytes.Index(response, []byte{0, 10, 0, 24}); i >= 0 {
		out = append(out, response[i:i+28]...)
	}
	if i := bytes.Index(response, []byte("\x00\x03\x00\x05fra-1")); i >= 0 {
		out = append(out, response[i:i+9]...)
	}
	binary.BigEndian.PutUint16(out[opt-2:], uint16(len(out)-opt))
	return out
}

// fill brings a client over the limit, in small steps: from then on it stays there
// for almost as long as an answer costs.
func fill(l *limit.Limiter, client netip.Addr) {
	small := limit.NewIn(limit.Config{PerSecond: 10_000}, l.Table())
	for small.Check(client, time.Now()) == limit.Send {
	}
}

// onOneCPU keeps the caller on one CPU; its thread ends with it.
func onOneCPU(t *testing.T) {
	t.Helper()
	runtime.LockOSThread()
	var all, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		t.Fatal(err)
	}
	for cpu := range 8 * int(unsafe.Sizeof(all)) {
		if all.IsSet(cpu) {
			one.Set(cpu)
			break
		}
	}
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		t.Fatal(err)
	}
}

// What the kernel has no answer for is dropped there of clients over the limit,
// every second one truncated, and of others passed on and not counted: the
// sockets do that. Who shows a valid cookie, or is exempt, is not held up, nor
// is what no limit knows.
func TestFloods(t *testing.T) {
	onOneCPU(t) // each counts by itself which are truncated
	m, l := newLimited(t, limit.Config{PerSecond: 20, Slip: 2, Exempt: []netip.Prefix{netip.MustParsePrefix("10.3.0.0/16")}})
	long := question(zone.Wire("demo.test."), zone.TypeA, false)
	long = append(slices.Insert(long, headerLen, []byte(strings.Repeat("\x0fxxxxxxxxxxxxxxx", 9))...)[:headerLen+9*16], long[headerLen:len(long)-11]...)
	long[11] = 0
	shown := m.sockets(withOptions("mx1.demo.test", zone.TypeA, false, 0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8), nobodyPort)
	cookie := shown[len(shown)-28:]
	forged := slices.Clone(cookie)
	forged[20]++
	notify := question(zone.Wire("demo.test."), zone.TypeSOA, false)
	notify[2] = 4 << 3
	signed := question(zone.Wire("demo.test."), zone.TypeSOA, false)
	signed[len(signed)-9] = 250
	held := [][]byte{
		withOptions("x.old.demo.test", zone.TypeA, false),
		withOptions("toomany.demo.test", zone.TypeA, true),
		withOptions("demo.test", 255, false, ecs4(10, 1, 2)...),
		withOptions("elsewhere.test", zone.TypeA, false, 0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8),
		withOptions("x.old.demo.test", zone.TypeA, true, forged...),
		withOptions("mx1.demo.test", zone.TypeA, false, 0, 11, 0, 0),
		withOptions("mx1.demo.test", zone.TypeA, false, 0, 19, 0, 0),
	}
	free := [][]byte{
		withOptions("x.old.demo.test", zone.TypeA, false, cookie...),
		withOptions("mx1.demo.test", zone.TypeA, false, cat([]byte{0, 11, 0, 0}, cookie)...),
		withOptions("demo.test", 252, false),
		withOptions("demo.test", 251, false),
		withOptions("mx1.demo.test", zone.TypeA, false, 0, 10, 0, 1, 1),
		notify, signed,
	}
	pass := func(q []byte, from netip.AddrPort) {
		t.Helper()
		if verdict, _ := m.run(t, frame(from, server4, q)); verdict != xdpPass {
			t.Errorf("verdict %d for\n%s", verdict, text(q))
		}
	}
	for range 30 {
		for _, q := range append(append(held, free...), long) {
			pass(q, nobodyPort)
		}
	}
	sent := 0
	for l.Check(nobodyPort.Addr(), time.Now()) == limit.Send {
		sent++
	}
	if sent < 20 {
		t.Errorf("%d answers may be sent after what was passed on: it was counted twice", sent)
	}
	for _, q := range held {
		var got [4]int
		for range 8 {
			fill(l, nobodyPort.Addr())
			verdict, out := m.run(t, frame(nobodyPort, server4, q))
			got[verdict]++
			if verdict != xdpTX {
				continue
			}
			if answer, want := unframe(t, out, nobodyPort, server4), bare(q, m.sockets(q, nobodyPort)); !bytes.Equal(answer, want) {
				t.Fatalf("truncated:\n%x\n%s\nexpected\n%x\n%s", answer, text(answer), want, text(want))
			}
		}
		if got != [4]int{xdpDrop: 4, xdpTX: 4} {
			t.Errorf("of 8 queries over the limit, by verdict: %v, for\n%s", got, text(q))
		}
	}
	var got [4]int
	for range 8 {
		fill(l, nobodyPort.Addr())
		verdict, _ := m.run(t, frame(nobodyPort, server4, long))
		got[verdict]++
	}
	if got != [4]int{xdpDrop: 4, xdpPass: 4} {
		t.Errorf("names that are too long, by verdict: %v", got)
	}
	for _, q := range free {
		fill(l, nobodyPort.Addr())
		pass(q, nobodyPort)
	}
	pass(held[0], netip.MustParseAddrPort("10.3.9.9:99"))
	counters, err := m.counters()
	if err != nil || counters["drop_flood"] != 4*uint64(len(held)+1) || counters["tx_truncated"] != 4*uint64(len(held)) {
		t.Errorf("%v, %v", counters, err)
	}
}

// Sets of networks hold what net/netip says that they hold.
func TestNetworks(t *testing.T) {
	m, _ := newLimited(t, limit.Config{PerSecond: 1})
	r := rand.New(rand.NewPCG(5, 6))
	for _, size := range []int{0, 1, 3, 33, 3000} {
		var list []netip.Prefix
		for range size {
			a := clientOf(r.Uint32()).Addr()
			list = append(list, netip.PrefixFrom(a, a.BitLen()-r.IntN(min(a.BitLen(), 40))))
		}
		if size == 3 {
			list = append(list, netip.MustParsePrefix("::/0"), netip.MustParsePrefix("::ffff:10.1.0.0/112"), netip.MustParsePrefix("255.255.255.255/32"))
		}
		if err := m.setProxies(list); err != nil {
			t.Fatal(err)
		}
		in := 0
		for range 2000 {
			client, server := clientOf(r.Uint32()), server4
			if len(list) > 0 && r.IntN(2) == 0 {
				p := list[r.IntN(len(list))]
				a := p.Masked().Addr()
				if r.IntN(2) == 0 {
					a = a.Prev()
				}
				if a.IsValid() && !a.Is4In6() && !a.IsMulticast() && a.As16()[0] != 0 || a.Is4() && a.As4()[0] == 10 {
					client = netip.AddrPortFrom(a, 77)
				}
			}
			if client.Addr().Is6() {
				server = server6
			}
			want := slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Contains(client.Addr()) })
			q := withOptions("mx1.demo.test", zone.TypeA, false)
			verdict, _ := m.run(t, frame(client, server, q))
			if passed := verdict == xdpPass; passed != want {
				t.Fatalf("%s among %d networks: %v, want %v", client, size, passed, want)
			}
			if want {
				in++
			}
		}
		if size > 0 && in == 0 {
			t.Errorf("%d networks: none asked", size)
		}
	}
	var many []netip.Prefix
	for i := range maxBounds {
		many = append(many, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 32))
	}
	if fitNetworks(many) || m.setProxies(many) == nil {
		t.Error("too many networks are taken")
	}
	for i := range many {
		many[i] = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 32)
	}
	if !fitNetworks(many) || len(bounds(many)) != 2 {
		t.Error("networks that meet are not joined")
	}
}
