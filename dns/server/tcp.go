package server

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"meridian/dns/answer"
)

// hurry is the idle time while more than half of the connections are in use
// (RFC 7766 section 6.2.3).
const hurry = 2 * time.Second

// writeLimit is how long a client may take to accept an answer.
const writeLimit = 5 * time.Second

type tcpListener struct {
	net.Listener
	stats *stats
}

// serve accepts until ctx ends, and returns when all connections are done.
func (l *tcpListener) serve(ctx context.Context, s *Server) error {
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	var open sync.WaitGroup
	defer open.Wait()
	for {
		c, err := l.Accept()
		switch {
		case ctx.Err() != nil || errors.Is(err, net.ErrClosed):
			if err == nil {
				c.Close()
			}
			return nil
		case err != nil: // out of descriptors or memory, or a client's: the socket is sound
			l.stats.drop(dropConnection)
			select {
			case <-ctx.Done():
			case <-time.After(50 * time.Millisecond):
			}
			continue
		}
		if s.conns.Add(1) > int64(s.cfg.MaxTCP) {
			s.conns.Add(-1)
			l.stats.drop(dropConnection)
			c.Close()
			continue
		}
		open.Go(func() {
			defer s.conns.Add(-1)
			l.converse(ctx, s, c)
		})
	}
}

// exchange is the space for one query and its answer; connections share them,
// so that idle ones cost little.
type exchange struct {
	work  answer.Worker
	query [answer.MaxStream]byte
	out   [2 + answer.MaxStream]byte
}

// converse answers the queries of one connection, in order, as they come (RFC
// 7766: many on one connection, pipelined). Answers that are ready together
// leave together.
func (l *tcpListener) converse(ctx context.Context, s *Server, c net.Conn) {
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	client, err := peerAddr(c)
	if err != nil {
		return
	}
	in, out := bufio.NewReaderSize(c, 2048), bufio.NewWriterSize(c, 2048)
	for {
		idle := s.cfg.Idle
		if 2*s.conns.Load() > int64(s.cfg.MaxTCP) {
			idle = min(idle, hurry)
		}
		if c.SetReadDeadline(time.Now().Add(idle)) != nil {
			return
		}
		size, err := in.Peek(2)
		if err != nil {
			return
		}
		n := int(binary.BigEndian.Uint16(size))
		_, _ = in.Discard(2) // Peek has them
		if !l.exchange(s, c, in, out, client, n) {
			return
		}
		if in.Buffered() == 0 && out.Flush() != nil {
			return
		}
	}
}

// exchange reads one query of n octets and writes its answer.
func (l *tcpListener) exchange(s *Server, c net.Conn, in io.Reader, out io.Writer, client netip.AddrPort, n int) bool {
	x := s.exchanges.Get().(*exchange)
	defer s.exchanges.Put(x)
	query := x.query[:n]
	if _, err := io.ReadFull(in, query); err != nil {
		return false
	}
	n, outcome := s.plan.Load().Answer(&x.work, query, s.client(client, TCP), x.out[2:])
	l.stats.count(outcome)
	if n == 0 {
		return false // no DNS client speaks so
	}
	binary.BigEndian.PutUint16(x.out[:], uint16(n))
	if c.SetWriteDeadline(time.Now().Add(writeLimit)) != nil {
		return false
	}
	_, err := out.Write(x.out[:2+n])
	return err == nil
}
