package server

import (
	"net"
	"testing"
	"time"

	"github.com/miekg/dns"

	"meridian/geo/mmdb"
)

// BenchmarkUDP sends windows of queries through the kernel and the server,
// and back. The generator shares the processors, so only its trend says
// anything.
func BenchmarkUDP(b *testing.B) {
	source, err := mmdb.Default()
	if err != nil {
		b.Fatal(err)
	}
	s := start(b, func(c *Config) { c.Geo = source })
	if err := s.Apply(world(b, spec)); err != nil {
		b.Fatal(err)
	}
	c, err := net.Dial("udp", s.Addrs()[0].String())
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	m := new(dns.Msg)
	m.SetQuestion("www.demo.test.", dns.TypeA)
	q, err := m.Pack()
	if err != nil {
		b.Fatal(err)
	}
	const window = 64
	answer := make([]byte, 4096)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if i%window != 0 {
			continue
		}
		for range window {
			if _, err := c.Write(q); err != nil {
				b.Fatal(err)
			}
		}
		c.SetReadDeadline(time.Now().Add(time.Second))
		for range window {
			if _, err := c.Read(answer); err != nil {
				b.Fatal(err)
			}
		}
	}
}
