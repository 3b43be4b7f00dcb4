package stub

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"meridian/fleet"
)

// heard is a target of notifications on a loopback address.
type heard struct {
	port  uint16
	got   chan *dns.Msg
	rcode int
	mute  bool
}

func listen(t *testing.T, ip string, port int) *heard {
	t.Helper()
	pc, err := net.ListenPacket("udp", fmt.Sprintf("%s:%d", ip, port))
	if err != nil {
		t.Fatal(err)
	}
	h := &heard{port: netip.MustParseAddrPort(pc.LocalAddr().String()).Port(), got: make(chan *dns.Msg, 8)}
	ready := make(chan struct{})
	srv := &dns.Server{PacketConn: pc, Handler: h, NotifyStartedFunc: func() { close(ready) }}
	// The server's own filter knows NOTIFY for one SOA question alone.
	srv.MsgAcceptFunc = func(dns.Header) dns.MsgAcceptAction { return dns.MsgAccept }
	go func() { _ = srv.ActivateAndServe() }()
	<-ready
	t.Cleanup(func() { _ = srv.Shutdown() })
	return h
}

func (h *heard) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	h.got <- q
	if !h.mute {
		_ = w.WriteMsg(new(dns.Msg).SetRcode(q, h.rcode))
	}
}

// dsyncRR writes a record in the form of unknown types (RFC 3597 section 5).
func dsyncRR(owner string, qtype uint16, scheme uint8, port uint16, target string) string {
	name := make([]byte, 255)
	n, err := dns.PackDomainName(target, name, 0, nil, false)
	if err != nil {
		panic(err)
	}
	return fmt.Sprintf("%s 60 IN TYPE66 \\# %d %04x%02x%04x%x\n", owner, 5+n, qtype, scheme, port, name[:n])
}

const scanner = "scan.test. 60 IN A 127.0.0.9\nscan.test. 60 IN A 127.0.0.8\n"

// RFC 9859 §4.1: the target is looked for at the child's label before _dsync.
// RFC 9859 §4.1: a negative answer of a zone further up has all labels below that zone stand before _dsync.
// RFC 9859 §4.1: where nothing is there, _dsync alone below the parent is asked.
// RFC 9859 §2.1: a DSYNC record names type, scheme, port and target.
func TestRFC9859Discovery(t *testing.T) {
	soa := "%s 60 IN SOA ns.test. host.test. 1 2 3 4 5\n"
	for what, c := range map[string]struct{ child, rrs, apex, want string }{
		"of the child":       {"a.test.", dsyncRR("a._dsync.test.", 59, 1, 5300, "scan.test."), "test.", "scan.test.:5300"},
		"several labels":     {"a.b.c.test.", dsyncRR("a.b.c._dsync.test.", 59, 1, 5300, "scan.test."), "test.", "scan.test.:5300"},
		"without a wildcard": {"a.test.", dsyncRR("_dsync.test.", 59, 1, 53, "scan.test."), "test.", "scan.test.:53"},
		"a zone of its own":  {"a.test.", dsyncRR("_dsync.test.", 59, 1, 53, "scan.test."), "_dsync.test.", "scan.test.:53"},
		"through an alias": {"a.test.", "a._dsync.test. 60 IN CNAME x.test.\n" + dsyncRR("a._dsync.test.", 59, 1, 53, "scan.test."),
			"test.", "scan.test.:53"},
		"among others": {"a.test.", dsyncRR("a._dsync.test.", 62, 1, 54, "no.test.") + dsyncRR("a._dsync.test.", 59, 200, 54, "no.test.") +
			dsyncRR("a._dsync.test.", 59, 1, 0, "no.test.") + dsyncRR("a._dsync.test.", 59, 1, 54, ".") + dsyncRR("a._dsync.test.", 59, 1, 53, "scan.test."), "test.", "scan.test.:53"},
		"for CSYNC alone":        {"a.test.", dsyncRR("a._dsync.test.", 62, 1, 54, "no.test.") + dsyncRR("_dsync.test.", 59, 1, 54, "no.test."), "test.", ""},
		"none":                   {"a.b.test.", "b.test. 60 IN TXT x\n", "test.", ""},
		"malformed":              {"a.test.", "a._dsync.test. 60 IN TYPE66 \\# 6 003b0100ffc0\n", "test.", ""},
		"negative from nowhere":  {"a.test.", "", "other.", ""},
		"a label with a dot":     {`a\.b.test.`, dsyncRR(`a\.b._dsync.test.`, 59, 1, 53, "scan.test."), "test.", "scan.test.:53"},
		"the parent is the root": {"test.", dsyncRR("test._dsync.", 59, 1, 53, "scan.test."), ".", "scan.test.:53"},
	} {
		n := serve(t, "127.0.0.1", 0, c.rrs)
		rr, err := dns.NewRR(fmt.Sprintf(soa, c.apex))
		if err != nil {
			t.Fatal(err)
		}
		n.negative = rr
		s := New(Config{Resolvers: []netip.AddrPort{n.addr}, Timeout: time.Second})
		got, err := s.discover(t.Context(), fleet.Name(c.child))
		found := ""
		if got.Target != "" {
			found = fmt.Sprintf("%s:%d", got.Target, got.Port)
		}
		if err != nil || found != c.want {
			t.Errorf("%s: found %q, %v; want %q", what, found, err, c.want)
		}
	}
	s := New(Config{Resolvers: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:1")}, Timeout: 100 * time.Millisecond})
	if _, err := s.discover(t.Context(), "a.test."); err == nil {
		t.Error("no resolver answers, and that counts as no target")
	}
	if _, err := s.discover(t.Context(), "."); err == nil {
		t.Error("the root has a parent")
	}
	if long := strings.Repeat(strings.Repeat("a", 62)+".", 4); len(long) > 0 {
		if got, err := s.discover(t.Context(), fleet.Name(long)); err != nil || got.Target != "" {
			t.Errorf("a name that leaves no room for _dsync: %v %v", got, err)
		}
	}
}

// RFC 9859 §4: NOTIFY(CDS) is RFC 1996's message with QTYPE CDS, for one child zone.
// RFC 9859 §4.2.1: any response ends it; where one address gives none, the target's next is tried.
func TestRFC9859Notify(t *testing.T) {
	first := listen(t, "127.0.0.9", 0)
	second := listen(t, "127.0.0.8", int(first.port))
	first.mute = true
	n := serve(t, "127.0.0.1", 0, scanner+dsyncRR("a._dsync.test.", 59, 1, first.port, "scan.test."))
	s := New(Config{Resolvers: []netip.AddrPort{n.addr}, Timeout: time.Second})
	want := fmt.Sprintf("scan.test.:%d", first.port)
	target, rcode, err := s.NotifyParent(t.Context(), "a.test.")
	if err != nil || target != want || rcode != "NOERROR" {
		t.Fatalf("%q %q %v", target, rcode, err)
	}
	for _, h := range []*heard{first, second} {
		q := <-h.got
		if q.Opcode != dns.OpcodeNotify || !q.Authoritative || q.Response || len(q.Question) != 1 || len(q.Answer) != 0 ||
			q.Question[0] != (dns.Question{Name: "a.test.", Qtype: dns.TypeCDS, Qclass: dns.ClassINET}) {
			t.Errorf("sent %v", q)
		}
	}
	second.rcode = dns.RcodeRefused
	if target, rcode, err = s.NotifyParent(t.Context(), "a.test."); err != nil || rcode != "REFUSED" || target != want {
		t.Errorf("refused: %q %q %v", target, rcode, err)
	}
	second.mute = true
	if target, _, err = s.NotifyParent(t.Context(), "a.test."); err == nil || target != want {
		t.Errorf("no address answers: %q %v", target, err)
	}
	if target, _, err = s.NotifyParent(t.Context(), "b.test."); err != nil || target != "" {
		t.Errorf("no target: %q %v", target, err)
	}
}

func FuzzDSYNC(f *testing.F) {
	f.Add([]byte("\x00\x3b\x01\x14\xef\x04scan\x04test\x00"))
	f.Add([]byte("\x00\x3b\x01\x14\xef\x00"))
	f.Add([]byte("\x00\x3b\x01\x14\xef\xc0\x00"))
	f.Add([]byte{0, 59, 1})
	f.Fuzz(func(t *testing.T, rdata []byte) {
		d, err := parseDSYNC(rdata)
		if err != nil {
			return
		}
		if n, err := fleet.ParseName(string(d.Target)); err != nil || n != d.Target {
			t.Fatalf("target %q is no name: %v", d.Target, err)
		}
	})
}
