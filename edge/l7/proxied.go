package l7

import (
	"io"
	"net/netip"
	"time"

	"meridian/edge/l7/wire"
)

// believes says whether a connection from that address may begin with the
// PROXY protocol.
func (gen *generation) believes(from netip.Addr) bool {
	for _, p := range gen.world.Snapshot.Spec.Gateway.Proxies {
		if p.Contains(from) {
			return true
		}
	}
	return false
}

// introduced reads what a balancer before the gateway says of the connection,
// where one may; false: it is malformed, or did not come.
func (s *server) introduced(c *conn) bool {
	c.from(addressOf(c.RemoteAddr()), addressOf(c.LocalAddr()))
	gen := s.g.gen.Load()
	if len(gen.world.Snapshot.Spec.Gateway.Proxies) == 0 || !gen.believes(c.client.Addr()) {
		return true
	}
	c.proxied = true
	b := takeBuffer()
	defer b.free()
	c.readBy(time.Now().Add(s.g.cfg.header))
	for {
		n, err := c.Conn.Read(b.data[b.w:])
		b.w += n
		if n == 0 && err != nil {
			if err != io.EOF {
				s.g.stranger(err)
			}
			return false
		}
		p, n, fault := wire.ParseProxy(b.rest())
		switch {
		case fault != wire.NoFault:
			s.g.metrics.malformed[fault].Inc()
			return false
		case n == 0 && b.w < len(b.data):
			continue
		}
		b.r = max(n, 0)
		c.ahead = append(c.ahead, b.rest()...)
		if p.Client.IsValid() {
			c.from(p.Client, p.Server)
		}
		c.readBy(time.Time{})
		return true
	}
}
