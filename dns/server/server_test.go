package server

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"

	"meridian/dns/answer"
	"meridian/dns/zone"
	"meridian/fleet"
	"meridian/geo/mmdb"
	"meridian/internal/testkit"
	"meridian/steer"
)

const spec = `
regions:
- {id: fra, location: {latitude: 50.1, longitude: 8.7}, vips: {v4: [192.0.2.1], v6: ["2001:db8::1"]}}
- {id: tyo, location: {latitude: 35.7, longitude: 139.7}, vips: {v4: [192.0.2.2], v6: ["2001:db8::2"]}}
- {id: gru, location: {latitude: -23.5, longitude: -46.6}, vips: {v4: [192.0.2.3], v6: ["2001:db8::3"]}}
services:
- {service: web, protocol: http, ports: [80], pools: [{id: main, endpoints: [{address: "10.0.0.1:80"}]}]}
zones:
- zone: demo.test
  records: |
    $TTL 300
    @ SOA ns1 admin 7 3600 600 86400 60
    @ NS ns1
    ns1 A 192.0.2.53
    $GENERATE 1-200 many A 192.0.3.$
  steered: [{name: www, service: web}]
`

func world(t testing.TB, doc string, shifts ...fleet.Shift) *fleet.World {
	t.Helper()
	s, err := fleet.Compile([]byte(doc), 1, zone.Check, steer.Check)
	if err != nil {
		t.Fatal(err)
	}
	return &fleet.World{Snapshot: s, Shifts: shifts}
}

// start runs a server on a free port of loopback and stops it with the test.
func start(t testing.TB, change func(*Config)) *Server {
	t.Helper()
	cfg := Config{
		Listen:   []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")},
		Identity: answer.Identity{Node: "fra-1", Version: "test"},
		Logger:   slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
	if change != nil {
		change(&cfg)
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	if err := s.Open(ctx); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	for begun := false; !begun; runtime.Gosched() {
		s.opening.Lock()
		begun = s.running != nil
		s.opening.Unlock()
	}
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return s
}

func exchange1(t testing.TB, network string, addr netip.AddrPort, name string, qtype uint16) *dns.Msg {
	t.Helper()
	m := new(dns.Msg)
	m.SetQuestion(name, qtype)
	c := &dns.Client{Net: network, Timeout: 5 * time.Second}
	r, _, err := c.Exchange(m, addr.String())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestServesUDPAndTCP(t *testing.T) {
	s := start(t, nil)
	if s.Ready() {
		t.Error("ready with nothing to serve")
	}
	if r := exchange1(t, "udp", s.Addrs()[0], "www.demo.test.", dns.TypeA); r.Rcode != dns.RcodeServerFailure {
		t.Errorf("before the first World: %s", dns.RcodeToString[r.Rcode])
	}
	if err := s.Apply(world(t, spec)); err != nil {
		t.Fatal(err)
	}
	for _, network := range []string{"udp", "tcp"} {
		if r := exchange1(t, network, s.Addrs()[0], "www.demo.test.", dns.TypeA); len(r.Answer) != 1 {
			t.Errorf("%s: %v", network, r)
		}
	}
	if r := exchange1(t, "udp", s.Addrs()[0], "many.demo.test.", dns.TypeA); !r.Truncated {
		t.Error("200 addresses over UDP are not truncated")
	}
	if r := exchange1(t, "tcp", s.Addrs()[0], "many.demo.test.", dns.TypeA); r.Truncated || len(r.Answer) != 200 {
		t.Error("200 addresses over TCP are truncated")
	}
}

// Both families, and answers that leave from the address that was asked.
func TestAnswersLeaveFromTheAddressAsked(t *testing.T) {
	s := start(t, func(c *Config) { c.Listen = []netip.AddrPort{netip.MustParseAddrPort("[::]:0")} })
	if err := s.Apply(world(t, spec)); err != nil {
		t.Fatal(err)
	}
	port := s.Addrs()[0].Port()
	for _, to := range []string{"127.0.0.1", "127.0.0.2", "127.9.9.9", "::1"} {
		if to == "::1" && len(s.Addrs()) < 2 {
			testkit.Need(t, false, "IPv6 on loopback")
		}
		// A connected socket takes no answer from another address.
		r := exchange1(t, "udp", netip.AddrPortFrom(netip.MustParseAddr(to), port), "www.demo.test.", dns.TypeA)
		if len(r.Answer) != 1 {
			t.Errorf("%s: %v", to, r)
		}
	}
}

func TestHealthAndShifts(t *testing.T) {
	s := start(t, nil)
	ip := func() string {
		return exchange1(t, "udp", s.Addrs()[0], "www.demo.test.", dns.TypeA).Answer[0].(*dns.A).A.String()
	}
	if err := s.Apply(world(t, spec)); err != nil {
		t.Fatal(err)
	}
	if got := ip(); got != "192.0.2.1" {
		t.Errorf("at first %s", got)
	}
	down := &fleet.View{Verdicts: map[fleet.Target]fleet.Verdict{{Kind: fleet.TargetService, Region: "fra", Service: "web"}: {State: fleet.Down}}}
	s.SetView(down)
	if got := ip(); got != "192.0.2.2" {
		t.Errorf("with fra down %s", got)
	}
	if err := s.Apply(world(t, spec)); err != nil {
		t.Fatal(err)
	}
	if got := ip(); got != "192.0.2.2" {
		t.Errorf("a new World forgot the View: %s", got)
	}
	s.SetView(nil)
	if err := s.Apply(world(t, spec, fleet.Shift{ID: "a", From: "fra", To: []string{"gru"}, Share: 1, Expires: time.Now().Add(300 * time.Millisecond)})); err != nil {
		t.Fatal(err)
	}
	if got := ip(); got != "192.0.2.3" {
		t.Errorf("shifted to %s", got)
	}
	deadline := time.After(10 * time.Second)
	for ip() != "192.0.2.1" {
		select {
		case <-deadline:
			t.Fatal("the shift did not run out")
		default:
		}
	}
}

// What cannot be compiled leaves what is served as it was.
func TestApplyIsAllOrNothing(t *testing.T) {
	s := start(t, nil)
	if err := s.Apply(world(t, spec)); err != nil {
		t.Fatal(err)
	}
	before := s.Plan()
	broken := world(t, strings.Replace(spec, "  steered:", "- zone: other.test\n  file: other.zone\n  steered:", 1))
	if err := s.Apply(broken); err == nil || !strings.Contains(err.Error(), "other.test.: its object is missing") {
		t.Errorf("%v", err)
	}
	if s.Plan() != before {
		t.Error("the plan has changed")
	}
}

func TestGeoDatabaseReplaced(t *testing.T) {
	s := start(t, nil)
	if err := s.Apply(world(t, spec)); err != nil {
		t.Fatal(err)
	}
	source, err := mmdb.Default()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.SetGeo(source); err != nil {
		t.Fatal(err)
	}
	e, err := s.Plan().Explain("www.demo.test.", dns.TypeA, netip.MustParsePrefix("133.11.0.0/24"))
	if err != nil || e.Place.Country != "JP" || e.Decision.Regions[0] != "tyo" {
		t.Errorf("%v %v", e, err)
	}
}

// RFC 7766 §6.2.1.1: many queries on one connection, sent without waiting for answers, are all answered.
func TestRFC7766Pipelining(t *testing.T) {
	s := start(t, nil)
	if err := s.Apply(world(t, spec)); err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("tcp", s.Addrs()[0].String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	const n = 100
	var all []byte
	for i := range n {
		m := new(dns.Msg)
		m.SetQuestion("www.demo.test.", dns.TypeA)
		m.Id = uint16(i)
		b, _ := m.Pack()
		all = append(binary.BigEndian.AppendUint16(all, uint16(len(b))), b...)
	}
	for _, part := range [][]byte{all[:1], all[1:7], all[7:]} { // RFC 7766 section 8: lengths and messages come in pieces
		if _, err := c.Write(part); err != nil {
			t.Fatal(err)
		}
	}
	for i := range n {
		var size [2]byte
		if _, err := io.ReadFull(c, size[:]); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, binary.BigEndian.Uint16(size[:]))
		if _, err := io.ReadFull(c, b); err != nil {
			t.Fatal(err)
		}
		var m dns.Msg
		if err := m.Unpack(b); err != nil || m.Id != uint16(i) || len(m.Answer) != 1 {
			t.Fatalf("answer %d: %v %v", i, err, m.Id)
		}
	}
}

func TestTCPLimits(t *testing.T) {
	s := start(t, func(c *Config) {
		c.DNS.TCP = fleet.DNSTCP{Connections: 2, Idle: fleet.Duration(200 * time.Millisecond)}
	})
	dial := func() net.Conn {
		c, err := net.Dial("tcp", s.Addrs()[0].String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		c.SetDeadline(time.Now().Add(10 * time.Second))
		return c
	}
	a, b, third := dial(), dial(), dial()
	for what, c := range map[string]net.Conn{"one too many": third, "idle": a, "idle too": b} {
		if _, err := c.Read(make([]byte, 1)); err != io.EOF && !strings.Contains(fmt.Sprint(err), "reset") {
			t.Errorf("%s: %v, want the connection closed", what, err)
		}
	}
}

// gather gives every metric by name and label values.
func gather(t testing.TB, s *Server) map[string]float64 {
	t.Helper()
	r := prometheus.NewPedanticRegistry()
	s.Register(r)
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += " " + l.GetValue()
			}
			got[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return got
}

func counter(t testing.TB, s *Server, name string) float64 {
	t.Helper()
	v, ok := gather(t, s)[name]
	if !ok {
		t.Errorf("no metric %s", name)
	}
	return v
}

// counted waits until a counter, which may grow a moment after its cause is
// seen, is at least n; it must not be more.
func counted(t testing.TB, s *Server, name string, n float64) {
	t.Helper()
	got := counter(t, s, name)
	for deadline := time.Now().Add(30 * time.Second); got < n && time.Now().Before(deadline); got = counter(t, s, name) {
		runtime.Gosched()
	}
	if got != n {
		t.Errorf("%s is %v, want %v", name, got, n)
	}
}

func TestMetrics(t *testing.T) {
	s := start(t, nil)
	if err := s.Apply(world(t, spec)); err != nil {
		t.Fatal(err)
	}
	exchange1(t, "udp", s.Addrs()[0], "www.demo.test.", dns.TypeA)
	exchange1(t, "tcp", s.Addrs()[0], "nothing.demo.test.", dns.TypeMX)
	got := gather(t, s)
	for name, want := range map[string]float64{
		"meridian_dns_queries_total udp": 1, "meridian_dns_queries_total tcp": 1, "meridian_dns_zones": 1,
		"meridian_dns_queries_by_type_total A": 1, "meridian_dns_queries_by_type_total MX": 1,
		"meridian_dns_queries_by_class_total IN": 2, "meridian_dns_queries_by_zone_total demo.test.": 2,
		"meridian_dns_queries_by_zone_total other": 0, "meridian_dns_udp_receive_drops_total": 0,
		"meridian_dns_responses_total NXDOMAIN tcp": 1, "meridian_dns_dropped_total oversize udp": 0,
	} {
		if v, ok := got[name]; !ok || v != want {
			t.Errorf("%s = %v, want %v", name, v, want)
		}
	}
}

// Answering over UDP allocates nothing, with all that may be done to an answer.
func TestAnswerAllocatesNothing(t *testing.T) {
	s, err := New(Config{Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Apply(with(t, "rate_limit: {per_second: 1000000}, proxies: [192.0.2.0/24]", nil)); err != nil {
		t.Fatal(err)
	}
	c, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	u, err := newUDPSocket(c.(*net.UDPConn), true, new(stats))
	if err != nil {
		t.Fatal(err)
	}
	b, _ := query("www.demo.test.", dns.TypeA, 1).Pack()
	b = append(proxyHeader("203.0.113.9:4444", proxyDatagram), b...)
	u.in[0].len = uint32(copy(u.queries[0][:], b))
	copy(u.names[0][:], []byte{unix.AF_INET, 0, 1, 2, 192, 0, 2, 9}) // as on a little-endian machine
	answered := 0
	if n := testing.AllocsPerRun(1000, func() {
		u.notes = 1
		if u.answer(s, s.plan.Load(), s.settings.Load(), time.Now(), 0, 0) > 0 {
			answered++
		}
	}); n != 0 || answered < 1000 {
		t.Errorf("%v allocations, %d answers", n, answered)
	}
}

// What the kernel has no room for is counted.
func TestKernelDrops(t *testing.T) {
	c, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	u := c.(*net.UDPConn)
	if err := u.SetReadBuffer(4096); err != nil {
		t.Fatal(err)
	}
	raw, err := u.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if n := kernelDrops(raw); n != 0 {
		t.Errorf("%d at first", n)
	}
	from, err := net.Dial("udp4", c.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	for range 100 {
		if _, err := from.Write(make([]byte, 512)); err != nil {
			t.Fatal(err)
		}
	}
	if n := kernelDrops(raw); n < 50 || n > 99 {
		t.Errorf("%d of 100 dropped, with room for few", n)
	}
}

// What dig sees.
func TestDig(t *testing.T) {
	dig := testkit.Program(t, "dig")
	source, err := mmdb.Default()
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, func(c *Config) { c.Geo = source })
	if err := s.Apply(world(t, spec)); err != nil {
		t.Fatal(err)
	}
	a := s.Addrs()[0]
	for _, c := range []struct {
		args string
		want []string
	}{
		{"www.demo.test +subnet=91.0.0.0/24", []string{"status: NOERROR", "192.0.2.1", "CLIENT-SUBNET: 91.0.0.0/24/", "flags: qr aa rd;"}},
		{"www.demo.test +subnet=133.11.0.0/24", []string{"192.0.2.2", "CLIENT-SUBNET: 133.11.0.0/24/"}},
		{"www.demo.test +subnet=200.160.2.0/24", []string{"192.0.2.3"}},
		{"www.demo.test AAAA +subnet=2400:4000::/48", []string{"2001:db8::2", "CLIENT-SUBNET: 2400:4000::/48/"}},
		{"www.demo.test +subnet=0", []string{"status: NOERROR"}},
		{"www.demo.test +tcp", []string{"192.0.2.1"}},
		{"many.demo.test +short", []string{"192.0.3.200"}},
		{"nothing.demo.test", []string{"status: NXDOMAIN", "SOA"}},
		{"elsewhere.example", []string{"status: REFUSED", "EDE: 20 (Not Authoritative)"}},
		{"demo.test SOA +nsid", []string{`NSID: 66 72 61 2d 31 ("fra-1")`}},
		{"id.server CH TXT +short", []string{`"fra-1"`}},
		{"demo.test SOA +edns=1 +noednsnegotiation", []string{"status: BADVERS"}},
		{"demo.test SOA +opcode=9", []string{"status: NOTIMP"}},
		{"demo.test SOA +ednsopt=100:00 +dnssec", []string{"flags: do;", "status: NOERROR"}},
		{"demo.test TYPE65280", []string{"status: NOERROR", "SOA"}},
	} {
		args := append([]string{"@" + a.Addr().String(), "-p", fmt.Sprint(a.Port()), "+tries=1", "+time=5"}, strings.Fields(c.args)...)
		out, err := exec.Command(dig, args...).CombinedOutput()
		if err != nil {
			t.Errorf("dig %s: %v\n%s", c.args, err, out)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(string(out), want) {
				t.Errorf("dig %s: no %q in\n%s", c.args, want, out)
			}
		}
	}
}

// Messages that are no queries leave the server answering.
func TestGarbage(t *testing.T) {
	s := start(t, nil)
	if err := s.Apply(world(t, spec)); err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("udp", s.Addrs()[0].String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, b := range [][]byte{{}, {1}, make([]byte, 11), make([]byte, 12), make([]byte, 5000), []byte(strings.Repeat("\xff", 600))} {
		if _, err := c.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	if r := exchange1(t, "udp", s.Addrs()[0], "www.demo.test.", dns.TypeA); len(r.Answer) != 1 {
		t.Errorf("%v", r)
	}
}

func TestNewSaysWhatIsMissing(t *testing.T) {
	if _, err := New(Config{}); err == nil || !strings.Contains(err.Error(), "no logger") {
		t.Errorf("%v", err)
	}
}
