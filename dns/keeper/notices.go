package keeper

import (
	"context"
	"errors"
	"time"

	"meridian/fleet"
)

// notice is one request to a zone's parent, by new CDS records, of which whom
// the parent names is to be told (RFC 9859 section 4.2).
type notice struct {
	request string    // names the request
	due     time.Time // to tell; zero: once Derive says that the parent has still not acted
	sent    time.Time // answered, or given up
	tries   int       // without an answer
	logged  bool
}

// Times of telling parents. A message without an answer is sent again as RFC
// 1996 section 3.6 has it, five times in all.
const (
	noticeRetry  = time.Minute // doubled each time
	noticeTries  = 5
	noticeRepeat = 24 * time.Hour // while the parent does not act
)

// wantNotice has the parent told of a request, after the time that every
// secondary needs to have it; once for each request, and sparingly again while
// it stands. An empty request: nothing is asked of the parent.
func (l *lookupState) wantNotice(zone fleet.Name, request string, propagation time.Duration, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := l.notices[zone]
	switch {
	case request == "":
		delete(l.notices, zone)
		return
	case n == nil || n.request != request:
		l.notices[zone] = &notice{request: request, due: now.Add(propagation)}
	case n.due.IsZero() && !now.Before(n.sent.Add(noticeRepeat)):
		n.due, n.tries = now, 0
	default:
		return
	}
	l.poke()
}

// noticesDue gives the zones whose parents are to be told now. l.mu is held.
func (l *lookupState) noticesDue(now time.Time) []fleet.Name {
	var out []fleet.Name
	for zone, n := range l.notices {
		if !n.due.IsZero() && !n.due.After(now) {
			out = append(out, zone)
		}
	}
	return out
}

// tellParent tells whom a zone's parent names of its new CDS records. It is
// logged once for each request, and once more where a failure has ended.
func (k *Keeper) tellParent(ctx context.Context, zone fleet.Name) {
	ctx, cancel := context.WithTimeout(ctx, lookupLimit)
	defer cancel()
	l := k.look.lookupState
	l.mu.Lock()
	n := l.notices[zone]
	l.mu.Unlock()
	if n == nil {
		return
	}
	target, rcode, err := k.cfg.Resolver.NotifyParent(ctx, zone)
	if errors.Is(ctx.Err(), context.Canceled) {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	first := !n.logged
	n.logged = true
	if err != nil {
		k.metrics.notices.WithLabelValues("failed").Inc()
		if first {
			k.log.Warn("the parent of a zone could not be told of new CDS records; it finds them when it looks", "zone", zone, "target", target, "error", err)
		}
		if n.tries++; n.tries < noticeTries {
			n.due = now.Add(noticeRetry << (n.tries - 1))
			return
		}
		n.due, n.sent = time.Time{}, now
		return
	}
	result := "acknowledged"
	switch {
	case target == "":
		result = "none"
	case rcode != "NOERROR":
		result = "refused"
	}
	k.metrics.notices.WithLabelValues(result).Inc()
	if first || n.tries > 0 {
		k.log.Info("the parent of a zone is told of new CDS records", "zone", zone, "result", result, "target", target, "answer", rcode)
	}
	n.due, n.sent, n.tries = time.Time{}, now, 0
}
