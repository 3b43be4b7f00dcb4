package xdp

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"meridian/fleet"
)

// A flow to an endpoint that is no gateway stays with it while the ring changes
// around it, until the endpoint is down; what takes the endpoint's place in the
// table does not inherit its flows.
func TestFlowsOutliveTheRing(t *testing.T) {
	roles := Roles{L4: true}
	m := newMachine(t, members(false, 1), "lb", roles)
	for i := range 20 {
		m.state[endpointTarget(i)] = fleet.Up
	}
	sent := func(flags byte) map[string]int { return m.sent(t, 1000, flags) }
	expect := func(when string, got, want map[string]int) { t.Helper(); expectSent(t, when, got, want) }
	expect("first", sent(syn), map[string]int{"gw1 flow_new": flows})

	m.apply(t, members(false, 1, 2, 3, 4), "lb", roles)
	expect("more endpoints", sent(ack), map[string]int{"gw1 flow_hit": flows})

	gw1 := endpointTarget(1)
	m.state[gw1] = fleet.Drain
	m.reconcile(t)
	expect("gw1 drains", sent(ack), map[string]int{"gw1 flow_hit": flows})
	expect("a reset of each", sent(rst), map[string]int{"gw1 flow_hit": flows})

	m.state[gw1] = fleet.Down
	m.reconcile(t)
	for got := range sent(ack) {
		if strings.HasPrefix(got, "gw1") || !strings.HasSuffix(got, "flow_moved") {
			t.Errorf("gw1 is down: %s", got)
		}
	}
	m.state[gw1] = fleet.Up
	m.reconcile(t)
	for got := range sent(ack) {
		if strings.HasPrefix(got, "gw1") || !strings.HasSuffix(got, "flow_hit") {
			t.Errorf("gw1 is back, but its flows live elsewhere now: %s", got)
		}
	}

	// All gateways go and as many come: old indexes, new generations.
	m.apply(t, members(false, 5, 6, 7, 8), "lb", roles)
	m.apply(t, members(false, 11, 12, 13, 14), "lb", roles)
	for got := range sent(ack) {
		if !strings.HasPrefix(got, "gw1") || !strings.HasSuffix(got, "flow_moved") {
			t.Errorf("all gateways replaced: %s", got)
		}
	}
}

// At slots that never had another owner that lives nothing is looked up nor
// kept. At the others new flows are kept, so that they stay while the ring
// changes on, and older ones go to the slot's owner, a gateway that passes on
// what is not its own.
func TestUnsafeSlotsAlone(t *testing.T) {
	roles := Roles{L4: true}
	m := newMachine(t, members(true, 1, 2), "lb", roles)
	total := func(got map[string]int, result string) (n int) {
		for k, v := range got {
			if strings.HasSuffix(k, result) {
				n += v
			}
		}
		return n
	}
	if got := m.sent(t, 1000, syn); total(got, "flow_safe") != flows {
		t.Fatalf("the first ring: %v", got)
	}
	m.apply(t, members(true, 1, 2, 3), "lb", roles)
	if got := m.sent(t, 1000, ack); total(got, "flow_safe") != flows {
		t.Fatalf("gw3 has not been found up yet: %v", got)
	}
	m.state[gatewayNumber(3)] = fleet.Up
	m.reconcile(t)
	got := m.sent(t, 1000, ack)
	if got["gw3 flow_unknown"] == 0 || total(got, "flow_unknown") != got["gw3 flow_unknown"] || total(got, "flow_safe") == 0 {
		t.Fatalf("flows begun before gw3: %v", got)
	}
	moved := got["gw3 flow_unknown"]
	expectSent(t, "again", m.sent(t, 1000, ack), got)
	if got := m.sent(t, 1000, syn); got["gw3 flow_new"] != moved {
		t.Fatalf("new flows at those slots: %v, expected %d of gw3", got, moved)
	}
	if got := m.sent(t, 1000, ack); got["gw3 flow_hit"] != moved {
		t.Errorf("the same, later: %v", got)
	}
	m.state[gatewayNumber(3)] = fleet.Drain
	m.reconcile(t)
	if got := m.sent(t, 1000, ack); got["gw3 flow_hit"] != moved {
		t.Errorf("gw3 drains: %v", got)
	}
	m.state[gatewayNumber(3)] = fleet.Down
	m.reconcile(t)
	if got := m.sent(t, 1000, ack); total(got, "flow_safe") != flows {
		t.Errorf("gw3 is down, and nobody else ever had a slot that is another's now: %v", got)
	}
}

// A flow that found its first bucket full is found behind it, also when one of
// that bucket's flows has been idle since, and goes on where it was.
func TestFlowsBehindAFullBucketAreFound(t *testing.T) {
	m := newMachine(t, members(false, 1), "lb", Roles{L4: true})
	frame := fromRouter(ipHeader{src: client4, dst: any4, proto: protoTCP}.packet(segment(5000, 443, syn)))
	m.send(t, frame)
	salt := Key{7}.salt(frontend{addr: netip.MustParseAddr(any4), port: 443, proto: protoTCP})
	hash := Key{7}.flowHash(netip.AddrPortFrom(netip.MustParseAddr(client4), 5000), salt)
	f, err := m.findFlow(hash)
	if err != nil || f == nil {
		t.Fatalf("the flow is not kept: %v", err)
	}
	at := func(n uint64) uint32 {
		return uint32(uint64(uint32(hash+n*flowMix)) * uint64(m.Flows.MaxEntries()) >> 32)
	}
	if at(0) == at(1) {
		t.Fatal("the flow's buckets are one")
	}
	var full, next edgeBucket
	for i := range full.Way {
		full.Way[i] = *f
		full.Way[i].Tag = uint64(i) ^ uint64(f.Owner)*flowMix // of other flows
	}
	full.Way[2].Seen -= 2 * 3600 // idle
	next.Way[0] = *f
	for n, b := range []edgeBucket{full, next} {
		if err := m.Flows.Put(at(uint64(n)), &b); err != nil {
			t.Fatal(err)
		}
	}
	m.apply(t, members(false, 1, 2, 3, 4), "lb", Roles{L4: true})
	frame = fromRouter(ipHeader{src: client4, dst: any4, proto: protoTCP}.packet(segment(5000, 443, ack)))
	if _, _, reasons := m.send(t, frame); !slices.Contains(reasons, "flow_hit") {
		t.Errorf("the flow was not found: %v", reasons)
	}
}

// known gives a TCP flow's hash, from a port of client4's to any4's port 443.
func known(port uint16) uint64 {
	salt := Key{7}.salt(frontend{addr: netip.MustParseAddr(any4), port: 443, proto: protoTCP})
	return Key{7}.flowHash(netip.AddrPortFrom(netip.MustParseAddr(client4), port), salt)
}

// bucketOf gives the nth bucket of a hash.
func (m *machine) bucketOf(hash, n uint64) uint32 {
	return uint32(uint64(uint32(hash+n*flowMix)) * uint64(m.Flows.MaxEntries()) >> 32)
}

// ages makes a flow's record older.
func (m *machine) ages(t *testing.T, hash uint64, seconds uint32) {
	t.Helper()
	for n := range uint64(flowPlaces) {
		var b edgeBucket
		if err := m.Flows.Lookup(m.bucketOf(hash, n), &b); err != nil {
			t.Fatal(err)
		}
		for i := range b.Way {
			if f := &b.Way[i]; f.Owner != 0 && f.hash() == hash {
				f.Seen -= seconds
				if err := m.Flows.Put(m.bucketOf(hash, n), &b); err != nil {
					t.Fatal(err)
				}
				return
			}
		}
	}
	t.Fatal("the flow is not in the table")
}

// What only SYNs have made is forgotten after a minute; the first other packet
// makes it a flow like any other.
func TestSYNsAloneAreSoonForgotten(t *testing.T) {
	m := newMachine(t, members(false, 1), "lb", Roles{L4: true})
	send := func(port uint16, flags byte) string {
		_, _, reasons := m.send(t, fromRouter(ipHeader{src: client4, dst: any4, proto: protoTCP}.packet(segment(int(port), 443, flags))))
		return reasons[0]
	}
	for i, c := range []struct {
		flags []byte // sent before it ages
		want  string // of an ACK then
	}{
		{[]byte{syn}, "flow_new"}, {[]byte{syn, syn, syn}, "flow_new"}, {[]byte{syn, rst}, "flow_new"}, {[]byte{syn, rst | ack}, "flow_new"},
		{[]byte{syn, ack}, "flow_hit"}, {[]byte{syn, 1 | ack}, "flow_hit"}, {[]byte{ack}, "flow_hit"}, {[]byte{syn, ack, syn}, "flow_hit"},
	} {
		port := uint16(5000 + i)
		for _, f := range c.flags {
			send(port, f)
		}
		m.ages(t, known(port), 59)
		if f, err := m.findFlow(known(port)); err != nil || f.Owner&flowHalf != 0 != (c.want == "flow_new") {
			t.Errorf("flags %x: %+v, %v", c.flags, f, err)
		}
		m.ages(t, known(port), 3)
		if got := send(port, ack); got != c.want {
			t.Errorf("flags %x, and an ACK 62 s later: %s, expected %s", c.flags, got, c.want)
		}
	}
	datagram := ipHeader{src: client4, dst: any4, proto: protoTCP, id: 9, frag: 0x2000}.packet(segment(7000, 443, ack, make([]byte, 28)...))
	later := fromRouter(ipHeader{src: client4, dst: any4, proto: protoTCP, id: 9, frag: 6}.packet(make([]byte, 8)))
	m.send(t, fromRouter(datagram))
	salt := m.rec.vips[edgeVipKey{Addr: toAddress(netip.MustParseAddr(any4)), Proto: protoTCP}].Salt
	first := Key{7}.siphash(0, 0xffff<<32|0xcb007105, salt^(9<<17|1<<16))
	if _, _, got := m.send(t, later); got[0] != "flow_fragment" {
		t.Errorf("a later fragment: %v", got)
	}
	m.ages(t, first, 62)
	if _, _, got := m.send(t, later); got[0] != "flow_fragment_row" {
		t.Errorf("a later fragment, 62 s later: %v", got)
	}
}

const flowYoung = 0x80000000

// A record is young until a packet of its flow comes in a later second than the
// last, whatever it is; no other makes it so.
func TestFlowsAreYoungForASecond(t *testing.T) {
	m := newMachine(t, members(false, 1), "lb", Roles{L4: true})
	for i, c := range []struct {
		name   string
		flags  []byte // sent in one second
		later  byte   // sent in another; 0: nothing
		owners uint32 // bits
	}{
		{"a SYN", []byte{syn}, 0, flowYoung | flowHalf},
		{"an ACK", []byte{ack}, 0, flowYoung},
		{"a SYN and more at once", []byte{syn, ack, ack}, 0, flowYoung},
		{"an ACK, later one more", []byte{ack}, ack, 0},
		{"a SYN, later an ACK", []byte{syn}, ack, 0},
		{"a SYN, later the same", []byte{syn}, syn, flowHalf},
		{"an ACK, later a reset", []byte{ack}, rst, flowYoung},
		{"a flow that goes on, and its SYN again", []byte{ack}, syn, 0},
	} {
		port := uint16(5000 + i)
		send := func(flags byte) {
			m.send(t, fromRouter(ipHeader{src: client4, dst: any4, proto: protoTCP}.packet(segment(int(port), 443, flags))))
		}
		for began := seconds(t); ; began = seconds(t) {
			for _, f := range c.flags {
				send(f)
			}
			if seconds(t) == began {
				break
			}
			port += 100 // another flow, for one second was not enough
		}
		if c.later != 0 {
			m.ages(t, known(port), 1)
			send(c.later)
		}
		if f, err := m.findFlow(known(port)); err != nil || f.Owner&(flowYoung|flowHalf) != c.owners {
			t.Errorf("%s: %+v, %v; expected bits %x", c.name, f, err, c.owners)
		}
	}
}

// Where a flow needs room, one of which only the SYN was seen goes for it, else one
// that was seen in one second only, though it is the newest and stands in another
// bucket; else the one of the first bucket that was silent the longest, and that
// alone is counted as lost.
func TestWhoGoesFirst(t *testing.T) {
	m := newMachine(t, members(false, 1), "lb", Roles{L4: true})
	last := place{0, len(edgeBucket{}.Way) - 1}
	for _, c := range []struct {
		name    string
		bits    map[place]uint32
		gone    place
		evicted bool
	}{
		{"flows that went on", nil, last, true},
		{"a SYN's", map[place]uint32{{3, 2}: flowHalf}, place{3, 2}, false},
		{"one of a second", map[place]uint32{{3, 2}: flowYoung}, place{3, 2}, false},
		{"a SYN's of a second, behind one of a second", map[place]uint32{{1, 1}: flowYoung, {4, 0}: flowYoung | flowHalf, {2, 2}: flowHalf}, place{4, 0}, false},
		{"the first of two", map[place]uint32{{2, 1}: flowYoung, {1, 3}: flowYoung}, place{1, 3}, false},
		{"one where no flow may begin", map[place]uint32{{7, 0}: flowYoung}, last, true},
	} {
		reasons, gone := m.crowded(t, func(bucket, way int, f *edgeFlow) {
			if bits := c.bits[place{bucket, way}]; bits != 0 {
				f.Seen, f.Owner = f.Seen+1000, f.Owner|bits
			}
		})
		if slices.Contains(reasons, "flow_evicted") != c.evicted || !slices.Equal(gone, []place{c.gone}) {
			t.Errorf("%s: %v; gone are %v, expected %v", c.name, reasons, gone, c.gone)
		}
	}
}

type place struct{ bucket, way int }

// crowded fills all places of a flow with others, later ways silent for longer,
// which change may change, and has the flow begin: it gives what was counted, and
// whose places it took.
func (m *machine) crowded(t *testing.T, change func(bucket, way int, f *edgeFlow)) (reasons []string, gone []place) {
	t.Helper()
	m.send(t, fromRouter(ipHeader{src: client4, dst: any4, proto: protoTCP}.packet(segment(5000, 443, ack))))
	whole, err := m.findFlow(known(5000))
	if err != nil || whole == nil {
		t.Fatal(whole, err)
	}
	other := func(bucket, way int) uint64 { return uint64(bucket)<<8 | uint64(way) }
	for n := range flowPlaces {
		var b edgeBucket
		for i := range b.Way {
			f := *whole
			f.Owner &^= flowYoung
			f.Seen -= uint32(100 + i)
			change(n, i, &f)
			f.Tag = other(n, i) ^ uint64(f.Owner)*flowMix
			b.Way[i] = f
		}
		if err := m.Flows.Put(m.bucketOf(known(5001), uint64(n)), &b); err != nil {
			t.Fatal(err)
		}
	}
	_, _, reasons = m.send(t, fromRouter(ipHeader{src: client4, dst: any4, proto: protoTCP}.packet(segment(5001, 443, syn))))
	for n := range flowPlaces {
		var b edgeBucket
		if err := m.Flows.Lookup(m.bucketOf(known(5001), uint64(n)), &b); err != nil {
			t.Fatal(err)
		}
		for i := range b.Way {
			if got := b.Way[i].hash(); got == known(5001) {
				gone = append(gone, place{n, i})
			} else if got != other(n, i) {
				t.Errorf("bucket %d, way %d: %x, expected %x", n, i, got, other(n, i))
			}
		}
	}
	return reasons, gone
}
