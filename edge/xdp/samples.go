package xdp

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"
	"unsafe"

	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"

	"meridian/fleet"
)

// SampleHead is how many octets of a packet a Sample has at most.
const SampleHead = 128

// Sample is a copy of a packet that came to the device, and what became of it.
type Sample struct {
	Time        time.Time      `json:"time"`
	Reason      string         `json:"reason"`               // as in meridian_l4_packets_total: drop_rule, tx_tunnel …
	Protocol    uint8          `json:"protocol"`             // on top of IP
	Source      netip.AddrPort `json:"source,omitzero"`      // of an ICMP error: of the flow that it is about, client to VIP
	Destination netip.AddrPort `json:"destination,omitzero"` //
	Device      uint32         `json:"device"`               // ifindex
	Length      int            `json:"length"`               // of the frame
	Rate        int            `json:"rate"`                 // it stands for so many packets
	Defended    bool           `json:"defended,omitempty"`   // dropped by the defence
	Head        []byte         `json:"head,omitempty"`       // the frame's first octets, at most SampleHead
}

// watchers are who gets the samples. It is safe for concurrent use.
type watchers struct {
	mu   sync.Mutex
	subs map[chan *Sample]bool
}

func (w *watchers) hand(s *Sample) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for c := range w.subs {
		select {
		case c <- s:
		default: // whoever is that slow does without
		}
	}
}

// Samples calls each for every sample until ctx ends, or each says that it has
// enough; meanwhile at least one in want.Rate packets is taken, as far as
// want.PerSecond allows. A caller that is too slow misses some.
func (l *Layer4) Samples(ctx context.Context, want fleet.PacketSampling, each func(*Sample) (more bool)) {
	c := make(chan *Sample, 1024)
	l.watchers.mu.Lock()
	l.watchers.subs[c] = true
	l.watchers.mu.Unlock()
	defer func() {
		l.watchers.mu.Lock()
		defer l.watchers.mu.Unlock()
		delete(l.watchers.subs, c)
	}()
	if want.Rate > 0 {
		defer l.guard.sample(want)()
	}
	for {
		select {
		case <-ctx.Done():
			return
		case s := <-c:
			if !each(s) {
				return
			}
		}
	}
}

// readSamples hands on what the program copies until ctx ends.
func (s *session) readSamples(ctx context.Context) error {
	r, err := ringbuf.NewReader(s.kernel.Samples)
	if err != nil {
		return fmt.Errorf("samples: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { r.Close() })
	defer stop()
	var rec ringbuf.Record
	for {
		switch err := r.ReadInto(&rec); {
		case errors.Is(err, os.ErrClosed):
			return nil
		case err != nil:
			return errors.Join(fmt.Errorf("samples: %w", err), r.Close())
		}
		if len(rec.RawSample) >= int(unsafe.Sizeof(edgeSample{})) {
			s.l.watchers.hand(s.kernel.sample((*edgeSample)(unsafe.Pointer(&rec.RawSample[0]))))
		}
	}
}

// sample gives a copy in Go's words.
func (k *kernel) sample(r *edgeSample) *Sample {
	out := &Sample{Time: bootTime(r.Time), Protocol: r.Proto, Device: r.Device, Length: int(r.Len), Rate: int(r.Rate),
		Head: slices.Clone(r.Head[:min(int(r.Kept), len(r.Head))])}
	reason := edgeReason(r.Reason)
	out.Defended = reason >= edgeReasonDROP_BOGUS_FLAGS && reason <= edgeReasonDROP_VIP_LIMIT
	if int(r.Reason) < len(k.reasons) {
		out.Reason = k.reasons[r.Reason]
	}
	if r.Src != (edgeAddress{}) || r.Dst != (edgeAddress{}) {
		out.Source = netip.AddrPortFrom(netip.AddrFrom16(r.Src.Octet).Unmap(), swap16(r.Sport))
		out.Destination = netip.AddrPortFrom(netip.AddrFrom16(r.Dst.Octet).Unmap(), swap16(r.Dport))
	}
	return out
}

// bootTime gives the time of day of one by the program's clock.
func bootTime(ns uint64) time.Time {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return time.Time{}
	}
	return time.Now().Add(time.Duration(int64(ns) - ts.Nano())).Round(0)
}
