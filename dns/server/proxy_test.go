package server

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// proxyHeader is a PROXY header of version 2.
func proxyHeader(client string, kind byte) []byte {
	a := netip.MustParseAddrPort(client)
	family, from := byte(0x10), a.Addr().AsSlice()
	if a.Addr().Is6() {
		family = 0x20
	}
	h := append([]byte(proxySignature), 0x21, family|kind)
	h = binary.BigEndian.AppendUint16(h, uint16(2*len(from)+4+3))
	h = append(append(h, from...), from...)
	h = binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(h, a.Port()), 53)
	return append(h, 4, 0, 0) // a TLV, to be passed over
}

const proxiedSpec = "dns: {proxies: [127.0.0.1/32], whoami: whoami.demo.test}\nzones:"

// whoami is the client's address as the server tells it.
func whoami(t *testing.T, c net.Conn, header []byte, stream bool) string {
	t.Helper()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	q := query("whoami.demo.test.", dns.TypeTXT, 7)
	if stream {
		c.Write(header)
		send(t, c, q)
		return receive(t, c).String()
	}
	b, _ := q.Pack()
	c.Write(append(header, b...))
	answer := make([]byte, 4096)
	n, err := c.Read(answer)
	if err != nil {
		t.Fatal(err)
	}
	m := new(dns.Msg)
	if err := m.Unpack(answer[:n]); err != nil {
		t.Fatal(err)
	}
	return m.String()
}

func TestProxyTellsTheClient(t *testing.T) {
	s := start(t, nil)
	if err := s.Apply(world(t, strings.Replace(spec, "zones:", proxiedSpec, 1))); err != nil {
		t.Fatal(err)
	}
	for network, kind := range map[string]byte{"tcp": proxyStream, "udp": proxyDatagram} {
		dial := func() net.Conn {
			c, err := net.Dial(network, s.Addrs()[0].String())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { c.Close() })
			return c
		}
		for _, client := range []string{"203.0.113.9:4444", "[2001:db8::9]:4444"} {
			if got := whoami(t, dial(), proxyHeader(client, kind), network == "tcp"); !strings.Contains(got, netip.MustParseAddrPort(client).Addr().String()) {
				t.Errorf("%s: no %s in %s", network, client, got)
			}
		}
		local := append([]byte(proxySignature), 0x20, 0, 0, 0)
		if got := whoami(t, dial(), local, network == "tcp"); !strings.Contains(got, "127.0.0.1") {
			t.Errorf("%s: a proxy's own query: %s", network, got)
		}
		c := dial()
		if network == "tcp" { // without a header nothing is served
			c.SetDeadline(time.Now().Add(20 * time.Second))
			send(t, c, query("www.demo.test.", dns.TypeA, 1))
			closed(t, "no header", c)
		} else {
			b, _ := query("www.demo.test.", dns.TypeA, 1).Pack()
			c.Write(b)
			if got := whoami(t, c, local, false); !strings.Contains(got, "id: 7") {
				t.Errorf("UDP without a header is answered: %s", got)
			}
		}
		counted(t, s, "meridian_dns_dropped_total proxy "+network, 1)
	}
}

// The header stands before TLS and HTTPS too, outside of their encryption.
func TestProxyBeforeTLSAndHTTPS(t *testing.T) {
	s, ca := startSecure(t, func(c *Config) { c.DNS.Proxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")} })
	dial := func(transport Transport, client, alpn string) net.Conn {
		c, err := net.Dial("tcp", s.AddrsOf(transport)[0].String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		c.SetDeadline(time.Now().Add(10 * time.Second))
		c.Write(proxyHeader(client, proxyStream))
		return tls.Client(c, &tls.Config{RootCAs: ca.Pool, ServerName: "ns.demo.test", NextProtos: []string{alpn}})
	}
	q := query("www.demo.test.", dns.TypeA, 7)
	c := dial(TLS, "203.0.113.9:4444", "dot")
	if send(t, c, q); len(receive(t, c).Answer) != 1 {
		t.Error("no answer over TLS")
	}
	b, _ := q.Pack()
	tr := &http.Transport{DialTLSContext: func(context.Context, string, string) (net.Conn, error) {
		return dial(HTTPS, "[2001:db8::9]:4444", "http/1.1"), nil
	}}
	defer tr.CloseIdleConnections()
	r, err := (&http.Client{Transport: tr}).Post("https://ns.demo.test/dns-query", "application/dns-message", bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	r.Body.Close()
	got := s.Recent(RecentFilter{})
	if len(got) != 2 || got[0].Client.String() != "[2001:db8::9]:4444" || got[1].Client.String() != "203.0.113.9:4444" {
		t.Errorf("%+v", got)
	}
}

// Who is no proxy cannot say that it is somebody else.
func TestProxyHeaderOfOthersIsRefused(t *testing.T) {
	s := start(t, nil)
	if err := s.Apply(world(t, spec)); err != nil {
		t.Fatal(err)
	}
	c := dialTCP(t, s)
	c.Write(proxyHeader("203.0.113.9:4444", proxyStream))
	send(t, c, query("www.demo.test.", dns.TypeA, 1))
	closed(t, "a header", c)
	u, err := net.Dial("udp", s.Addrs()[0].String())
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	u.SetDeadline(time.Now().Add(5 * time.Second))
	b, _ := query("www.demo.test.", dns.TypeA, 1).Pack()
	u.Write(append(proxyHeader("203.0.113.9:4444", proxyDatagram), b...))
	answer := make([]byte, 512)
	n, err := u.Read(answer)
	if err != nil || n != headerLen || answer[3]&15 != dns.RcodeFormatError {
		t.Errorf("UDP: %x %v, want FORMERR", answer[:n], err)
	}
	for _, network := range []string{"tcp", "udp"} {
		counted(t, s, "meridian_dns_dropped_total proxy "+network, 1)
	}
}

// FuzzProxy: headers as strangers may write them.
func FuzzProxy(f *testing.F) {
	f.Add(proxyHeader("203.0.113.9:4444", proxyStream))
	f.Add(proxyHeader("[2001:db8::9]:4444", proxyDatagram))
	f.Add(append([]byte(proxySignature), 0x20, 0, 0, 0))
	f.Add([]byte("PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, kind := range []byte{proxyStream, proxyDatagram} {
			n, client, err := parseProxy(b, kind)
			if err == nil && (n < proxyFixed || n > len(b)) || err != nil && client.IsValid() && client.Addr().IsValid() && n != 0 {
				t.Errorf("%x: %d %v %v", b, n, client, err)
			}
		}
		r := strings.NewReader(string(b))
		client, err := readProxy(r)
		n, same, parsed := parseProxy(b, proxyStream)
		if err == nil && (parsed != nil || same != client || r.Len() != len(b)-n) {
			t.Errorf("%x: as a stream %v, else %v %v", b, client, same, parsed)
		}
	})
}
