package transfer

import (
	"context"
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"meridian/dns/tsig"
	"meridian/dns/update"
	"meridian/dns/zone"
	"meridian/fleet"
)

// Extended errors (RFC 8914 section 4).
const (
	edeNotReady         = 14
	edeProhibited       = 18
	edeNotAuthoritative = 20
	edeNotSupported     = 21
)

// asked is one request whose signature, if any, is good.
type asked struct {
	*Request
	plain    []byte // the message without TSIG
	msg      message
	question question
	client   netip.Addr
	session  *tsig.Session // nil: not signed
}

// key is the name of the key that signed the request, or "".
func (a *asked) key() fleet.Name {
	if a.session == nil {
		return ""
	}
	return a.session.Key.Name
}

// reply sends one answer, signed where the request was.
func (a *asked) reply(msg []byte) error {
	if a.session != nil {
		msg = a.session.Sign(msg, time.Now())
	}
	return a.Reply(msg)
}

// refuse answers with an RCODE, and with an extended error where the request
// has EDNS; 0 for none.
func (a *asked) refuse(rcode int, ede uint16) {
	msg := answerTo(a.plain, rcode, true)
	if ede > 0 && hasOPT(&a.msg) {
		msg = withEDE(msg, ede)
	}
	_ = a.reply(msg) // a client that is gone needs no answer
}

// hasOPT says whether a message has an OPT record.
func hasOPT(m *message) bool {
	r := reader{msg: m, at: m.at}
	for i := range m.counts[1] + m.counts[2] + m.counts[3] {
		if r.next() != nil {
			return false
		}
		if r.rtype == typeOPT && i >= m.counts[1]+m.counts[2] {
			return true
		}
	}
	return false
}

// Handle answers a message that is not for the plan: NOTIFY, UPDATE, AXFR,
// IXFR, and queries signed with TSIG. It returns when it is done with it.
func (t *Transfer) Handle(ctx context.Context, r *Request) {
	if len(r.Message) < headerLen || r.Message[2]&0x80 != 0 {
		return // no request; an answer to it could go round in circles
	}
	t.mu.Lock()
	in := t.intent
	t.mu.Unlock()
	var keys tsig.Keys
	if in != nil {
		keys = in.keys
	}
	a := &asked{Request: r, plain: r.Message, client: r.Client.Addr().Unmap()}
	session, plain, err := keys.Check(r.Message, time.Now())
	var bad *tsig.Error
	switch {
	case err == nil:
		a.session, a.plain = session, plain
	case errors.As(err, &bad):
		t.metrics.unsigned(bad.Code)
		t.note("a request's signature is refused", "client", r.Client, "err", err)
		_ = r.Reply(bad.Answer(answerTo(r.Message, rcodeOK, true))) // a client that is gone needs no answer
		return
	}
	m, questions, err := parse(a.plain)
	if err != nil || len(questions) != 1 {
		a.refuse(rcodeFormErr, 0)
		return
	}
	a.msg, a.question = m, questions[0]
	switch m.opcode() {
	case opNotify:
		t.handleNotify(a)
	case opUpdate:
		t.handleUpdate(ctx, a)
	case opQuery:
		if q := a.question.qtype; q == typeAXFR || q == typeIXFR {
			t.handleTransfer(ctx, a)
		} else {
			a.pass()
		}
	default:
		a.refuse(rcodeNotImp, 0)
	}
}

// pass gives the nameserver's answer to a signed query, signed. An answer that
// does not fit with its signature is truncated (RFC 8945 section 5.3).
func (a *asked) pass() {
	if a.session == nil {
		a.refuse(rcodeRefused, edeNotSupported)
		return
	}
	msg := a.Answer(a.plain)
	if msg == nil {
		return
	}
	if !a.Stream && len(msg)+a.session.Key.Size() > a.room() {
		cut := answerTo(a.plain, int(msg[3]&15), true)
		cut[2] |= msg[2] & 4 // AA
		cut[2] |= 2          // TC
		msg = cut
	}
	_ = a.reply(msg) // a client that is gone needs no answer
}

// room is how long an answer over UDP may be (RFC 6891 section 6.2.3), and no
// longer than what comes through everywhere.
func (a *asked) room() int {
	const least, most = 512, 1232
	r := reader{msg: &a.msg, at: a.msg.at}
	for range a.msg.counts[1] + a.msg.counts[2] + a.msg.counts[3] {
		if r.next() != nil {
			break
		}
		if r.rtype == typeOPT {
			return min(max(int(r.class), least), most)
		}
	}
	return least
}

// handleNotify takes the news that a zone has changed (RFC 1996), from its
// primaries alone: by their address, or signed with a key of one.
func (t *Transfer) handleNotify(a *asked) {
	if q := a.question; q.qtype != zone.TypeSOA || q.class != classIN {
		a.refuse(rcodeFormErr, 0)
		return
	}
	t.mu.Lock()
	s := t.secondaries[zone.Text(a.question.name)]
	var from netip.AddrPort
	known := false
	if s != nil {
		for _, p := range s.policy.primaries {
			if p.Address.Addr() == a.client || a.session != nil && p.Key == a.key() {
				from, known = p.Address, true
				break
			}
		}
	}
	if known {
		if serial, ok := a.hint(); !ok || s.zone == nil || s.expired || newer(serial, s.zone.Serial) {
			t.soon(s, from)
		}
	}
	t.mu.Unlock()
	switch {
	case s == nil:
		t.metrics.notify("in", "unknown")
		a.refuse(rcodeNotAuth, edeNotAuthoritative)
	case !known:
		t.metrics.notify("in", "refused")
		t.note("NOTIFY from no primary is refused", "zone", s.name, "client", a.Client)
		a.refuse(rcodeRefused, edeProhibited)
	default:
		t.metrics.notify("in", "ok")
		msg := answerTo(a.plain, rcodeOK, true)
		msg[2] |= 4 // AA
		_ = a.reply(msg)
	}
}

// hint is the serial that a NOTIFY tells (RFC 1996 section 3.7).
func (a *asked) hint() (uint32, bool) {
	if a.msg.counts[1] == 0 {
		return 0, false
	}
	r := reader{msg: &a.msg, at: a.msg.at}
	if r.next() != nil || r.rtype != zone.TypeSOA || string(r.owner) != string(a.question.name) || zone.CheckRDATA(r.rtype, r.data) != nil {
		return 0, false
	}
	return binary.BigEndian.Uint32(r.data[len(r.data)-20:]), true
}

// handleUpdate passes a dynamic update on to who writes the zone, if a rule
// lets its key change anything there (RFC 2136 section 3.3, RFC 3007).
func (t *Transfer) handleUpdate(ctx context.Context, a *asked) {
	name := zone.Text(a.question.name)
	t.mu.Lock()
	p, updater := t.policyLocked(name), t.updater
	t.mu.Unlock()
	rcode, ede := rcodeOK, uint16(0)
	switch {
	case a.question.qtype != zone.TypeSOA:
		rcode = rcodeFormErr
	case p == nil || a.question.class != classIN:
		rcode, ede = rcodeNotAuth, edeNotAuthoritative
	case updater == nil:
		rcode = rcodeNotImp
	case !p.dynamic || !p.takesUpdates(a.client, a.key()) || update.Rules(name, p.Updates, a.key()) == nil:
		rcode, ede = rcodeRefused, edeProhibited
		t.note("an update is refused", "zone", name, "client", a.Client, "key", a.key())
	default:
		var err error
		if rcode, err = updater.Update(ctx, name, a.key(), slices.Clone(a.plain)); err != nil {
			if rcode == rcodeOK {
				rcode = rcodeServFail
			}
			t.log.Warn("an update is not carried out", "zone", name, "client", a.Client, "key", a.key(), "rcode", rcode, "err", err)
		} else {
			t.log.Info("update", "zone", name, "client", a.Client, "key", a.key(), "rcode", rcode)
		}
	}
	t.metrics.updates.WithLabelValues(strconv.Itoa(rcode)).Inc()
	a.refuse(rcode, ede)
}
