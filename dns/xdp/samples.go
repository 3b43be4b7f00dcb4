package xdp

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"os"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"

	"meridian/dns/server"
)

// Why a sample was taken (bpf/consts.h).
const (
	wantedNote = 1
	wantedLog  = 2
)

// samples hands on what the program copies.
type samples struct {
	ring   *ebpf.Map
	reader *ringbuf.Reader
	seen   func(*server.Seen)
	done   chan error
}

// sample has the program copy what is wanted.
func (p *Path) sample(s *server.Serving) error {
	if p.samples == nil {
		m, err := p.kernel.Samples.Clone() // images come and go
		if err != nil {
			return fmt.Errorf("dns xdp: samples: %w", err)
		}
		r, err := ringbuf.NewReader(m)
		if err != nil {
			m.Close()
			return fmt.Errorf("dns xdp: samples: %w", err)
		}
		r.SetDeadline(time.Now().Add(samplePeriod))
		p.samples = &samples{ring: m, reader: r, seen: s.Seen, done: make(chan error, 1)}
		go func() { p.samples.done <- p.samples.run() }()
	}
	return p.kernel.share(s.Share)
}

// share sets which part of all queries is copied.
func (k *kernel) share(part float64) error {
	share := uint32(math.Round(min(1, max(0, part)) * math.MaxUint32))
	if share == k.settings.Share {
		return nil
	}
	k.settings.Share = share
	if err := k.Self.Put(uint32(0), &k.settings); err != nil {
		return fmt.Errorf("dns xdp: settings: %w", err)
	}
	return nil
}

// samplePeriod is how often the samples are looked at; the program only calls
// where there are many.
const samplePeriod = 100 * time.Millisecond

// run reads samples until the reader is closed.
func (s *samples) run() error {
	var rec ringbuf.Record
	for {
		err := s.reader.ReadInto(&rec)
		switch {
		case errors.Is(err, os.ErrClosed):
			return nil
		case errors.Is(err, os.ErrDeadlineExceeded):
			s.reader.SetDeadline(time.Now().Add(samplePeriod))
		case err != nil:
			return fmt.Errorf("dns xdp: samples: %w", err)
		case len(rec.RawSample) >= int(unsafe.Sizeof(dnsSample{})):
			s.seen((*dnsSample)(unsafe.Pointer(&rec.RawSample[0])).seen())
		}
	}
}

func (r *dnsSample) seen() *server.Seen {
	reason := dnsReason(r.Reason)
	return &server.Seen{
		Query:  r.Query[:min(int(r.QueryLen), len(r.Query))],
		Answer: r.Answer[:min(int(r.AnswerLen), len(r.Answer))],
		Client: netip.AddrPortFrom(netip.AddrFrom16(r.Client.Octet).Unmap(), r.Port>>8|r.Port<<8),
		Rcode:  r.Rcode, Limited: reason == dnsReasonDROP_LIMITED || reason == dnsReasonDROP_FLOOD, Slipped: reason == dnsReasonTX_TRUNCATED,
		Note: r.Wanted&wantedNote != 0, Log: r.Wanted&wantedLog != 0,
	}
}

// stopSamples ends it.
func (p *Path) stopSamples() {
	if p.samples == nil {
		return
	}
	p.samples.reader.Close()
	p.samples.ring.Close()
	if err := <-p.samples.done; err != nil {
		p.cfg.Log.Error("reading what the kernel copies of queries", "error", err)
	}
	p.samples = nil
}
