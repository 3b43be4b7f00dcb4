package sflow

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"
	"time"
)

// reader reads XDR (RFC 4506), as a collector does.
type reader struct {
	t *testing.T
	b []byte
}

func (r *reader) word() uint32 { return binary.BigEndian.Uint32(r.octets(4)) }

func (r *reader) octets(n int) []byte {
	r.t.Helper()
	if len(r.b) < n {
		r.t.Fatalf("the datagram ends %d octets early", n-len(r.b))
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

// opaque reads octets with their length before them and padding behind.
func (r *reader) opaque() []byte {
	n := int(r.word())
	out := r.octets(n)
	for _, b := range r.octets(-n & 3) {
		if b != 0 {
			r.t.Error("padding is not zero")
		}
	}
	return out
}

// datagram is what a collector finds in one.
type datagram struct {
	agent            netip.Addr
	sequence, uptime uint32
	samples          []sample
}

type sample struct {
	sequence, source, rate, pool, drops, input, output uint32
	frame, stripped                                    uint32
	head                                               []byte
}

// decode reads a datagram as sflow_version_5.txt section 5 has it.
func decode(t *testing.T, b []byte) (d datagram) {
	t.Helper()
	r := &reader{t, b}
	if v := r.word(); v != 5 {
		t.Fatalf("version %d", v)
	}
	size := map[uint32]int{1: 4, 2: 16}[r.word()]
	d.agent, _ = netip.AddrFromSlice(r.octets(size))
	if sub := r.word(); sub != 0 {
		t.Errorf("sub-agent %d", sub)
	}
	d.sequence, d.uptime = r.word(), r.word()
	for range r.word() {
		if f := r.word(); f != 1 {
			t.Fatalf("sample format %d, expected flow_sample", f)
		}
		in := &reader{t, r.octets(int(r.word()))}
		s := sample{sequence: in.word(), source: in.word(), rate: in.word(), pool: in.word(), drops: in.word(), input: in.word(), output: in.word()}
		if n, f := in.word(), in.word(); n != 1 || f != 1 {
			t.Fatalf("%d records, the first of format %d, expected one sampled_header", n, f)
		}
		raw := &reader{t, in.octets(int(in.word()))}
		if p := raw.word(); p != 1 {
			t.Errorf("header protocol %d, expected Ethernet", p)
		}
		s.frame, s.stripped = raw.word(), raw.word()
		s.head = raw.opaque()
		if len(raw.b)+len(in.b) > 0 {
			t.Errorf("%d octets are left over", len(raw.b)+len(in.b))
		}
		d.samples = append(d.samples, s)
	}
	if len(r.b) > 0 {
		t.Errorf("%d octets behind the last sample", len(r.b))
	}
	return d
}

func TestDatagram(t *testing.T) {
	start := time.Unix(1000, 0)
	for _, agent := range []string{"192.0.2.1", "2001:db8::1"} {
		e := New(netip.MustParseAddr(agent), start)
		if e.Flush(start) != nil {
			t.Error("a datagram of nothing")
		}
		head := bytes.Repeat([]byte{7}, 61)
		e.Add(&Packet{Head: head, Length: 1514, Rate: 100, Input: 3, Output: OutputDenied, Seen: 1 << 32, Lost: 5}, start)
		e.Add(&Packet{Head: head[:4], Length: 4, Rate: 100, Input: 4, Output: 9, Seen: 12}, start)
		e.Add(&Packet{Head: nil, Length: 60, Rate: 100, Input: 3, Output: OutputHere, Seen: 13}, start)
		d := decode(t, e.Flush(start.Add(1500*time.Millisecond)))
		if d.agent.String() != agent || d.sequence != 1 || d.uptime != 1500 || len(d.samples) != 3 {
			t.Fatalf("agent %s, sequence %d, uptime %d, %d samples", d.agent, d.sequence, d.uptime, len(d.samples))
		}
		for i, want := range []sample{
			{1, 3, 100, 0, 5, 3, 0x40000102, 1518, 4, head},
			{1, 4, 100, 12, 0, 4, 9, 8, 4, head[:4]},
			{2, 3, 100, 13, 0, 3, 0x3fffffff, 64, 4, nil},
		} {
			got := d.samples[i]
			if !bytes.Equal(got.head, want.head) {
				t.Errorf("sample %d: head %x", i, got.head)
			}
			got.head, want.head = nil, nil
			if got.sequence != want.sequence || got.source != want.source || got.rate != want.rate || got.pool != want.pool || got.drops != want.drops ||
				got.input != want.input || got.output != want.output || got.frame != want.frame || got.stripped != want.stripped {
				t.Errorf("sample %d: %+v, expected %+v", i, got, want)
			}
		}
	}
}

// No datagram is larger than it should be, and no packet is lost between them.
func TestDatagramsAreSplit(t *testing.T) {
	start := time.Unix(1000, 0)
	e := New(netip.MustParseAddr("2001:db8::1"), start)
	var out []datagram
	take := func(b []byte) {
		if len(b) > MaxDatagram {
			t.Errorf("a datagram of %d octets", len(b))
		}
		if b != nil {
			out = append(out, decode(t, b))
		}
	}
	const packets = 100
	for i := range packets {
		take(e.Add(&Packet{Head: make([]byte, i+28), Length: 200, Rate: 1, Input: 1}, start))
	}
	take(e.Flush(start))
	n := uint32(0)
	for i, d := range out {
		if d.sequence != uint32(i)+1 {
			t.Errorf("datagram %d has sequence %d", i, d.sequence)
		}
		for _, s := range d.samples {
			if n++; s.sequence != n {
				t.Errorf("sample %d has sequence %d", n, s.sequence)
			}
		}
	}
	if n != packets {
		t.Errorf("%d samples of %d packets", n, packets)
	}
}
