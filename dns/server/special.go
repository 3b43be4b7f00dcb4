package server

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"time"

	"meridian/dns/answer"
)

// A flood of special messages over UDP fills this queue and no more.
const (
	specialQueue   = 256
	specialWorkers = 8
)

// special is a message over UDP that waits for the Handler.
type special struct {
	Request
	socket *udpSocket
}

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
// they have too much to do. control is what the answer is to be sent with, so
// that it leaves from the address that was asked.
func (u *udpSocket) queueSpecial(s *Server, msg []byte, client netip.AddrPort, control []byte) bool {
	msg, control = append([]byte(nil), msg...), append([]byte(nil), control...)
	r := special{socket: u, Request: Request{
		Message: msg, Client: client, Transport: UDP,
		Answer: func(query []byte) []byte { return s.respond(query, client, UDP) },
		Reply: func(answer []byte) error {
			_, _, err := u.conn.WriteMsgUDPAddrPort(answer, control, client)
			return err
		},
	}}
	select {
	case s.specials <- r:
		return true
	default:
		return false
	}
}

// respond gives the plan's answer to one query, in a buffer of its own; nil
// where there is none. It is for the rare; hot paths have their own buffers.
func (s *Server) respond(query []byte, client netip.AddrPort, t Transport) []byte {
	x := s.exchanges.Get().(*exchange)
	defer s.exchanges.Put(x)
	n, _ := s.plan.Load().Answer(&x.work, query, s.client(client, t), x.out[2:])
	if n == 0 {
		return nil
	}
	return append([]byte(nil), x.out[2:2+n]...)
}

// client is who asks, for the plan.
func (s *Server) client(a netip.AddrPort, t Transport) answer.Client {
	c := answer.Client{Addr: a.Addr(), Port: a.Port(), Stream: t.Stream(), Encrypted: t.Encrypted(), Now: uint32(time.Now().Unix())}
	if t == TCP || t == TLS {
		c.Idle = s.cfg.Idle
	}
	return c
}

// peerAddr is the address of the other side of a connection.
func peerAddr(c net.Conn) (netip.AddrPort, error) {
	a, err := netip.ParseAddrPort(c.RemoteAddr().String())
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()), err
}
