package stub

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"meridian/fleet"
)

// nameserver answers from records, on both protocols of one loopback address.
type nameserver struct {
	addr netip.AddrPort
	rrs  []dns.RR
	cut  bool // answers over UDP are truncated
	mute bool
	lame bool

	negative dns.RR // goes with answers that have nothing
}

// serve runs a nameserver on an address of its own and a port that all share.
func serve(t *testing.T, ip string, port uint16, text string) *nameserver {
	t.Helper()
	n := &nameserver{}
	for line := range strings.Lines(text) {
		rr, err := dns.NewRR(line)
		if err != nil {
			t.Fatal(err)
		}
		if rr != nil {
			n.rrs = append(n.rrs, rr)
		}
	}
	pc, err := net.ListenPacket("udp", fmt.Sprintf("%s:%d", ip, port))
	if err != nil {
		t.Fatal(err)
	}
	n.addr = netip.MustParseAddrPort(pc.LocalAddr().String())
	l, err := net.Listen("tcp", n.addr.String())
	if err != nil {
		t.Skipf("TCP at the port of UDP is taken: %v", err)
	}
	for _, s := range []*dns.Server{{PacketConn: pc, Handler: n}, {Listener: l, Handler: n}} {
		ready := make(chan struct{})
		s.NotifyStartedFunc = func() { close(ready) }
		go func() { _ = s.ActivateAndServe() }()
		<-ready
		t.Cleanup(func() { _ = s.Shutdown() })
	}
	return n
}

func (n *nameserver) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	if n.mute {
		return
	}
	m := new(dns.Msg)
	m.SetReply(q)
	m.Authoritative = !n.lame
	name := false
	for _, rr := range n.rrs {
		if strings.EqualFold(rr.Header().Name, q.Question[0].Name) {
			name = true
			if rr.Header().Rrtype == q.Question[0].Qtype || rr.Header().Rrtype == dns.TypeCNAME {
				m.Answer = append(m.Answer, rr)
			}
		}
	}
	if !name {
		m.Rcode = dns.RcodeNameError
	}
	if len(m.Answer) == 0 && n.negative != nil {
		m.Ns = []dns.RR{n.negative}
	}
	if _, udp := w.RemoteAddr().(*net.UDPAddr); udp && n.cut {
		m.Truncated, m.Answer = true, nil
	}
	_ = w.WriteMsg(m)
}

const family = `
test. 300 IN NS a.test.
test. 300 IN NS b.test.
a.test. 300 IN A 127.0.0.1
b.test. 300 IN A 127.0.0.2
www.test. 20 IN A 192.0.2.1
www.test. 10 IN A 192.0.2.2
none.test. 20 IN TXT "x"
`

func ds(tag int) string {
	return fmt.Sprintf("example.test. 60 IN DS %d 13 2 %s\n", tag, strings.Repeat("ab", 32))
}

// Every nameserver of the parent is asked: what all have is told apart from
// what only some have.
func TestParentDSAsksAll(t *testing.T) {
	a := serve(t, "127.0.0.1", 0, family+ds(1)+ds(2))
	b := serve(t, "127.0.0.2", a.addr.Port(), family+ds(2)+ds(3))
	s := New(Config{Resolvers: []netip.AddrPort{a.addr}, Port: a.addr.Port(), Timeout: time.Second})
	ask := func() (all, any []uint16, err error) {
		got, err := s.ParentDS(t.Context(), "example.test.")
		if err != nil {
			return nil, nil, err
		}
		for _, d := range got.All {
			all = append(all, d.KeyTag)
		}
		for _, d := range got.Any {
			any = append(any, d.KeyTag)
		}
		slices.Sort(any)
		return all, any, nil
	}
	all, some, err := ask()
	if err != nil || !slices.Equal(all, []uint16{2}) || !slices.Equal(some, []uint16{1, 2, 3}) {
		t.Errorf("all %v, any %v, %v", all, some, err)
	}
	for what, set := range map[string]*bool{"does not answer": &b.mute, "is lame": &b.lame} {
		*set = true
		if _, _, err := ask(); err == nil {
			t.Errorf("one server %s, and the others' word was taken for all", what)
		}
		*set = false
	}
	b.cut = true
	if _, some, err := ask(); err != nil || len(some) != 3 {
		t.Errorf("truncated over UDP: %v %v", some, err)
	}
	if _, err := s.ParentDS(t.Context(), "."); err == nil {
		t.Error("the root has a parent")
	}
}

// Of several resolvers the first that answers is enough, and what it says is
// the same in whatever order it says it.
func TestDS(t *testing.T) {
	a := serve(t, "127.0.0.1", 0, family+ds(2)+ds(1))
	b := serve(t, "127.0.0.2", a.addr.Port(), family+ds(1)+ds(2))
	c, err := net.ListenPacket("udp", "127.0.0.1:0") // nobody reads it
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	silent := netip.MustParseAddrPort(c.LocalAddr().String())
	for _, good := range []*nameserver{a, b} {
		s := New(Config{Resolvers: []netip.AddrPort{silent, good.addr}, Timeout: time.Second})
		list, err := s.DS(t.Context(), "example.test.")
		if err != nil || len(list) != 2 || list[0].KeyTag != 1 || list[1].KeyTag != 2 {
			t.Errorf("%v %v", list, err)
		}
		if list, err := s.DS(t.Context(), "nowhere.test."); err != nil || len(list) > 0 {
			t.Errorf("a name that is not there: %v %v", list, err)
		}
	}
	s := New(Config{Resolvers: []netip.AddrPort{silent}, Timeout: time.Second})
	if _, err := s.DS(t.Context(), "example.test."); err == nil {
		t.Error("nobody answers, and that is no error")
	}
}

func TestCNAME(t *testing.T) {
	a := serve(t, "127.0.0.1", 0, family+"alias.test. 20 IN CNAME WWW.test.\n")
	s := New(Config{Resolvers: []netip.AddrPort{a.addr}, Timeout: time.Second})
	for name, want := range map[fleet.Name]fleet.Name{"alias.test.": "www.test.", "www.test.": "", "absent.test.": ""} {
		if got, err := s.CNAME(t.Context(), name); err != nil || got != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	a.mute = true
	if _, err := s.CNAME(t.Context(), "alias.test."); err == nil {
		t.Error("a silent resolver answered")
	}
}

func TestAddresses(t *testing.T) {
	dead := serve(t, "127.0.0.1", 0, "")
	dead.mute = true
	a := serve(t, "127.0.0.1", 0, family)
	s := New(Config{Resolvers: []netip.AddrPort{dead.addr, a.addr}, Timeout: time.Second})
	got, ttl, err := s.Addresses(t.Context(), "www.test.", false)
	if err != nil || len(got) != 2 || ttl != 10*time.Second || !got[0].Is4() {
		t.Errorf("%v %s %v", got, ttl, err)
	}
	if got, _, err := s.Addresses(t.Context(), "www.test.", true); err != nil || len(got) != 0 {
		t.Errorf("no AAAA: %v %v", got, err)
	}
	if _, _, err := s.Addresses(t.Context(), fleet.Name("absent.test."), false); err == nil {
		t.Error("an absent name has addresses")
	}
	s.Use([]netip.AddrPort{dead.addr})
	if _, _, err := s.Addresses(t.Context(), "www.test.", false); err == nil {
		t.Error("a silent resolver answered")
	}
}
