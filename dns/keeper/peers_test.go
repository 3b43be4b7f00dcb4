package keeper

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"meridian/dns/answer"
	"meridian/dns/server"
	"meridian/dns/stub"
	"meridian/dns/zone"
	"meridian/fleet"
	"meridian/internal/testkit"
)

// serve runs a nameserver with what the Keeper made, and gives its address.
func (b *bench) serve(t *testing.T) (*server.Server, netip.AddrPort) {
	t.Helper()
	s, err := server.New(server.Config{Listen: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")},
		Identity: answer.Identity{Node: "test"}, Logger: slog.New(slog.DiscardHandler), Sockets: 1})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if err := s.Open(ctx); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	b.apply(t, s)
	return s, s.Addrs()[0]
}

func (b *bench) apply(t *testing.T, s *server.Server) {
	t.Helper()
	w := *b.world
	w.Zones = b.old
	if err := s.Apply(&w); err != nil {
		t.Fatal(err)
	}
}

// down is a View with some regions down for every service.
func (b *bench) down(regions ...string) *fleet.View {
	v := &fleet.View{Verdicts: map[fleet.Target]fleet.Verdict{}}
	for _, r := range b.world.Snapshot.Spec.Regions {
		for _, svc := range b.world.Snapshot.Spec.Services {
			v.Verdicts[fleet.Target{Kind: fleet.TargetService, Region: r.ID, Service: svc.Service}] = fleet.Verdict{State: fleet.Up}
		}
	}
	for _, r := range regions {
		for _, svc := range b.world.Snapshot.Spec.Services {
			v.Verdicts[fleet.Target{Kind: fleet.TargetService, Region: r, Service: svc.Service}] = fleet.Verdict{State: fleet.Down}
		}
	}
	return v
}

// anchors writes the trust anchor of a zone: for delv, and as DNSKEY records.
func (b *bench) anchors(t *testing.T, name fleet.Name) (delv, keys string) {
	t.Helper()
	dir := t.TempDir()
	var a, u strings.Builder
	a.WriteString("trust-anchors {\n")
	for _, k := range b.k.zones[name].state.DSKeys() {
		fmt.Fprintf(&a, "  %q static-ds %d %d 2 %q;\n", name, k.Tag(), k.Algorithm, k.DSFor(name).Digest)
		fmt.Fprintf(&u, "%s IN DS %s\n", name, k.DSFor(name))
	}
	a.WriteString("};\n")
	delv, keys = filepath.Join(dir, "delv.keys"), filepath.Join(dir, "anchor")
	for file, text := range map[string]string{delv: a.String(), keys: u.String()} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return delv, keys
}

const steeredZone = `
services:
- {service: web, protocol: http, ports: [80], pools: [{id: main, endpoints: [{address: "10.0.0.1:80"}]}],
   steering: {policy: failover, regions: [fra, iad]}}
- {service: closed, protocol: http, ports: [81], pools: [{id: main, endpoints: [{address: "10.0.0.1:80"}]}],
   steering: {policy: failover, regions: [fra, iad], all_down: fail_closed}}
dns: {dnssec: [{policy: default, denial: DENIAL, algorithm: ALGORITHM, opt_out: OPTOUT}]}
zones:
- zone: example.test
  dnssec: default
  steered:
  - {name: www, service: web, https: {}}
  - {name: closed, service: closed}
  - {name: "*.any", service: web}
  records: |
    $TTL 300
    @ SOA ns1 hostmaster 7 3600 600 86400 300
    @ NS ns1
    ns1 A 127.0.0.1
    host A 192.0.2.80
    a.b.ent TXT "x"
    *.wild A 192.0.2.81
    alias CNAME www
    far CNAME x.wild
    old DNAME ent
    insecure NS ns.insecure
    ns.insecure A 127.0.0.2
`

// question is what is asked, and what the answer holds. An answer that begins
// with ! is the proof that there is none.
type question struct{ name, qtype, want string }

var (
	always = []question{
		{"example.test", "SOA", "hostmaster"}, {"example.test", "DNSKEY", "257 3"}, {"host.example.test", "A", "192.0.2.80"},
		{"x.wild.example.test", "A", "192.0.2.81"}, {"far.example.test", "A", "192.0.2.81"},
		{"nope.example.test", "A", "!NXDOMAIN"}, {"x.nope.example.test", "A", "!NXDOMAIN"}, {"host.example.test", "TXT", "!NODATA"},
		{"ent.example.test", "A", "!NODATA"}, {"b.ent.example.test", "A", "!NODATA"}, {"x.wild.example.test", "TXT", "!NODATA"},
		{"www.example.test", "TXT", "!NODATA"}, {"a.b.old.example.test", "TXT", `"x"`}, {"insecure.example.test", "DS", "!NODATA"},
	}
	allUp = []question{
		{"www.example.test", "A", "192.0.2.1"}, {"www.example.test", "AAAA", "2001:db8:1::1"}, {"alias.example.test", "A", "192.0.2.1"},
		{"www.example.test", "HTTPS", "ipv4hint=192.0.2.1"}, {"closed.example.test", "A", "192.0.2.1"}, {"x.any.example.test", "A", "192.0.2.1"},
	}
	fraDown = []question{
		{"www.example.test", "A", "192.0.2.2"}, {"www.example.test", "AAAA", "2001:db8:2::1"}, {"alias.example.test", "A", "192.0.2.2"},
		{"www.example.test", "HTTPS", "ipv4hint=192.0.2.2"}, {"closed.example.test", "A", "192.0.2.2"}, {"x.any.example.test", "A", "192.0.2.2"},
	}
	allDown = []question{
		{"www.example.test", "A", "192.0.2."}, {"closed.example.test", "A", "!NODATA"}, {"closed.example.test", "AAAA", "!NODATA"},
		{"closed.example.test", "TXT", "!NODATA"},
	}
)

// as is the question with what is wanted where absence is denied in that way.
func (q question) as(denial string) question {
	if denial == "compact" && q.want == "!NXDOMAIN" {
		q.want = "!NODATA"
	}
	return q
}

// shape fills the words of a DNSSEC policy into a Spec.
func shape(spec, denial, algorithm string) string {
	optOut := "false"
	if denial == "opt-out" {
		denial, optOut = "nsec3", "true"
	}
	return strings.NewReplacer("DENIAL", denial, "ALGORITHM", algorithm, "OPTOUT", optOut).Replace(spec)
}

// RFC 4035 §3.1: plain, wildcard, negative and steered answers validate before, during and after a failover.
// RFC 5155 §7.2: and so they do where NSEC3 denies, with opt-out too.
// RFC 9824 §3: and so they do where denial is compact, with a missing name as NODATA.
func TestRFC4035DelvValidatesThroughAFailover(t *testing.T) {
	testkit.Program(t, "delv")
	for _, denial := range []string{"nsec", "nsec3", "opt-out", "compact"} {
		t.Run(denial, func(t *testing.T) {
			t.Parallel()
			algorithm := "ecdsap256sha256"
			if denial == "nsec3" {
				algorithm = "ed25519"
			}
			b := newSettled(t, shape(steeredZone, denial, algorithm))
			s, addr := b.serve(t)
			anchor, _ := b.anchors(t, "example.test.")
			for _, phase := range []struct {
				down []string
				ask  []question
			}{{nil, allUp}, {[]string{"fra"}, fraDown}, {[]string{"fra", "iad"}, allDown}, {nil, allUp}} {
				s.SetView(b.down(phase.down...))
				for _, q := range append(always, phase.ask...) {
					delv(t, addr, anchor, q.as(denial), denial == "opt-out")
				}
			}
		})
	}
}

// newSettled is a bench whose zones have been signed for long enough.
func newSettled(t *testing.T, spec string) *bench {
	t.Helper()
	b := newBench(t, spec)
	b.now = time.Now().Add(-48 * time.Hour)
	b.ok()
	b.now = time.Now()
	return b.ok()
}

// delv asks and validates. A wildcard's answer in a zone with opt-out is
// insecure: a delegation without DS may be in its place (RFC 5155 section 6).
func delv(t *testing.T, addr netip.AddrPort, anchor string, q question, optOut bool) {
	t.Helper()
	out, err := exec.Command("delv", "@"+addr.Addr().String(), "-p", fmt.Sprint(addr.Port()), "-a", anchor, "+root=example.test", q.name, q.qtype).CombinedOutput()
	got := string(out)
	switch {
	case err != nil:
		t.Errorf("%s %s: %v\n%s", q.name, q.qtype, err, got)
	case strings.HasPrefix(q.want, "!"):
		kind := map[string]string{"!NXDOMAIN": "ncache nxdomain", "!NODATA": "ncache nxrrset"}[q.want]
		if !strings.Contains(got, "; negative response, fully validated") || !strings.Contains(got, kind) {
			t.Errorf("%s %s: want %s\n%s", q.name, q.qtype, q.want, got)
		}
	case optOut && strings.HasPrefix(q.name, "x."):
		if !strings.Contains(got, "; unsigned answer") || !strings.Contains(got, q.want) {
			t.Errorf("%s %s: want %s\n%s", q.name, q.qtype, q.want, got)
		}
	case !strings.Contains(got, "; fully validated") || !strings.Contains(got, q.want):
		t.Errorf("%s %s: want %s\n%s", q.name, q.qtype, q.want, got)
	}
}

// Unbound, which asks as resolvers do and is stricter on downgrades of the
// algorithm, finds the same.
func TestUnboundValidatesThroughAFailover(t *testing.T) {
	program := testkit.Program(t, "unbound")
	testkit.Program(t, "dig")
	for _, denial := range []string{"nsec", "nsec3", "compact"} {
		t.Run(denial, func(t *testing.T) {
			t.Parallel()
			b := newSettled(t, shape(steeredZone, denial, "ecdsap256sha256"))
			s, addr := b.serve(t)
			_, anchor := b.anchors(t, "example.test.")
			resolver := unbound(t, program, addr, fmt.Sprintf("trust-anchor-file: %q", anchor))
			for _, phase := range []struct {
				down []string
				ask  []question
			}{{nil, allUp}, {[]string{"fra"}, fraDown}, {[]string{"fra", "iad"}, allDown}, {nil, allUp}} {
				s.SetView(b.down(phase.down...))
				for _, q := range append(always, phase.ask...) {
					dig(t, resolver, q.as(denial))
				}
			}
		})
	}
}

// unbound runs a validating resolver without a cache on a free port.
func unbound(t *testing.T, program string, auth netip.AddrPort, anchor string) netip.AddrPort {
	t.Helper()
	port := int(testkit.FreePort(t, "127.0.0.1"))
	dir := t.TempDir()
	conf := filepath.Join(dir, "unbound.conf")
	text := fmt.Sprintf(`server:
  interface: 127.0.0.1
  port: %d
  username: ""
  chroot: ""
  directory: %q
  pidfile: ""
  do-daemonize: no
  use-syslog: no
  verbosity: 1
  val-log-level: 2
  access-control: 127.0.0.0/8 allow
  do-not-query-localhost: no
  harden-algo-downgrade: yes
  aggressive-nsec: no
  cache-max-ttl: 0
  cache-max-negative-ttl: 0
  local-zone: "test." nodefault
  %s
  module-config: "validator iterator"
stub-zone:
  name: "example.test"
  stub-addr: 127.0.0.1@%d
remote-control:
  control-enable: no
`, port, dir, anchor, auth.Port())
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "-d", "-c", conf)
	var log strings.Builder
	cmd.Stderr, cmd.Stdout = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Log(log.String())
		}
	})
	at := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(port))
	for range 3000 {
		c, err := net.Dial("tcp", at.String())
		if err == nil {
			_ = c.Close()
			return at
		}
		<-time.After(20 * time.Millisecond)
	}
	t.Fatalf("unbound does not start:\n%s", log.String())
	return at
}

func dig(t *testing.T, at netip.AddrPort, q question) {
	t.Helper()
	out, err := exec.Command("dig", "@"+at.Addr().String(), "-p", fmt.Sprint(at.Port()), "+dnssec", "+time=30", "+tries=1", q.name, q.qtype).CombinedOutput()
	got := string(out)
	status := "NOERROR"
	if q.want == "!NXDOMAIN" {
		status = "NXDOMAIN"
	}
	ok := err == nil && strings.Contains(got, "status: "+status) && strings.Contains(got, " ad;")
	if strings.HasPrefix(q.want, "!") {
		ok = ok && strings.Contains(got, "ANSWER: 0,")
	} else {
		ok = ok && strings.Contains(got, q.want)
	}
	if !ok {
		t.Errorf("%s %s: want %s with the AD flag: %v\n%s", q.name, q.qtype, q.want, err, got)
	}
}

// RFC 7344 §6: the parent, here a zone of the same server, takes the DS from the child's CDS, and the keeper sees it there through the resolver.
func TestParentIsAskedByStub(t *testing.T) {
	b := newBench(t, `
dns: {dnssec: [{policy: default, ttl: 1h, propagation: 1h}]}
zones:
- {zone: example.test, dynamic: true, dnssec: default}
- {zone: test, dynamic: true}
`)
	b.content("example.test.", "$ORIGIN example.test.\n"+plain)
	parent := "$ORIGIN test.\n@ 60 SOA ns1 h 1 2 3 4 5\n@ 60 NS ns1\nns1 A 127.0.0.1\nexample NS ns1.example\nns1.example A 127.0.0.1\n"
	b.content("test.", parent)
	b.now = time.Now().Add(-48 * time.Hour)
	b.ok()
	b.now = time.Now().Add(-24 * time.Hour)
	b.ok()
	s, addr := b.serve(t)
	asker := stub.New(stub.Config{Resolvers: []netip.AddrPort{addr}, Port: addr.Port()})
	got, err := asker.ParentDS(t.Context(), "example.test.")
	if err != nil || len(got.Any) > 0 {
		t.Fatalf("%+v %v", got, err)
	}
	cds, _ := zone.Next(b.zone("example.test.").Apex().Get(zone.TypeCDS).Data)
	b.content("test.", parent+fmt.Sprintf("example 77 DS %d %d %d %x\n", int(cds[0])<<8|int(cds[1]), cds[2], cds[3], cds[4:]))
	b.ok()
	b.apply(t, s)
	if got, err = asker.ParentDS(t.Context(), "example.test."); err != nil || len(got.All) != 1 || got.TTL != 77 {
		t.Fatalf("%+v %v", got, err)
	}
	k := b.k.zones["example.test."].state.DSKeys()[0]
	if !k.Matches("example.test.", got.All[0]) {
		t.Errorf("%v is not of %s", got.All[0], k)
	}
	if list, err := asker.DS(t.Context(), "example.test."); err != nil || len(list) != 1 || list[0] != got.All[0] {
		t.Errorf("as resolvers tell: %v %v", list, err)
	}
	if list, err := asker.DS(t.Context(), "www.example.test."); err != nil || len(list) != 0 {
		t.Errorf("of a name without: %v %v", list, err)
	}
	if _, err := asker.DS(t.Context(), "a.nowhere."); err == nil {
		t.Error("the DS of a zone that nobody knows is known")
	}
	if _, err := asker.ParentDS(t.Context(), "a.nowhere."); err == nil {
		t.Error("a parent that nobody serves was found")
	}
	addrs, ttl, err := asker.Addresses(t.Context(), "www.example.test.", false)
	if err != nil || len(addrs) != 1 || addrs[0].String() != "192.0.2.80" || ttl <= 0 {
		t.Errorf("%v %s %v", addrs, ttl, err)
	}
	if _, _, err := asker.Addresses(t.Context(), "nope.example.test.", false); err == nil {
		t.Error("a name that does not exist has addresses")
	}
}
