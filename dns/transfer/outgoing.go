package transfer

import (
	"context"
	"encoding/binary"
	"errors"
	"iter"
	"time"

	"meridian/dns/zone"
	"meridian/fleet"
)

// outWait is how long a transfer may wait for its turn.
const outWait = 5 * time.Second

// datagramHistory is how much of a journal is read for an answer by datagram,
// in octets: more would hardly fit, and whoever forges the address of a client
// must not make us read megabytes for each.
const datagramHistory = 64 << 10

// handleTransfer answers AXFR (RFC 5936) and IXFR (RFC 1995).
func (t *Transfer) handleTransfer(ctx context.Context, a *asked) {
	name := zone.Text(a.question.name)
	p := t.policy(name)
	result := "ok"
	switch {
	case a.question.class != classIN, p == nil:
		result = "unknown"
		a.refuse(rcodeNotAuth, edeNotAuthoritative)
	case !fleet.Allowed(p.access, a.client, a.key()):
		result = "refused"
		t.note("a transfer is refused", "zone", name, "client", a.Client, "key", a.key())
		a.refuse(rcodeRefused, edeProhibited)
	case a.question.qtype == typeAXFR && !a.Stream: // RFC 5936 section 4.2
		result = "invalid"
		a.refuse(rcodeFormErr, 0)
	default:
		result = t.transferOut(ctx, a, name, p)
	}
	t.metrics.transfers.WithLabelValues("out", result).Inc()
}

// transferOut sends a zone or its differences, and tells how it went.
func (t *Transfer) transferOut(ctx context.Context, a *asked, name fleet.Name, p *policy) string {
	ctx, cancel := context.WithTimeout(ctx, t.cfg.MaxTime)
	defer cancel()
	turn := time.NewTimer(outWait)
	defer turn.Stop()
	select {
	case t.out <- struct{}{}:
		defer func() { <-t.out }()
	case <-turn.C:
		t.log.Warn("too many transfers at a time", "zone", name, "client", a.Client)
		a.refuse(rcodeServFail, edeNotReady)
		return "busy"
	case <-ctx.Done():
		return "gone"
	}
	if a.question.qtype == typeIXFR {
		return t.sendIXFR(ctx, a, name, p)
	}
	return t.sendAXFR(ctx, a, name, p)
}

func (t *Transfer) sendAXFR(ctx context.Context, a *asked, name fleet.Name, p *policy) string {
	z := t.version(name, p)
	if z == nil {
		a.refuse(rcodeServFail, edeNotReady)
		return "missing"
	}
	soa := soaOf(z)
	return t.send(ctx, a, "axfr", z, func(yield func(record) bool) {
		if !yield(soa) {
			return
		}
		for r := range records(z) {
			if !yield(r) {
				return
			}
		}
		yield(soa)
	})
}

func (t *Transfer) sendIXFR(ctx context.Context, a *asked, name fleet.Name, p *policy) string {
	serial, ok := a.have()
	if !ok {
		a.refuse(rcodeFormErr, 0)
		return "invalid"
	}
	most := t.cfg.MaxJournal
	if !a.Stream {
		most = datagramHistory
	}
	z, changes, ok := t.since(name, p, serial, most)
	if z == nil {
		a.refuse(rcodeServFail, edeNotReady)
		return "missing"
	}
	soa := soaOf(z)
	single := func(yield func(record) bool) { yield(soa) }
	if !newer(z.Serial, serial) {
		return t.send(ctx, a, "ixfr", z, single)
	}
	if !a.Stream {
		if ok {
			if result := t.sendOne(a, differences(z, changes)); result != "" {
				return result
			}
		}
		return t.sendOne(a, single) // the client comes again over a stream (RFC 1995 section 2)
	}
	if !ok {
		return t.sendAXFR(ctx, a, name, p)
	}
	return t.send(ctx, a, "ixfr", z, differences(z, changes))
}

// have is the serial that an IXFR request tells (RFC 1995 section 3).
func (a *asked) have() (uint32, bool) {
	r := reader{msg: &a.msg, at: a.msg.at}
	for i := range a.msg.counts[1] + a.msg.counts[2] {
		if r.next() != nil {
			return 0, false
		}
		if i >= a.msg.counts[1] && r.rtype == zone.TypeSOA && string(r.owner) == string(a.question.name) {
			if zone.CheckRDATA(r.rtype, r.data) != nil {
				return 0, false
			}
			return binary.BigEndian.Uint32(r.data[len(r.data)-20:]), true
		}
	}
	return 0, false
}

// differences gives one difference sequence (RFC 1995 section 4): the new SOA,
// the old SOA, what is gone, the new SOA, what is new, the new SOA.
func differences(z *zone.Zone, changes []zone.Change) iter.Seq[record] {
	return func(yield func(record) bool) {
		soa := soaOf(z)
		if !yield(soa) {
			return
		}
		for _, del := range []bool{true, false} {
			if !del && !yield(soa) {
				return
			}
			for _, c := range changes { // the old SOA first
				if del && c.Delete && c.Type == zone.TypeSOA && !yield(record{string(c.Owner), c.Type, c.TTL, c.Data}) {
					return
				}
			}
			for _, c := range changes {
				if c.Delete == del && c.Type != zone.TypeSOA && !yield(record{string(c.Owner), c.Type, c.TTL, c.Data}) {
					return
				}
			}
		}
		yield(soa)
	}
}

// sendOne sends all records in one datagram, or nothing where they do not fit;
// then it gives "".
func (t *Transfer) sendOne(a *asked, list iter.Seq[record]) string {
	p := newPacker(a.room(), a.signature())
	p.begin(a.plain, true)
	for r := range list {
		if !p.put(r) {
			return ""
		}
	}
	if err := a.reply(p.message()); err != nil {
		return "gone"
	}
	t.metrics.sent("ixfr", len(p.buf), p.count)
	return "ok"
}

// signature is how many octets the answer's signature takes.
func (a *asked) signature() int {
	if a.session == nil {
		return 0
	}
	return a.session.Key.Size()
}

var errTooSlow = errors.New("it took too long")

// send sends records in as few messages as they fit into.
func (t *Transfer) send(ctx context.Context, a *asked, kind string, z *zone.Zone, list iter.Seq[record]) string {
	begin := time.Now()
	limit := softLimit
	if !a.Stream {
		limit = a.room()
	}
	p := newPacker(limit, a.signature())
	p.begin(a.plain, true)
	octets, count := 0, 0
	var err error
	flush := func() bool {
		octets, count = octets+len(p.buf), count+p.count
		if ctx.Err() != nil {
			err = errTooSlow
		} else {
			err = a.reply(p.message())
		}
		return err == nil
	}
	for r := range list {
		if p.put(r) {
			continue
		}
		if !flush() {
			break
		}
		p.begin(a.plain, false)
		p.put(r) // fits into a message of its own: its zone was accepted
	}
	if err == nil {
		flush()
	}
	t.metrics.sent(kind, octets, count)
	if err != nil {
		t.log.Info("a transfer was cut short", "zone", z.Name, "client", a.Client, "kind", kind, "err", err)
		return "gone"
	}
	t.log.Info("zone sent", "zone", z.Name, "client", a.Client, "kind", kind, "serial", z.Serial, "records", count, "key", a.key(), "encrypted", a.Encrypted, "took", time.Since(begin).Round(time.Millisecond))
	return "ok"
}
