package server

import (
	"context"
	"net/netip"
	"sync"

	"golang.org/x/sys/unix"
)

// Bounds on messages that are not for the plan.
const (
	specialQueue   = 256 // over UDP, that wait
	specialWorkers = 8   // over UDP, at a time
	specialStreams = 256 // over streams, at a time; others wait
	specialClient  = 32  // of them, for one client
)

// special is a message over UDP that waits for the Handler.
type special struct{ Request }

// handleSpecials works on what specials holds until ctx ends.
func (s *Server) handleSpecials(ctx context.Context) {
	var workers sync.WaitGroup
	defer workers.Wait()
	for range specialWorkers {
		workers.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case r := <-s.specials:
					s.cfg.Special.Handle(ctx, &r.Request)
				}
			}
		})
	}
}

// queueSpecial hands a copy of a message over UDP to the workers; false where
// they have too much to do. The answer goes to sender, the proxy of a client
// behind one, by control: from the address that was asked.
func (u *udpSocket) queueSpecial(s *Server, msg []byte, client, sender netip.AddrPort, control []byte) bool {
	if len(s.specials) == cap(s.specials) { // a flood is not even copied
		return false
	}
	msg, control = append([]byte(nil), msg...), append([]byte(nil), control...)
	r := special{Request{
		Message: msg, Client: client, Transport: UDP,
		Answer: func(query []byte) []byte { return s.respond(query, client, UDP) },
		Reply:  func(answer []byte) error { return u.send(answer, control, sender) },
	}}
	select {
	case s.specials <- r:
		return true
	default:
		return false
	}
}

// send sends one message; any goroutine may.
func (u *udpSocket) send(msg, control []byte, to netip.AddrPort) error {
	var addr unix.Sockaddr = &unix.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16()}
	if to.Addr().Is4() {
		addr = &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}
	}
	var err error
	if e := u.raw.Control(func(fd uintptr) { err = unix.Sendmsg(int(fd), msg, control, addr, 0) }); e != nil {
		return e
	}
	return err
}
