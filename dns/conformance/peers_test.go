package conformance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"meridian/dns/answer"
	"meridian/dns/server"
	"meridian/dns/transfer"
	dnszone "meridian/dns/zone"
	"meridian/fleet"
	"meridian/internal/testkit"
)

// payload is the largest UDP response that every server here is told to send,
// in octets, so that they truncate alike.
const payload = 1232

// peer is one running nameserver.
type peer struct {
	name string
	addr string // host:port on loopback, UDP and TCP
}

// zoneFile is a zone as every server reads it.
type zoneFile struct {
	name string // absolute
	path string
}

// meridian serves the zone files of a folder by the room dns/server.
func meridian(t testing.TB, dir string) peer {
	t.Helper()
	s := newServer(t)
	if _, err := s.LoadDir(t.Context(), dir); err != nil {
		t.Fatalf("Meridian refuses a zone of the corpus: %v", err)
	}
	return run(t, s)
}

// fleetMember serves a zone by a Spec, with transfers, NOTIFY and updates, as
// cmd wires them; nobody is allowed any of these.
func fleetMember(t testing.TB, zone, text string) peer {
	t.Helper()
	records, err := json.Marshal(text)
	if err != nil {
		t.Fatal(err)
	}
	snapshot, err := fleet.Compile(fmt.Appendf(nil, `
regions: [{id: fra, vips: {v4: [192.0.2.1]}, location: {latitude: 0, longitude: 0}}]
services: [{service: web, protocol: http, ports: [80], pools: [{id: a, endpoints: [{address: "10.0.0.1:80"}]}]}]
zones: [{zone: %s, records: %s}]
`, zone, records), 1, dnszone.Check)
	if err != nil {
		t.Fatal(err)
	}
	s := newServer(t)
	transfers, err := transfer.New(transfer.Config{Zones: served{s}, Updater: nobody{}, Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	s.SetSpecial(special{transfers})
	w := &fleet.World{Snapshot: snapshot}
	for _, apply := range []func(*fleet.World) error{s.Apply, transfers.Apply} {
		if err := apply(w); err != nil {
			t.Fatal(err)
		}
	}
	return run(t, s)
}

// served shows transfers the zones of a nameserver; none here is steered.
type served struct{ *server.Server }

func (s served) Static(name fleet.Name) *dnszone.Zone { return s.Zone(name) }

// special hands the nameserver's messages to transfers.
type special struct{ t *transfer.Transfer }

func (s special) Handle(ctx context.Context, r *server.Request) {
	s.t.Handle(ctx, &transfer.Request{Message: r.Message, Client: r.Client, Stream: r.Transport.Stream(), Encrypted: r.Transport.Encrypted(), Answer: r.Answer, Reply: r.Reply})
}

// nobody may update anything.
type nobody struct{}

func (nobody) Update(context.Context, fleet.Name, fleet.Name, []byte) (int, error) {
	return 0, errors.New("an update came through")
}

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

func newServer(t testing.TB) *server.Server {
	t.Helper()
	s, err := server.New(server.Config{
		Listen:   []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")},
		Identity: answer.Identity{Node: "here", Version: "meridian"},
		Logger:   quiet(),
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// run runs a server until the test ends.
func run(t testing.TB, s *server.Server) peer {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	if err := s.Open(ctx); err != nil {
		t.Fatal(err)
	}
	var done sync.WaitGroup
	done.Go(func() {
		if err := s.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); done.Wait() })
	return peer{"meridian", s.Addrs()[0].String()}
}

// start runs a peer until the test ends, and waits until it answers for all
// its zones, or at all where it has none. args are made from the port, which the peer may find
// taken: then another is tried.
func start(t testing.TB, name string, zones []zoneFile, args func(port int) []string) peer {
	t.Helper()
	for range 5 {
		port := int(testkit.FreePort(t, "127.0.0.1"))
		argv := args(port)
		var log testkit.Buffer
		cmd := exec.Command(argv[0], argv[1:]...)
		cmd.Stdout, cmd.Stderr = &log, &log
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		gone := make(chan struct{})
		go func() { _ = cmd.Wait(); close(gone) }()
		stop := func() { stopProcess(cmd.Process, gone) }
		p := peer{name, fmt.Sprintf("127.0.0.1:%d", port)}
		if ready(p, zones, gone) {
			t.Cleanup(stop)
			return p
		}
		stop()
		t.Logf("%s does not come up:\n%s", name, log.String())
	}
	t.Fatalf("%s does not come up", name)
	return peer{}
}

// stopProcess asks a process that this test started to end, and makes it.
func stopProcess(p *os.Process, gone <-chan struct{}) {
	_ = p.Signal(syscall.SIGTERM)
	select {
	case <-gone:
	case <-time.After(5 * time.Second):
	}
	_ = syscall.Kill(-p.Pid, syscall.SIGKILL) // its own group: what it forked goes too
	<-gone
}

// ready waits until a peer answers with authority for each zone, or at all.
func ready(p peer, zones []zoneFile, gone <-chan struct{}) bool {
	deadline := time.Now().Add(20 * time.Second)
	c := dns.Client{Timeout: 200 * time.Millisecond}
	if len(zones) == 0 {
		zones = []zoneFile{{name: "."}}
	}
	for _, z := range zones {
		m := new(dns.Msg).SetQuestion(z.name, dns.TypeSOA)
		m.RecursionDesired = z.path != ""
		for {
			r, _, err := c.Exchange(m, p.addr)
			if err == nil && (z.path == "" || r.Rcode == dns.RcodeSuccess && r.Authoritative) {
				break
			}
			select {
			case <-gone:
				return false
			case <-time.After(20 * time.Millisecond):
			}
			if time.Now().After(deadline) {
				return false
			}
		}
	}
	return true
}

// writeFile makes a file in dir and gives its path.
func writeFile(t testing.TB, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func bind(t testing.TB, zones []zoneFile) peer {
	named := testkit.Program(t, "named")
	return start(t, "bind", zones, func(port int) []string {
		dir := t.TempDir()
		var b strings.Builder
		fmt.Fprintf(&b, `options {
  directory "%[1]s"; pid-file "%[1]s/named.pid"; session-keyfile "%[1]s/session.key"; lock-file none;
  managed-keys-directory "%[1]s";
  listen-on port %[2]d { 127.0.0.1; }; listen-on-v6 { none; };
  recursion no; dnssec-validation no; notify no; empty-zones-enable no; zone-statistics no;
  minimal-responses no-auth; minimal-any yes; answer-cookie no; send-cookie no;
  edns-udp-size %[3]d; max-udp-size %[3]d; check-names primary ignore; check-integrity no;
  check-dup-records ignore; check-mx ignore; check-srv-cname ignore; check-mx-cname ignore;
  max-records-per-type 0; server-id "here"; version "bind";
};
controls {};
logging { category default { null; }; category general { stderr; }; channel stderr { stderr; severity error; }; };
`, dir, port, payload)
		for _, z := range zones {
			fmt.Fprintf(&b, "zone \"%s\" { type primary; file \"%s\"; };\n", z.name, z.path)
		}
		return []string{named, "-f", "-n", "1", "-U", "1", "-c", writeFile(t, dir, "named.conf", b.String())}
	})
}

func nsd(t testing.TB, zones []zoneFile) peer {
	program := testkit.Program(t, "nsd")
	return start(t, "nsd", zones, func(port int) []string {
		dir := t.TempDir()
		var b strings.Builder
		fmt.Fprintf(&b, `server:
  ip-address: 127.0.0.1@%[2]d
  username: ""
  chroot: ""
  zonesdir: "%[1]s"
  database: ""
  pidfile: "%[1]s/nsd.pid"
  xfrdfile: "%[1]s/xfrd.state"
  zonelistfile: "%[1]s/zone.list"
  xfrdir: "%[1]s"
  server-count: 1
  do-ip6: no
  reuseport: no
  ipv4-edns-size: %[3]d
  rrl-ratelimit: 0
  answer-cookie: no
  minimal-responses: no
  identity: "here"
  version: "nsd"
remote-control:
  control-enable: no
`, dir, port, payload)
		for _, z := range zones {
			fmt.Fprintf(&b, "zone:\n  name: \"%s\"\n  zonefile: \"%s\"\n", z.name, z.path)
		}
		return []string{program, "-d", "-c", writeFile(t, dir, "nsd.conf", b.String())}
	})
}

func knot(t testing.TB, zones []zoneFile) peer {
	program := testkit.Program(t, "knotd")
	return start(t, "knot", zones, func(port int) []string {
		dir := t.TempDir()
		var b strings.Builder
		fmt.Fprintf(&b, `server:
  rundir: "%[1]s"
  listen: 127.0.0.1@%[2]d
  udp-max-payload: %[3]d
  udp-workers: 1
  tcp-workers: 1
  background-workers: 1
  identity: "here"
  version: "knot"
control:
  listen: "%[1]s/knot.sock"
log:
- target: stderr
  any: error
database:
  storage: "%[1]s"
template:
- id: default
  storage: "%[1]s"
  journal-content: none
  zonefile-sync: -1
  semantic-checks: off
zone:
`, dir, port, payload)
		for _, z := range zones {
			fmt.Fprintf(&b, "- domain: \"%s\"\n  file: \"%s\"\n", z.name, z.path)
		}
		return []string{program, "-c", writeFile(t, dir, "knot.conf", b.String())}
	})
}

// powerdns is asked for information alone.
func powerdns(t testing.TB, zones []zoneFile) peer {
	program := testkit.Program(t, "pdns_server")
	return start(t, "powerdns", zones, func(port int) []string {
		dir := t.TempDir()
		var b strings.Builder
		for _, z := range zones {
			fmt.Fprintf(&b, "zone \"%s\" { type master; file \"%s\"; };\n", z.name, z.path)
		}
		writeFile(t, dir, "named.conf", b.String())
		writeFile(t, dir, "pdns.conf", fmt.Sprintf(`launch=bind
bind-config=%[1]s/named.conf
local-address=127.0.0.1
local-port=%[2]d
socket-dir=%[1]s
daemon=no
guardian=no
udp-truncation-threshold=%[3]d
expand-alias=no
dname-processing=yes
version-string=powerdns
server-id=here
cache-ttl=0
query-cache-ttl=0
consistent-backends=no
disable-syslog=yes
write-pid=no
loglevel=2
`, dir, port, payload))
		return []string{program, "--config-dir=" + dir}
	})
}
