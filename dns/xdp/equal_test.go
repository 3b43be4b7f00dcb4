package xdp

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/miekg/dns"

	"meridian/dns/answer"
	"meridian/dns/zone"
	"meridian/fleet"
)

// asker makes queries of all shapes about a plan's names.
type asker struct {
	*rand.Rand
	names [][]byte
	types []uint16
}

var someTypes = []uint16{1, 1, 1, 28, 2, 5, 6, 12, 15, 16, 33, 43, 46, 47, 25, 39, 48, 65, 64, 257, 255, 252, 128, 65280, 65281, 99}

func newAsker(p *answer.Plan, seed uint64) *asker {
	a := &asker{Rand: rand.New(rand.NewPCG(seed, 1)), types: someTypes}
	for z := range p.Zones() {
		for n := range z.Nodes() {
			a.names = append(a.names, []byte(n.Name))
			for i := range n.Sets {
				for rest := n.Sets[i].Data; len(rest) > 0; {
					var rdata []byte
					rdata, rest = zone.Next(rest)
					if h := zone.Target(n.Sets[i].Type, rdata); h != nil {
						a.names = append(a.names, h)
					}
				}
			}
		}
		soa, _ := zone.Next(z.Apex().Get(zone.TypeSOA).Data)
		mname := zone.WireLen(soa)
		a.names = append(a.names, soa[mname:len(soa)-20])
	}
	slices.SortFunc(a.names, bytes.Compare)
	return a
}

func (a *asker) pick(list ...string) string { return list[a.IntN(len(list))] }

// name gives one that exists, lies below one that does, beside it, or above.
func (a *asker) name() []byte {
	n := slices.Clone(a.names[a.IntN(len(a.names))])
	for range a.IntN(3) {
		switch a.IntN(3) {
		case 0:
			l := a.pick("x", "b", "c", "mx", "www", "a", "ns", "ns1", "staff", "admin", "b\x00d", "*", "A-Rather-Long-Label-In-Mixed-Case", "ent")
			n = append(append([]byte{byte(len(l))}, l...), n...)
		case 1:
			if n[0] > 0 {
				n = n[1+int(n[0]):]
			}
		}
	}
	for i := range n {
		if a.IntN(3) == 0 && n[i] >= 'a' && n[i] <= 'z' {
			n[i] -= 32
		}
	}
	if len(n) > 255 {
		n = n[len(n)-1:]
	}
	return n
}

// query gives one, mostly without a fault.
func (a *asker) query() []byte {
	q := make([]byte, headerLen)
	binary.BigEndian.PutUint16(q, uint16(a.Uint32()))
	q[5] = 1
	if a.IntN(2) == 0 {
		q[2] |= 1
	}
	if a.IntN(4) == 0 {
		q[2] |= byte(a.IntN(8)) & 7
		q[3] = byte(a.Uint32())
	}
	q = append(q, a.name()...)
	q = binary.BigEndian.AppendUint16(q, a.types[a.IntN(len(a.types))])
	q = append(q, 0, 1)
	if a.IntN(3) == 0 {
		return q
	}
	q[11] = 1
	size := []int{0, 512, 600, 1232, 1400, 4096, 65535}[a.IntN(7)]
	q = append(q, 0, 0, 41, byte(size>>8), byte(size), 0, 0, 0, 0)
	if a.IntN(3) == 0 {
		q[len(q)-2] = 0x80
	}
	var options []byte
	for a.IntN(2) == 0 {
		options = append(options, a.option()...)
	}
	return append(binary.BigEndian.AppendUint16(q, uint16(len(options))), options...)
}

func (a *asker) option() []byte {
	code, data := 0, []byte{}
	switch a.IntN(8) {
	case 0, 1, 2:
		code = 8
		family, addr := 1, []byte{10, byte(a.IntN(5)), byte(a.IntN(256)), byte(a.IntN(256))}
		if a.IntN(3) == 0 {
			family, addr = 2, append([]byte{0x20, 1, 0xd, 0xb8, byte(a.IntN(5))}, make([]byte, 11)...)
			binary.BigEndian.PutUint64(addr[8:], a.Uint64())
			if a.IntN(3) == 0 {
				addr = netip.MustParseAddr([]string{"::ffff:10.1.2.3", "64:ff9b::10.2.0.1", "2002:a01:203::1", "2001:0:1:2:3:4:f5fe:fdfc", "::1"}[a.IntN(5)]).AsSlice()
			}
		}
		bits := a.IntN(8*len(addr) + 1)
		if a.IntN(3) == 0 {
			bits = bits / 8 * 8
		}
		p := netip.PrefixFrom(addrOf(addr), bits).Masked().Addr().AsSlice()
		data = append([]byte{0, byte(family), byte(bits), 0}, p[:(bits+7)/8]...)
	case 3:
		code = 10
		data = make([]byte, []int{8, 24, 24, 16, 40}[a.IntN(5)])
		for i := range data {
			data[i] = byte(a.Uint32())
		}
	case 4:
		code, data = 12, make([]byte, a.IntN(30))
	case 5:
		code = []int{3, 11, 19}[a.IntN(3)]
	default:
		code, data = 65001, make([]byte, a.IntN(12))
	}
	return cat(be16(code), be16(len(data)), data)
}

func addrOf(b []byte) netip.Addr { a, _ := netip.AddrFromSlice(b); return a }

// mutate spoils a message.
func (a *asker) mutate(q []byte) []byte {
	for range 1 + a.IntN(3) {
		switch a.IntN(4) {
		case 0:
			q[a.IntN(len(q))] ^= 1 << a.IntN(8)
		case 1:
			q = q[:a.IntN(len(q)+1)]
		case 2:
			q = append(q, make([]byte, a.IntN(5))...)
		case 3:
			at := a.IntN(len(q) + 1)
			q = slices.Insert(q, at, byte(a.Uint32()))
		}
		if len(q) == 0 {
			return []byte{0}
		}
	}
	return q
}

func (a *asker) client() netip.AddrPort {
	if a.IntN(2) == 0 {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(1 + a.IntN(4)), byte(a.IntN(256)), byte(a.IntN(256))}), 1024+uint16(a.IntN(60000)))
	}
	b := netip.MustParseAddr("2001:db8::9").As16()
	b[4], b[5] = byte(a.IntN(5)), byte(a.IntN(3))
	return netip.AddrPortFrom(netip.AddrFrom16(b), 1024+uint16(a.IntN(60000)))
}

// compare asks both, and gives whether the program answered.
func (m *machine) compare(t testing.TB, q []byte, client netip.AddrPort, tags ...int) bool {
	t.Helper()
	server := server4
	if client.Addr().Is6() {
		server = server6
	}
	in := frame(client, server, q, tags...)
	verdict, out := m.run(t, in)
	switch verdict {
	case xdpPass:
		if !bytes.Equal(in, out) {
			t.Fatalf("%x\npassed, but not as it came", q)
		}
		return false
	case xdpTX:
		got := unframe(t, out, client, server, tags...)
		if want := m.sockets(q, client); !bytes.Equal(got, want) {
			t.Fatalf("query %x from %s\n%s\nthe kernel answers\n%x\n%s\nthe sockets\n%x\n%s", q, client, text(q), got, text(got), want, text(want))
		}
		return true
	}
	t.Fatalf("verdict %d for %x", verdict, q)
	return false
}

func text(b []byte) string {
	m := new(dns.Msg)
	if err := m.Unpack(b); err != nil {
		return err.Error()
	}
	return m.String()
}

// agree asks both many queries.
func (m *machine) agree(t *testing.T, seed uint64, total int) {
	t.Helper()
	a := newAsker(m.plan, seed)
	answered := 0
	for i := range total {
		q := a.query()
		if i%4 == 0 {
			q = a.mutate(q)
		}
		var tags []int
		if i%8 == 0 {
			tags = []int{7}
		}
		if m.compare(t, q, a.client(), tags...) {
			answered++
		}
	}
	counters, err := m.counters()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d of %d answered in the kernel; %v", answered, total, counters)
	if answered < total/4 {
		t.Errorf("only %d of %d answered in the kernel", answered, total)
	}
}

// many is how many queries a test asks.
func many() int {
	if testing.Short() {
		return 5_000
	}
	return 50_000
}

// Whatever is asked, the kernel answers as the sockets do, or passes it on to
// them.
func TestAnswersAreTheSockets(t *testing.T) {
	newMachine(t, newPlan(t, spec, nil)).agree(t, 1, many())
}

// So it is when health changes, before scopes are as wide as answers go and
// after.
func TestHealthFlips(t *testing.T) {
	m := newMachine(t, newPlan(t, spec, nil))
	for i, v := range []*fleet.View{down("web", "fra"), down("web", "fra", "tyo"), nil, down("order", "gru", "fra"), down("split", "tyo"), nil} {
		for _, p := range []*answer.Plan{m.plan.WithView(v, now), m.plan.WithView(v, now).Settle()} {
			ok, err := m.steer(m.image, p)
			if err != nil || !ok {
				t.Fatal(ok, err)
			}
			m.plan = p
			m.agree(t, uint64(i), many()/10)
		}
	}
}
