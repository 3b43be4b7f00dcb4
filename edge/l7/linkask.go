package l7

import (
	"errors"
	"os"
)

// errClosed says that nothing was sent on a connection that was idle: the
// endpoint has closed it, or has spoken without being asked.
var errClosed = errors.New("the connection was closed while it was idle")

// ask sends a request on a plain connection that was idle and, where all of the
// request is here, waits for octets of the answer. The look whether the
// connection lives is the read in vain that must come before a wait, so that it
// costs no system call of its own.
func (l *link) ask(head, body []byte) error {
	if l.in == nil {
		l.in = takeBuffer()
	}
	l.r.p, l.r.n, l.r.err = l.in.data[l.in.w:], 0, nil
	l.w.parts, l.w.err = [3][]byte{head, body}, nil
	defer func() { l.r.p = nil; l.w.forget() }()
	for l.seen, l.asked = 0, false; ; {
		l.arm()
		err := l.raw.Read(l.turn)
		switch {
		case l.seen != 0:
			return l.fail(errClosed)
		case err != nil:
			if err = l.woken(err); err != nil || l.asked {
				return err
			}
			continue
		case l.w.err != nil:
			return l.fail(l.w.err)
		case l.r.n > 0:
			l.in.w += l.r.n
			l.spoke = true
			return nil
		case l.r.err != nil:
			return l.fail(l.r.err)
		case l.w.left() > 0:
			return l.fail(l.w.finish())
		}
		return nil
	}
}

// tryAsk looks and sends when it is called first, which is after the runtime
// has begun to note what comes; later it reads.
func (l *link) tryAsk(fd uintptr) bool {
	if l.asked {
		return l.r.try(fd)
	}
	if l.seen = peek(int(fd)); l.seen != 0 {
		return true
	}
	l.asked = true
	return !l.w.try(fd) || l.w.err != nil || !l.x.body.whole
}

// arm sets the deadline of reads to when the exchange should look up.
func (l *link) arm() {
	now := l.x.g.now()
	until := l.x.until()
	if l.readAt < now.add(glanceSoon) || until != 0 && l.readAt > until {
		l.readAt = sooner(now.add(l.x.nextGlance()), until)
		l.tcp.SetReadDeadline(l.x.g.time(l.readAt))
	}
}

// woken says why to wait no longer after a wait that err has ended, if so.
func (l *link) woken(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		l.readAt = 0
		err = l.x.lookUp()
	}
	return l.fail(err)
}
