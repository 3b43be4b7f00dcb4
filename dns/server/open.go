package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// receiveBuffer is what each UDP socket asks of the kernel, in octets: room
// for bursts of some ten thousand queries.
const receiveBuffer = 8 << 20

// Open opens the sockets, so that the caller may give up rights before Run. A
// second call does nothing.
func (s *Server) Open(ctx context.Context) error {
	s.opening.Lock()
	defer s.opening.Unlock()
	if len(s.addrs) > 0 {
		return nil
	}
	for _, a := range s.cfg.Listen {
		if err := s.openAll(ctx, a); err != nil {
			s.close()
			s.udp, s.tcp, s.addrs, s.stats = nil, nil, nil, nil
			return fmt.Errorf("dns server: %w", err)
		}
	}
	return nil
}

// Addrs lists the addresses that are listened on, with the ports that were
// given for port 0.
func (s *Server) Addrs() []netip.AddrPort {
	s.opening.Lock()
	defer s.opening.Unlock()
	return slices.Clone(s.addrs)
}

func (s *Server) close() {
	for _, u := range s.udp {
		u.conn.Close()
	}
	for _, l := range s.tcp {
		l.Close()
	}
}

// openAll opens the sockets of one configured address. The families are kept
// apart: each socket speaks one.
func (s *Server) openAll(ctx context.Context, a netip.AddrPort) error {
	if a.Addr() != netip.IPv6Unspecified() {
		_, err := s.openOne(ctx, netip.AddrPortFrom(a.Addr().Unmap(), a.Port()))
		return err
	}
	port, err := s.openOne(ctx, netip.AddrPortFrom(netip.IPv4Unspecified(), a.Port()))
	if err != nil {
		return err
	}
	_, err = s.openOne(ctx, netip.AddrPortFrom(a.Addr(), port))
	if errors.Is(err, syscall.EAFNOSUPPORT) || errors.Is(err, syscall.EADDRNOTAVAIL) {
		s.log.Warn("no IPv6 here: serving IPv4 alone", "err", err)
		return nil
	}
	return err
}

// openOne opens TCP first, which finds a port that is free for both.
func (s *Server) openOne(ctx context.Context, a netip.AddrPort) (port uint16, err error) {
	family := "4"
	if a.Addr().Is6() {
		family = "6"
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp"+family, a.String())
	if err != nil {
		return 0, err
	}
	s.tcp = append(s.tcp, &tcpListener{Listener: l, stats: s.newStats(TCP)})
	a = netip.AddrPortFrom(a.Addr(), l.Addr().(*net.TCPAddr).AddrPort().Port())
	lc := net.ListenConfig{Control: controlUDP(a.Addr().Is6())}
	for range s.cfg.Sockets {
		c, err := lc.ListenPacket(ctx, "udp"+family, a.String())
		if err != nil {
			return 0, err
		}
		u, err := newUDPSocket(c.(*net.UDPConn), s.newStats(UDP))
		if err != nil {
			c.Close()
			return 0, err
		}
		s.udp = append(s.udp, u)
	}
	s.addrs = append(s.addrs, a)
	return a.Port(), nil
}

func (s *Server) newStats(transport Transport) *stats {
	st := &stats{transport: transport}
	s.stats = append(s.stats, st)
	return st
}

// controlUDP sets what a socket needs before it is bound: several sockets for
// one address, the address that each query came to (answers leave from it),
// and no fragments (RFC 9715 section 3.1).
func controlUDP(v6 bool) func(string, string, syscall.RawConn) error {
	return func(_, _ string, c syscall.RawConn) error {
		var err error
		set := func(fd, level, option, value int) {
			if e := unix.SetsockoptInt(fd, level, option, value); e != nil && err == nil {
				err = e
			}
		}
		if e := c.Control(func(f uintptr) {
			fd := int(f)
			set(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
			if v6 {
				set(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
				set(fd, unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_OMIT)
			} else {
				set(fd, unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
				set(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_OMIT)
			}
			// The first needs CAP_NET_ADMIN, the second is bounded by rmem_max;
			// neither is needed to serve.
			if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer) != nil {
				_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer)
			}
		}); e != nil {
			return e
		}
		return err
	}
}
