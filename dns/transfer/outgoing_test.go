package transfer

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"meridian/dns/tsig"
	"meridian/dns/zone"
	"meridian/fleet"
)

// fixed is a nameserver that serves what it was given.
type fixed struct{ zones *sync.Map }

func (f fixed) Zone(n fleet.Name) *zone.Zone {
	z, _ := f.zones.Load(n)
	out, _ := z.(*zone.Zone)
	return out
}
func (f fixed) Static(n fleet.Name) *zone.Zone { return f.Zone(n) }
func (f fixed) SetZone(z *zone.Zone)           { f.zones.Store(z.Name, z) }
func (f fixed) RemoveZone(n fleet.Name)        { f.zones.Delete(n) }
func (f fixed) SetUnavailable(n fleet.Name)    { f.zones.Delete(n) }

// direct is a Transfer without a network.
func direct(t testing.TB, doc string, zones ...*zone.Zone) (*Transfer, fixed) {
	t.Helper()
	return directIn(t, "", doc, zones...)
}

func directIn(t testing.TB, dir, doc string, zones ...*zone.Zone) (*Transfer, fixed) {
	t.Helper()
	f := fixed{new(sync.Map)}
	tr, err := New(Config{Zones: f, Dir: dir, Logger: discard})
	if err != nil {
		t.Fatal(err)
	}
	for _, z := range zones {
		f.SetZone(z)
	}
	if err := tr.Apply(makeWorld(t, doc, map[fleet.ObjectKey]string{{Kind: fleet.ObjectZone, ID: "example.test."}: small1})); err != nil {
		t.Fatal(err)
	}
	return tr, f
}

// ask gives the answers to one message.
func (t *Transfer) ask1(msg []byte, client string, stream bool) []*dns.Msg {
	var out []*dns.Msg
	t.Handle(context.Background(), &Request{Message: msg, Client: netip.AddrPortFrom(netip.MustParseAddr(client), 4000), Stream: stream,
		Answer: func(q []byte) []byte { return answerTo(q, rcodeOK, true) },
		Reply: func(b []byte) error {
			m := new(dns.Msg)
			if err := m.Unpack(slices.Clone(b)); err != nil {
				return err
			}
			m.Compress = true // for Len
			out = append(out, m)
			return nil
		}})
	return out
}

func pack(t testing.TB, m *dns.Msg) []byte {
	t.Helper()
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func ixfrQuery(t testing.TB, serial uint32, size uint16) []byte {
	m := new(dns.Msg)
	m.SetIxfr("Example.test.", serial, "ns1.example.test.", "admin.example.test.")
	if size > 0 {
		m.SetEdns0(size, false)
	}
	return pack(t, m)
}

// RFC 5936 §2.2.1: who may not transfer a zone gets REFUSED, with RFC 8914's "Prohibited" where the request has EDNS; a zone that is not ours is NOTAUTH.
// RFC 5936 §5: access is by address, by key, or by both.
func TestRFC5936Access(t *testing.T) {
	access := func(list string) *Transfer {
		tr, _ := direct(t, fmt.Sprintf(`
dns: {keys: [{name: k.test, secret: "env:K"}]}
zones: [{zone: example.test, file: f, transfer: [%s]}]
`, list), load(t, small1))
		return tr
	}
	m := new(dns.Msg)
	m.SetAxfr("example.test.")
	m.SetEdns0(1232, false)
	plain := pack(t, m)
	key, err := tsig.NewKey("k.test.", "hmac-sha256", []byte(secretText))
	if err != nil {
		t.Fatal(err)
	}
	signed, _ := key.Request(plain, time.Now())
	for _, c := range []struct {
		list, client string
		msg          []byte
		ok           bool
	}{
		{"", "192.0.2.1", plain, false},
		{"192.0.2.0/24", "192.0.2.1", plain, true},
		{"192.0.2.0/24", "::ffff:192.0.2.1", plain, true},
		{"192.0.2.0/24", "198.51.100.1", signed, false},
		{"192.0.2.1, \"2001:db8::/32\"", "2001:db8::7", plain, true},
		{`"key:k.test"`, "192.0.2.1", plain, false},
		{`"key:k.test"`, "192.0.2.1", signed, true},
		{`"192.0.2.0/24+key:k.test"`, "192.0.2.1", signed, true},
		{`"192.0.2.0/24+key:k.test"`, "192.0.2.1", plain, false},
		{`"192.0.2.0/24+key:k.test"`, "198.51.100.1", signed, false},
		{`"!192.0.2.1", 192.0.2.0/24`, "192.0.2.1", plain, false},
		{`"!192.0.2.1", 192.0.2.0/24`, "192.0.2.2", plain, true},
		{`192.0.2.0/24, "!192.0.2.1"`, "192.0.2.1", plain, true},
		{`"!192.0.2.0/24+key:k.test", 192.0.2.1`, "192.0.2.1", signed, false},
		{`"!192.0.2.1"`, "192.0.2.2", plain, false},
	} {
		got := access(c.list).ask1(c.msg, c.client, true)
		if len(got) != 1 {
			t.Errorf("%s from %s: %d messages", c.list, c.client, len(got))
			continue
		}
		if c.ok != (got[0].Rcode == dns.RcodeSuccess && len(got[0].Answer) == 6) {
			t.Errorf("%s from %s: %s with %d records", c.list, c.client, dns.RcodeToString[got[0].Rcode], len(got[0].Answer))
		}
		if opt := got[0].IsEdns0(); !c.ok && (got[0].Rcode != dns.RcodeRefused || opt == nil || opt.Option[0].(*dns.EDNS0_EDE).InfoCode != dns.ExtendedErrorCodeProhibited) {
			t.Errorf("%s from %s is answered %v", c.list, c.client, got[0])
		}
	}
	m.Question[0].Name = "other.test."
	if got := access("192.0.2.1").ask1(pack(t, m), "192.0.2.1", true); got[0].Rcode != dns.RcodeNotAuth {
		t.Errorf("another zone: %v", got[0])
	}
}

// RFC 5936 §4.2: AXFR is for streams alone.
// RFC 1995 §2: IXFR over UDP is answered with the differences where they fit, else with the SOA alone; a version that is current or newer gets the SOA alone.
// RFC 1995 §4: over a stream a version that is not in the history gets the whole zone.
func TestRFC1995Outgoing(t *testing.T) {
	tr, zones := direct(t, "zones: [{zone: example.test, file: f, transfer: [192.0.2.1]}]", load(t, zoneText(1, 100, "")))
	tr.observe("example.test.")
	zones.SetZone(load(t, zoneText(2, 100, "new A 192.0.2.1\n")))
	tr.observe("example.test.")
	zones.SetZone(load(t, zoneText(3, 103, "")))
	axfr := new(dns.Msg)
	axfr.SetAxfr("example.test.")
	if got := tr.ask1(pack(t, axfr), "192.0.2.1", false); got[0].Rcode != dns.RcodeFormatError {
		t.Errorf("AXFR over UDP: %v", got[0])
	}
	for _, c := range []struct {
		what    string
		serial  uint32
		size    uint16
		stream  bool
		records int // 0: more than 100
	}{
		{"one step in a datagram", 2, 1232, false, 1 + 1 + 1 + 1 + 3 + 1},
		{"both steps in a datagram", 1, 1232, false, 1 + 1 + 1 + 3 + 1},
		{"current", 3, 1232, false, 1},
		{"newer", 4, 1232, true, 1},
		{"unknown over UDP", 77 + 1<<31, 1232, false, 1},
		{"unknown over a stream", 77 + 1<<31, 0, true, 0},
		{"a step over a stream", 2, 0, true, 1 + 1 + 1 + 1 + 3 + 1},
	} {
		got := tr.ask1(ixfrQuery(t, c.serial, c.size), "192.0.2.1", c.stream)
		if len(got) != 1 || got[0].Rcode != 0 || !got[0].Authoritative {
			t.Fatalf("%s: %v", c.what, got)
		}
		if n := len(got[0].Answer); n != c.records && !(c.records == 0 && n > 100) {
			t.Errorf("%s: %d records", c.what, n)
		}
		if got[0].Question[0].Name != "Example.test." {
			t.Errorf("%s: the question's case is not kept", c.what)
		}
	}
	zones.SetZone(load(t, zoneText(4, 0, "")))
	if got := tr.ask1(ixfrQuery(t, 3, 512), "192.0.2.1", false); len(got[0].Answer) != 1 {
		t.Errorf("103 records in 512 octets: %d", len(got[0].Answer))
	}
	bare := new(dns.Msg)
	bare.SetQuestion("example.test.", dns.TypeIXFR)
	if got := tr.ask1(pack(t, bare), "192.0.2.1", true); got[0].Rcode != dns.RcodeFormatError {
		t.Errorf("IXFR without a SOA: %v", got[0])
	}
}

// RFC 5936 §3.4: names are compressed and messages filled; each holds at least one record, and a record that is longer than others has room.
func TestRFC5936Packing(t *testing.T) {
	z := load(t, zoneText(1, 5000, "big TXT "+strings.Repeat(`"`+strings.Repeat("y", 255)+`" `, 200)+"\n"))
	tr, _ := direct(t, "zones: [{zone: example.test, file: f, transfer: [192.0.2.1]}]", z)
	m := new(dns.Msg)
	m.SetAxfr("example.test.")
	got := tr.ask1(pack(t, m), "192.0.2.1", true)
	records := 0
	for i, m := range got {
		records += len(m.Answer)
		if size := m.Len(); size > softLimit && len(m.Answer) != 1 {
			t.Errorf("message %d has %d octets and %d records", i, size, len(m.Answer))
		}
		if i < len(got)-1 && len(m.Answer) == 0 {
			t.Errorf("message %d is empty", i)
		}
	}
	if records != z.Records()+1 {
		t.Errorf("%d records of %d", records-1, z.Records())
	}
	if len(got) > 14 {
		t.Errorf("%d messages for 5000 addresses", len(got))
	}
}

// Bad input: a client that takes nothing ends its transfer; too many at a time are told to come again.
func TestSlowReaders(t *testing.T) {
	tr, _ := direct(t, "zones: [{zone: example.test, file: f, transfer: [192.0.2.1]}]", load(t, zoneText(1, 5000, "")))
	m := new(dns.Msg)
	m.SetAxfr("example.test.")
	sent := 0
	tr.Handle(context.Background(), &Request{Message: pack(t, m), Client: netip.MustParseAddrPort("192.0.2.1:1"), Stream: true,
		Reply: func([]byte) error { sent++; return errors.New("too slow") }})
	if sent != 1 {
		t.Errorf("%d messages to a client that is gone", sent)
	}
	for range cap(tr.out) {
		tr.out <- struct{}{}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	tr.Handle(ctx, &Request{Message: pack(t, m), Client: netip.MustParseAddrPort("192.0.2.1:1"), Stream: true,
		Reply: func([]byte) error { sent++; return nil }})
	if sent != 1 {
		t.Error("a transfer began beyond the limit")
	}
}

// RFC 8945 §5.3: a signed query is answered as a plain one, signed; over UDP an answer that does not fit with its signature is truncated.
func TestRFC8945SignedQuery(t *testing.T) {
	tr, _ := direct(t, `
dns: {keys: [{name: k.test, secret: "env:K"}]}
zones: [{zone: example.test, file: f}]
`, load(t, small1))
	key, err := tsig.NewKey("k.test.", "hmac-sha256", []byte(secretText))
	if err != nil {
		t.Fatal(err)
	}
	m := new(dns.Msg)
	m.SetQuestion("www.example.test.", dns.TypeTXT)
	for _, c := range []struct {
		size   int
		stream bool
		cut    bool
	}{{100, false, false}, {500, false, true}, {500, true, false}} {
		msg, client := key.Request(pack(t, m), time.Now())
		var got []byte
		tr.Handle(context.Background(), &Request{Message: msg, Client: netip.MustParseAddrPort("192.0.2.1:1"), Stream: c.stream,
			Answer: func(q []byte) []byte {
				a := answerTo(q, rcodeOK, true)
				a = append(a, 0, 0, 16, 0, 1, 0, 0, 0, 0, byte(c.size>>8), byte(c.size))
				a[7] = 1
				for len(a) < c.size+45 {
					a = append(a, 0)
				}
				return a
			},
			Reply: func(b []byte) error { got = slices.Clone(b); return nil }})
		plain, err := client.Verify(got, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if (plain[2]&2 != 0) != c.cut || !c.stream && len(got) > 512 {
			t.Errorf("an answer of %d octets, stream %v: truncated %v, %d octets", c.size, c.stream, plain[2]&2 != 0, len(got))
		}
	}
}
