package conformance

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/miekg/dns"

	dnszone "meridian/dns/zone"
	"meridian/fleet"
)

// liveZone is the zone of the tests below.
const liveZone = `$TTL 300
@ SOA ns1 host 1 7200 3600 1209600 60
@ NS ns1
ns1 A 192.0.2.1
mx MX 10 mail
mail A 192.0.2.2
srv SRV 0 0 80 mail
new TYPE65400 \# 16 046d61696c046c697665047465737400
*.wild A 192.0.2.3
*.wild MX 10 mail
a.b.wild TXT "b is an empty non-terminal"
*.alias CNAME mail
one NS ns.one
one NS ns.two
ns.one A 192.0.2.4
two NS ns.two
ns.two A 192.0.2.5
`

// live runs Meridian and the peers on a zone, signed if sign is given, and
// gives what asks all of them the same. What check refuses of a response is
// the test's failure for Meridian, and noted for a peer.
func live(t *testing.T, text string, sign signer) func(q query, check func(raw []byte, m *dns.Msg) error) {
	t.Helper()
	w := world{dir: t.TempDir()}
	w.add(t, "live.test.", text, sign)
	ours := ourselves(t, w.dir)
	servers := append(ours, bind(t, w.zones), nsd(t, w.zones), knot(t, w.zones))
	return func(q query, check func(raw []byte, m *dns.Msg) error) {
		t.Helper()
		for i, s := range servers {
			c := client{addr: s.addr}
			r := c.ask(q.wire(7), q.mode.tcp)
			c.close()
			m := new(dns.Msg)
			err := r.err
			if err == nil {
				err = m.Unpack(r.wire)
			}
			if err == nil {
				err = check(r.wire, m)
			}
			switch {
			case err != nil && i < len(ours):
				t.Errorf("%s of %s: %v\n%v", q.key(), s.name, err, m)
			case err != nil:
				t.Logf("%s of %s: %v", q.key(), s.name, err)
			}
		}
	}
}

// asked makes a query in the zone live.test.
func asked(name string, qt uint16, m mode) query {
	return query{zone: "live.test.", name: absolute(name, "live.test."), qt: qt, mode: m}
}

var (
	byUDP  = mode{name: "udp"}
	withDO = mode{name: "udp1232-do", size: 1232, do: true}
)

// RFC 1035 §4.1.4: owner names and the names in the data of the old types point to names before them.
// RFC 3597 §4: names in the data of SRV and of unknown types are not compressed.
func TestRFC3597Compression(t *testing.T) {
	ask := live(t, liveZone, nil)
	mail := rawName("mail.live.test.")
	ask(asked("mx", dns.TypeMX, byUDP), func(raw []byte, m *dns.Msg) error {
		question := 12 + len(rawName("mx.live.test.")) + 4
		if !bytes.Equal(raw[question:question+2], []byte{0xc0, 12}) {
			return fmt.Errorf("the owner is no pointer to the question")
		}
		if bytes.Contains(raw, mail) {
			return fmt.Errorf("the exchange is not compressed")
		}
		return nil
	})
	for name, qt := range map[string]uint16{"srv": dns.TypeSRV, "new": 65400} {
		ask(asked(name, qt, byUDP), func(raw []byte, m *dns.Msg) error {
			if !bytes.Contains(raw, mail) {
				return fmt.Errorf("the name in the data is compressed")
			}
			return nil
		})
	}
}

// RFC 4592 §2.2.2: an empty non-terminal exists: the wildcard beside it gives nothing for it or below it.
// RFC 4592 §4.3: a wildcard's CNAME is synthesized and followed.
// RFC 4592 §2.2.1: a name that the wildcard stands for has the wildcard's types and no others.
func TestRFC4592WildcardsLive(t *testing.T) {
	ask := live(t, liveZone, nil)
	answer := func(rcode, records int) func([]byte, *dns.Msg) error {
		return func(_ []byte, m *dns.Msg) error {
			if m.Rcode != rcode || len(m.Answer) != records {
				return fmt.Errorf("want %s and %d records", dns.RcodeToString[rcode], records)
			}
			return nil
		}
	}
	ask(asked("b.wild", dns.TypeA, byUDP), answer(dns.RcodeSuccess, 0))
	ask(asked("x.b.wild", dns.TypeA, byUDP), answer(dns.RcodeNameError, 0))
	ask(asked("x.wild", dns.TypeA, byUDP), answer(dns.RcodeSuccess, 1))
	ask(asked("x.y.wild", dns.TypeA, byUDP), answer(dns.RcodeSuccess, 1))
	ask(asked("x.wild", dns.TypeTXT, byUDP), answer(dns.RcodeSuccess, 0))
	ask(asked("x.alias", dns.TypeA, byUDP), answer(dns.RcodeSuccess, 2))
}

// RFC 9471 §3.2: a referral carries the addresses of sibling servers where there is room.
func TestRFC9471SiblingGlue(t *testing.T) {
	ask := live(t, liveZone, nil)
	ask(asked("www.one", dns.TypeA, byUDP), func(_ []byte, m *dns.Msg) error {
		if m.Authoritative || len(m.Ns) != 2 || len(m.Extra) != 2 {
			return fmt.Errorf("want two servers and both addresses")
		}
		return nil
	})
}

// RFC 9715 §3.1: no response over UDP is longer than 1232 octets, whatever size the client takes.
// RFC 6891 §6.2.3: the size in a query bounds the response and does not stretch it.
func TestRFC9715LargestResponse(t *testing.T) {
	var b strings.Builder
	b.WriteString(liveZone)
	for i := range 60 {
		fmt.Fprintf(&b, "big TXT \"%03d %s\"\n", i, strings.Repeat("x", 60))
	}
	ask := live(t, b.String(), nil)
	for _, size := range []uint16{1232, 1400, 4096, 65535} {
		ask(asked("big", dns.TypeTXT, mode{name: fmt.Sprint("udp", size), size: size}), func(raw []byte, m *dns.Msg) error {
			if len(raw) > payload || !m.Truncated {
				return fmt.Errorf("%d octets", len(raw))
			}
			return nil
		})
	}
}

// RFC 4034 §3.1.3: the labels field of an RRSIG that comes with a name made from a wildcard counts the wildcard's labels.
// RFC 4035 §3.1.3.3: with it comes the proof that no closer name exists.
func TestRFC4034WildcardLabels(t *testing.T) {
	ask := live(t, liveZone, families[1].sign)
	ask(asked("x.y.wild", dns.TypeA, withDO), func(_ []byte, m *dns.Msg) error {
		for _, rr := range m.Answer {
			if sig, ok := rr.(*dns.RRSIG); ok && (sig.Labels != 3 || dns.CountLabel(sig.Hdr.Name) != 5) {
				return fmt.Errorf("%d labels", sig.Labels)
			}
		}
		for _, rr := range m.Ns {
			if _, ok := rr.(*dns.NSEC); ok {
				return nil
			}
		}
		return fmt.Errorf("no NSEC")
	})
}

// RFC 9077 §3: NSEC and NSEC3 records that we make have the lesser of the SOA's TTL and MINIMUM as TTL.
// RFC 9276 §3.1: the NSEC3 chains that we make have 0 iterations and no salt.
func TestRFC9077OwnDenial(t *testing.T) {
	for _, text := range []string{liveZone, strings.Replace(liveZone, "@ SOA", "@ 30 SOA", 1)} {
		want := uint32(60)
		if text != liveZone {
			want = 30
		}
		for _, family := range families[4:] {
			live(t, text, family.sign)(asked("nothing.mail", dns.TypeA, withDO), func(_ []byte, m *dns.Msg) error {
				proofs := 0
				for _, rr := range m.Ns {
					switch rr := rr.(type) {
					case *dns.NSEC:
						proofs++
					case *dns.NSEC3:
						proofs++
						if rr.Iterations != 0 || rr.Salt != "" {
							return fmt.Errorf("%d iterations, salt %q", rr.Iterations, rr.Salt)
						}
					}
					if rr.Header().Ttl != want {
						return fmt.Errorf("TTL %d, want %d", rr.Header().Ttl, want)
					}
				}
				if m.Rcode != dns.RcodeNameError || proofs == 0 {
					return fmt.Errorf("no proof")
				}
				return nil
			})
		}
	}
}

// RFC 6672 §2.4: a zone with data below a DNAME, or with two DNAMEs at a name, is not taken.
// RFC 1034 §3.6.2: neither is a CNAME beside other data.
func TestRFC6672WhatAZoneMayNotHold(t *testing.T) {
	for text, word := range map[string]string{
		"x DNAME a.example.\ny.x A 192.0.2.1\n":    "DNAME",
		"x DNAME a.example.\nx DNAME b.example.\n": "DNAME",
		"x CNAME a.example.\nx A 192.0.2.1\n":      "CNAME",
		"x CNAME a.example.\nx CNAME b.example.\n": "CNAME",
		"x CNAME a.example.\nx DNAME b.example.\n": "CNAME",
		"x DNAME a.example.\na.b.x TXT \"deep\"\n": "DNAME",
	} {
		_, err := dnszone.Load(fleet.Name("live.test."), []byte(liveZone+text), "live.zone")
		if err == nil || !strings.Contains(err.Error(), word) || !strings.Contains(err.Error(), "live.zone:") {
			t.Errorf("%q: %v", text, err)
		}
	}
}
