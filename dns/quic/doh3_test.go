package quic

import (
	"crypto/tls"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"meridian/dns/server"
	"meridian/fleet"
)

// RFC 9114 §5.1: a connection of HTTP/3 that is idle is closed; one that is kept alive by packets and by a request whose header never comes whole is idle.
func TestRFC9114Idle(t *testing.T) {
	s, ca := start(t, func(c *server.Config) {
		c.DNS.TCP = fleet.DNSTCP{Idle: fleet.Duration(300 * time.Millisecond)}
	})
	c, err := quic.DialAddr(t.Context(), s.AddrsOf(server.HTTPS)[0].String(),
		&tls.Config{RootCAs: ca.Pool, ServerName: "ns.demo.test", NextProtos: []string{http3.NextProtoH3}},
		&quic.Config{KeepAlivePeriod: 20 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	str, err := c.OpenStreamSync(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := str.Write([]byte{1, 40, 0}); err != nil { // a HEADERS frame of 40 octets, of which one comes
		t.Fatal(err)
	}
	select {
	case <-c.Context().Done():
	case <-time.After(30 * time.Second):
		t.Fatal("the connection stays open")
	}
}
