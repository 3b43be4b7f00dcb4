package xdp

import (
	"bytes"
	"errors"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"

	"meridian/fleet"
)

// sampled reads what samples there are.
func (m *machine) sampled(t *testing.T) []*Sample {
	t.Helper()
	r, err := ringbuf.NewReader(m.Samples)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var out []*Sample
	for {
		r.SetDeadline(time.Now())
		rec, err := r.Read()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, m.sample((*edgeSample)(unsafe.Pointer(&rec.RawSample[0]))))
	}
}

// A sample is the packet as it came, and what became of it, whatever that is.
func TestSamples(t *testing.T) {
	m := newMachine(t, programSpec, "lb", Roles{L4: true})
	m.guard = &guard{sampling: fleet.PacketSampling{Rate: 1, PerSecond: 1000}}
	m.reconcile(t)
	long := fromRouter(ipHeader{src: client6, dst: any6, proto: protoTCP}.packet(segment(5000, 443, ack, make([]byte, 500)...)))
	frames := [][]byte{
		fromRouter(udpFrom(client4, 1000)),
		long,
		fromRouter(ipHeader{src: client4, dst: any4, proto: protoTCP}.packet(segment(5000, 80, syn))),
		cat(macNode[:], macRouter[:], be16(0x0806), make([]byte, 28)),
	}
	for _, f := range frames {
		m.send(t, f)
	}
	got := m.sampled(t)
	if len(got) != len(frames) {
		t.Fatalf("%d samples of %d packets", len(got), len(frames))
	}
	for i, want := range []Sample{
		{Reason: "tx_l2", Protocol: protoUDP, Source: netip.MustParseAddrPort(client4 + ":1000"), Destination: netip.MustParseAddrPort(any4 + ":53")},
		{Reason: "tx_tunnel", Protocol: protoTCP, Source: netip.MustParseAddrPort("[" + client6 + "]:5000"), Destination: netip.MustParseAddrPort("[" + any6 + "]:443")},
		{Reason: "drop_no_service", Protocol: protoTCP, Source: netip.MustParseAddrPort(client4 + ":5000"), Destination: netip.MustParseAddrPort(any4 + ":80")},
		{Reason: "pass_other"},
	} {
		s := got[i]
		if s.Reason != want.Reason || s.Protocol != want.Protocol || s.Source != want.Source || s.Destination != want.Destination {
			t.Errorf("sample %d: %+v, expected %+v", i, s, want)
		}
		if head := frames[i][:min(128, len(frames[i]))]; !bytes.Equal(s.Head, head) || s.Length != len(frames[i]) || s.Rate != 1 {
			t.Errorf("sample %d: %d octets of %d, one in %d, not as the packet came", i, len(s.Head), s.Length, s.Rate)
		}
		if d := time.Since(s.Time); d < 0 || d > time.Minute {
			t.Errorf("sample %d is of %s ago", i, d)
		}
	}
	m.guard = nil
	m.reconcile(t)
	m.send(t, frames[0])
	if got := m.sampled(t); len(got) > 0 {
		t.Errorf("%d samples with sampling off", len(got))
	}
}

// No more samples are made than the budget allows, and about one in the rate.
func TestSamplingBudgetAndRate(t *testing.T) {
	m := newMachine(t, programSpec, "lb", Roles{L4: true})
	run := func(s fleet.PacketSampling, packets uint32) (samples, lost int) {
		m.guard = &guard{sampling: s}
		m.reconcile(t)
		_, before, err := m.kernel.sampled()
		if err != nil {
			t.Fatal(err)
		}
		frame := fromRouter(ipHeader{src: client4, dst: "10.0.0.1", proto: protoTCP}.packet(segment(5000, 22, ack)))
		if _, err := m.edgeObjects.Edge.Run(&ebpf.RunOptions{Data: frame, Repeat: packets}); err != nil {
			t.Fatal(err)
		}
		seen, after, err := m.kernel.sampled()
		if err != nil || seen < uint64(packets) {
			t.Fatalf("%d packets seen, %v", seen, err)
		}
		return len(m.sampled(t)), int(after - before)
	}
	if n, _ := run(fleet.PacketSampling{Rate: 10, PerSecond: 100_000}, 10_000); n < 850 || n > 1150 {
		t.Errorf("%d samples of 10000 packets, one in 10", n)
	}
	// The gap drawn at the rate before, of up to 19 packets, ends first.
	if n, lost := run(fleet.PacketSampling{Rate: 1, PerSecond: 5}, 100); n > 6 || n+lost < 81 || n+lost > 100 {
		t.Errorf("%d samples of 100 packets and %d lost, at 5 a second", n, lost)
	}
	if !slices.Contains(m.reasons, "drop_rule") {
		t.Error("reasons have other names than expected")
	}
}
