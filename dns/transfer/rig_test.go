package transfer

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"

	"meridian/dns/answer"
	"meridian/dns/server"
	"meridian/dns/zone"
	"meridian/fleet"
	"meridian/internal/testkit"
)

// node is a nameserver with transfers, as cmd wires them.
type node struct {
	*Transfer
	srv  *server.Server
	addr netip.AddrPort
	logs *testkit.Buffer
	stop func()
}

const secretText = "c2VjcmV0IG9mIHR3ZW50eSBvY3RldHMgb3Igc28="

const fleetHead = `
regions: [{id: fra, vips: {v4: [192.0.2.1]}, location: {latitude: 0, longitude: 0}}]
services: [{service: web, protocol: http, ports: [80], pools: [{id: a, endpoints: [{address: "10.0.0.1:80"}]}]}]
`

// makeWorld compiles a document and gives it objects by reference.
func makeWorld(t testing.TB, doc string, objects map[fleet.ObjectKey]string) *fleet.World {
	t.Helper()
	s, err := fleet.Compile([]byte(fleetHead+doc), 1, zone.Check)
	if err != nil {
		t.Fatal(err)
	}
	w := &fleet.World{Snapshot: s, Objects: map[fleet.ObjectKey]fleet.Object{}}
	for k, data := range objects {
		w.Objects[k] = fleet.Object{Key: k, Data: []byte(data)}
	}
	for _, k := range s.Spec.DNS.Keys {
		key := fleet.ObjectKey{Kind: fleet.ObjectSecret, ID: string(k.Secret)}
		if _, ok := w.Objects[key]; !ok {
			w.Objects[key] = fleet.Object{Key: key, Data: []byte(secretText + "\n")}
		}
	}
	return w
}

// serve starts a nameserver with transfers on a port of loopback, 0 for any.
func serve(t testing.TB, dir string, port uint16, w *fleet.World) *node {
	t.Helper()
	n := &node{logs: &testkit.Buffer{}}
	log := slog.New(slog.NewTextHandler(n.logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	var err error
	if n.srv, err = server.New(server.Config{
		Listen:   []netip.AddrPort{netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port)},
		Identity: answer.Identity{Node: "fra-1", Version: "test"}, Logger: log, Sockets: 1,
	}); err != nil {
		t.Fatal(err)
	}
	if n.Transfer, err = New(Config{Zones: n.srv, Dir: dir, Logger: log}); err != nil {
		t.Fatal(err)
	}
	n.srv.SetSpecial(special{n.Transfer})
	n.srv.OnZone(n.ZoneChanged)
	n.apply(t, w)
	ctx, cancel := context.WithCancel(context.Background())
	if err := n.srv.Open(ctx); err != nil {
		t.Fatal(err)
	}
	n.addr = n.srv.Addrs()[0]
	var running sync.WaitGroup
	running.Go(func() {
		if err := n.srv.Run(ctx); err != nil {
			t.Errorf("server: %v", err)
		}
	})
	running.Go(func() {
		if err := n.Transfer.Run(ctx); err != nil {
			t.Errorf("transfer: %v", err)
		}
	})
	n.stop = sync.OnceFunc(func() { cancel(); running.Wait() })
	t.Cleanup(func() {
		n.stop()
		if t.Failed() {
			t.Logf("log of the node:\n%s", n.logs)
		}
	})
	return n
}

func (n *node) apply(t testing.TB, w *fleet.World) {
	t.Helper()
	if err := n.srv.Apply(w); err != nil {
		t.Fatal(err)
	}
	if err := n.Apply(w); err != nil {
		t.Fatal(err)
	}
}

// special hands the nameserver's messages to transfers, as cmd does.
type special struct{ t *Transfer }

func (s special) Handle(ctx context.Context, r *server.Request) {
	s.t.Handle(ctx, &Request{Message: r.Message, Client: r.Client, Stream: r.Transport.Stream(), Encrypted: r.Transport.Encrypted(), Answer: r.Answer, Reply: r.Reply})
}

// eventually waits until ok, which is asked often, is true.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			t.Fatalf("still not: %s", what)
		case <-tick.C:
		}
	}
}

// serialAt asks a nameserver for a zone's serial; 0 where it has none.
func serialAt(addr netip.AddrPort, name string) uint32 {
	m := new(dns.Msg)
	m.SetQuestion(name, dns.TypeSOA)
	c := dns.Client{Timeout: time.Second}
	r, _, err := c.Exchange(m, addr.String())
	if err != nil || r.Rcode != dns.RcodeSuccess || len(r.Answer) == 0 {
		return 0
	}
	if soa, ok := r.Answer[0].(*dns.SOA); ok {
		return soa.Serial
	}
	return 0
}

// peerServer is a real nameserver of another make.
type peerServer struct {
	addr netip.AddrPort
	dir  string
	cmd  *exec.Cmd
	logs *testkit.Buffer
}

// run starts a program in a folder of its own and ends it with the test.
func (p *peerServer) run(t testing.TB, program string, args ...string) {
	t.Helper()
	p.logs = &testkit.Buffer{}
	p.cmd = exec.Command(program, args...)
	p.cmd.Dir = p.dir
	p.cmd.Stdout, p.cmd.Stderr = p.logs, p.logs
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	cmd, logs := p.cmd, p.logs
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("log of %s:\n%s", filepath.Base(program), logs)
		}
	})
}

// stop ends the program in order.
func (p *peerServer) stop(t testing.TB) {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	_ = p.cmd.Wait()
}

func (p *peerServer) write(t testing.TB, file, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(p.dir, file), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func newPeer(t testing.TB) *peerServer {
	t.Helper()
	p := &peerServer{dir: t.TempDir(), addr: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), testkit.FreePort(t, "127.0.0.1"))}
	if err := os.Chmod(p.dir, 0o777); err != nil {
		t.Fatal(err)
	}
	return p
}

const keyName = "xfer.key"

// bind starts BIND with a key named xfer.key and these statements.
func bind(t testing.TB, p *peerServer, options, rest string) {
	t.Helper()
	named := testkit.Program(t, "named")
	p.write(t, "named.conf", fmt.Sprintf(`
key "%s" { algorithm hmac-sha256; secret "%s"; };
controls {};
%s
options {
	directory "%s"; pid-file "named.pid"; session-keyfile none; listen-on-v6 { none; };
	listen-on port %d { 127.0.0.1; };
	recursion no; dnssec-validation no; notify yes; notify-delay 0; minimal-responses yes;
	serial-query-rate 1000; startup-notify-rate 1000; notify-rate 1000;
	min-refresh-time 1; min-retry-time 1; request-ixfr yes; ixfr-from-differences yes;
	%s
};
`, keyName, secretText, rest, p.dir, p.addr.Port(), options))
	p.run(t, named, "-g", "-n", "1", "-c", filepath.Join(p.dir, "named.conf"))
}

// nsd starts NSD with these clauses.
func nsd(t testing.TB, p *peerServer, clauses string) {
	t.Helper()
	program := testkit.Program(t, "nsd")
	p.write(t, "nsd.conf", fmt.Sprintf(`
server:
	ip-address: 127.0.0.1@%d
	username: ""
	chroot: ""
	zonesdir: "%[2]s"
	database: ""
	pidfile: "%[2]s/nsd.pid"
	xfrdfile: "%[2]s/xfrd.state"
	zonelistfile: "%[2]s/zone.list"
	xfrdir: "%[2]s"
	server-count: 1
	xfrd-reload-timeout: 0
	verbosity: 3
remote-control:
	control-enable: no
key:
	name: "%[3]s"
	algorithm: hmac-sha256
	secret: "%[4]s"
%[5]s
`, p.addr.Port(), p.dir, keyName, secretText, clauses))
	p.run(t, program, "-d", "-c", filepath.Join(p.dir, "nsd.conf"))
}

// knot starts Knot DNS with these sections.
func knot(t testing.TB, p *peerServer, sections string) {
	t.Helper()
	program := testkit.Program(t, "knotd")
	p.write(t, "knot.conf", fmt.Sprintf(`
server:
  listen: 127.0.0.1@%d
  rundir: %[2]s
database:
  storage: %[2]s
log:
- target: stderr
  any: debug
key:
- id: %[3]s
  algorithm: hmac-sha256
  secret: %[4]s
%[5]s
`, p.addr.Port(), p.dir, keyName, secretText, sections))
	p.run(t, program, "-c", filepath.Join(p.dir, "knot.conf"))
}

// zoneText is a zone with a serial, some hosts, a delegation with glue and
// occluded names, and long TXT data.
func zoneText(serial uint32, hosts int, extra string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "$ORIGIN example.test.\n$TTL 300\n@ SOA ns1 admin %d 3600 2 86400 60\n@ NS ns1\n@ NS ns2.other.example.\nns1 A 192.0.2.53\n", serial)
	b.WriteString("sub NS ns.sub\nns.sub A 192.0.2.54\nhidden.sub TXT \"occluded\"\n@ MX 10 mail\nmail AAAA 2001:db8::25\n*.wild CNAME ns1\n_sip._udp SRV 1 2 5060 mail\n")
	fmt.Fprintf(&b, "long TXT %s\nold DNAME new.example.\nodd TYPE65280 \\# 3 abcdef\n", strings.Repeat(`"`+strings.Repeat("x", 250)+`" `, 12))
	for i := range hosts {
		fmt.Fprintf(&b, "h%d A 192.0.%d.%d\n", i, i/250%250, i%250+1)
	}
	return b.String() + extra
}

// axfr transfers a zone as any client does, and gives its records as text in
// canonical order.
func axfr(t testing.TB, addr netip.AddrPort, name, key string) []string {
	t.Helper()
	out, err := tryAXFR(addr, name, key)
	if err != nil {
		t.Fatalf("AXFR of %s at %s: %v", name, addr, err)
	}
	return out
}

// axfrOf waits until a peer gives example.test. with that serial: former processes
// of NSD answer for a while.
func axfrOf(t testing.TB, addr netip.AddrPort, serial uint32) (out []string) {
	t.Helper()
	eventually(t, fmt.Sprintf("a transfer of serial %d", serial), func() bool {
		out, _ = tryAXFR(addr, "example.test.", "")
		return slices.ContainsFunc(out, func(rr string) bool { return strings.Contains(rr, fmt.Sprintf(" admin.example.test. %d ", serial)) })
	})
	return out
}

// tryAXFR is for peers that may be busy or have nothing yet.
func tryAXFR(addr netip.AddrPort, name, key string) ([]string, error) {
	m := new(dns.Msg)
	m.SetAxfr(name)
	tr := patient()
	if key != "" {
		tr.TsigSecret = map[string]string{key + ".": secretText}
		m.SetTsig(key+".", dns.HmacSHA256, 300, time.Now().Unix())
	}
	ch, err := tr.In(m, addr.String())
	if err != nil {
		return nil, err
	}
	var out []string
	for e := range ch {
		if err == nil {
			err = e.Error
		}
		for _, rr := range e.RR {
			out = append(out, strings.ToLower(rr.String()))
		}
	}
	if err != nil || len(out) == 0 {
		return nil, fmt.Errorf("%d records: %w", len(out), err)
	}
	return sortedText(out[:len(out)-1]), nil
}

// patient is a client of transfers that waits as long as a machine with much
// to do may take.
func patient() *dns.Transfer {
	const long = 30 * time.Second
	return &dns.Transfer{DialTimeout: long, ReadTimeout: long, WriteTimeout: long}
}

func sortedText(list []string) []string {
	out := append([]string(nil), list...)
	for i := range out {
		out[i] = strings.Join(strings.Fields(out[i]), " ")
	}
	slices.Sort(out)
	return out
}

func (n *node) text(t testing.TB, name fleet.Name) []string {
	t.Helper()
	z := n.srv.Zone(name)
	if z == nil {
		return nil
	}
	var b bytes.Buffer
	if err := z.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	var out []string
	p := dns.NewZoneParser(&b, string(name), "")
	for rr, ok := p.Next(); ok; rr, ok = p.Next() {
		out = append(out, strings.ToLower(rr.String()))
	}
	return sortedText(out)
}

// counter reads a metric with these label values, in any order.
func counter(t testing.TB, n *node, name string, labels ...string) float64 {
	t.Helper()
	r := prometheus.NewRegistry()
	n.Register(r)
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			has := 0
			for _, l := range m.GetLabel() {
				if slices.Contains(labels, l.GetValue()) {
					has++
				}
			}
			if has == len(labels) {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return 0
}

// nsupdate sends an update, signed.
func nsupdate(t testing.TB, addr netip.AddrPort, commands string) string {
	t.Helper()
	cmd := exec.Command(testkit.Program(t, "nsupdate"), "-y", "hmac-sha256:"+keyName+":"+secretText)
	cmd.Stdin = strings.NewReader(fmt.Sprintf("server %s %d\nzone example.test.\n%ssend\n", addr.Addr(), addr.Port(), commands))
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out)
	}
	return ""
}

var discard = slog.New(slog.DiscardHandler)
