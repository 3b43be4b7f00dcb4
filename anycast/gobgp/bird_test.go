//go:build linux

package gobgp

import (
	"bufio"
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
	"testing"
	"time"

	"meridian/fleet"
	"meridian/internal/testkit"
	"meridian/internal/testkit/netns"
)

// TestMain lets the test binary be the edge node's process, since gobgp opens
// its sockets in the namespace that its process is in. It takes one command a
// line: a Spec to apply, or a set to announce.
func TestMain(m *testing.M) {
	if os.Getenv("MERIDIAN_TEST_SPEAKER") == "" {
		os.Exit(m.Run())
	}
	if err := speak(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

type command struct {
	HandOver bool
	Spec     string
	Ads      []fleet.Advertisement
}

func speak() error {
	s, err := New(Config{
		Node: "edge-1", Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
		Restarting: os.Getenv("MERIDIAN_TEST_SPEAKER") == "again", HandedOver: func(ctx context.Context) bool { return context.Cause(ctx) == errHandedOver },
		Secret: func(fleet.Secret) (string, error) { return "sesame", nil },
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var c command
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			return err
		}
		if c.HandOver {
			cancel(errHandedOver)
			return <-ended
		}
		if c.Spec != "" {
			snap, err := fleet.Compile([]byte(c.Spec), 1)
			if err == nil {
				err = s.Apply(&fleet.World{Snapshot: snap})
			}
			if err != nil {
				return err
			}
			continue
		}
		if err := s.Announce(c.Ads); err != nil {
			return err
		}
	}
	cancel(nil)
	return <-ended
}

var errHandedOver = errors.New("handed over")

const birdConf = `
log stderr all;
router id 10.9.0.1;
protocol device { }
protocol static { ipv4; route 192.0.2.0/24 unreachable; }
protocol bgp edge {
	local 10.9.0.1 as 64601;
	neighbor 10.9.0.2 as %d;
	passive on;
	password "%s";
	hold time 9;
	connect delay time 1;
	error wait time 1, 1;
	ipv4 { import all; export all; };
	ipv6 { import all; export all; };
}
`

// rig is a bird in one namespace and the speaker in another.
type rig struct {
	t      *testing.T
	birdc  string
	socket string
	where  *netns.NS // the edge
	in     io.WriteCloser
	edge   *exec.Cmd
}

func newRig(t *testing.T, asn int, password string) *rig {
	testkit.Root(t)
	bird, birdc := testkit.Program(t, "bird"), testkit.Program(t, "birdc")
	router, edge := newNS(t, "router"), newNS(t, "edge")
	err := netns.Veth(
		netns.End{NS: router, Dev: "eth0", Addrs: []netip.Prefix{netip.MustParsePrefix("10.9.0.1/24"), netip.MustParsePrefix("fd09::1/64")}},
		netns.End{NS: edge, Dev: "eth0", Addrs: []netip.Prefix{netip.MustParsePrefix("10.9.0.2/24"), netip.MustParsePrefix("fd09::2/64")}}, 1500)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	conf := filepath.Join(dir, "bird.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, birdConf, asn, password), 0o600); err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, birdc: birdc, socket: filepath.Join(dir, "bird.ctl"), where: edge}
	start(t, router, exec.Command(bird, "-f", "-c", conf, "-s", r.socket), nil)
	r.speaker("1")
	r.tell(command{Spec: fmt.Sprintf(specDoc, asn)})
	return r
}

// speaker starts the edge's process.
func (r *rig) speaker(kind string) {
	t := r.t
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	pr, pw, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.in, r.edge = pw, exec.Command(self)
	r.edge.Env = append(os.Environ(), "MERIDIAN_TEST_SPEAKER="+kind)
	start(t, r.where, r.edge, pr)
	pr.Close()
	t.Cleanup(func() { pw.Close() })
}

func newNS(t *testing.T, name string) *netns.NS {
	n, err := netns.New(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	return n
}

func start(t *testing.T, n *netns.NS, cmd *exec.Cmd, in *os.File) {
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, log, log
	if err := n.Start(cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if text, err := os.ReadFile(log.Name()); err == nil && t.Failed() {
			t.Logf("%s:\n%s", filepath.Base(cmd.Path), text)
		}
	})
}

func (r *rig) tell(c command) {
	r.t.Helper()
	if err := json.NewEncoder(r.in).Encode(c); err != nil {
		r.t.Fatal(err)
	}
}

// route asks bird for all it knows of the best route to a prefix.
func (r *rig) route(prefix string) string {
	out, _ := exec.Command(r.birdc, "-s", r.socket, "show", "route", "all", "for", prefix).CombinedOutput()
	return string(out)
}

// shows waits until bird's word on the prefix holds every part.
func (r *rig) shows(prefix string, parts ...string) {
	r.t.Helper()
	r.until(prefix, func(s string) bool {
		for _, p := range parts {
			if !strings.Contains(s, p) {
				return false
			}
		}
		return true
	})
}

func (r *rig) gone(prefix string) {
	r.t.Helper()
	r.until(prefix, func(s string) bool { return strings.Contains(s, "not found") || strings.Contains(s, "not in table") })
}

func (r *rig) until(prefix string, ok func(string) bool) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		s := r.route(prefix)
		if ok(s) {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			r.t.Fatalf("bird says of %s:\n%s", prefix, s)
		}
	}
}

// A second implementation sees routes of both families over one session with
// an MD5 password, sees them degrade without a gap, and sees them go.
func TestBirdSeesRoutesComeDegradeAndGo(t *testing.T) {
	r := newRig(t, 64501, "sesame")
	r.tell(command{Ads: []fleet.Advertisement{ad(any4, nil), ad(any6, nil)}})
	r.shows(any4, "BGP.as_path: 64501\n", "BGP.next_hop: 10.9.0.2", "BGP.med: 100", "BGP.origin: IGP")
	r.shows(any6, "BGP.as_path: 64501\n", "BGP.next_hop: fd09::2", "BGP.med: 100")

	// RFC 8326: GRACEFUL_SHUTDOWN; bird writes it as two numbers.
	worse := func(a *fleet.Advertisement) {
		a.MED, a.Prepend, a.Communities = 1000, 3, []uint32{64501<<16 | 7, gracefulShutdown}
	}
	r.tell(command{Ads: []fleet.Advertisement{ad(any4, worse), ad(any6, worse)}})
	for _, p := range []string{any4, any6} {
		r.shows(p, "BGP.as_path: 64501 64501 64501 64501\n", "BGP.med: 1000", "(64501,7)", "(65535,0)")
	}

	r.tell(command{Ads: []fleet.Advertisement{ad(any6, nil)}})
	r.gone(any4)
	r.shows(any6, "BGP.med: 100")

	// The end of the process withdraws the rest.
	r.in.Close()
	r.edge.Wait()
	r.gone(any6)
}

// Inside one AS the path is not made longer, which would look like a loop,
// and the preference is lowered instead.
func TestBirdSeesDegradedRoutesInsideItsAS(t *testing.T) {
	r := newRig(t, 64601, "sesame")
	r.tell(command{Ads: []fleet.Advertisement{ad(any4, func(a *fleet.Advertisement) {
		a.MED, a.Prepend, a.Communities = 1000, 3, []uint32{gracefulShutdown}
	})}})
	r.shows(any4, "BGP.next_hop: 10.9.0.2", "BGP.local_pref: 0", "(65535,0)", "BGP.as_path: \n")
}

// TCP MD5 (RFC 2385): no session with another password.
func TestBirdWithAnotherPasswordSeesNothing(t *testing.T) {
	r := newRig(t, 64501, "not sesame")
	r.tell(command{Ads: []fleet.Advertisement{ad(any4, nil)}})
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
	defer cancel()
	<-ctx.Done() // two tries to connect
	if s := r.route(any4); strings.Contains(s, "64501") {
		t.Errorf("bird has a route although the password differs:\n%s", s)
	}
}

// A process that takes over announces the same again before the neighbor has let
// go of anything; a session that ends for good takes all back, as ever.
func TestBirdKeepsRoutesWhileProcessesChange(t *testing.T) {
	r := newRig(t, 64501, "sesame")
	spec := strings.Replace(fmt.Sprintf(specDoc, 64501), "hold_time: 3s", "hold_time: 3s\n      graceful_restart: 30s", 1)
	ads := command{Ads: []fleet.Advertisement{ad(any4, nil), ad(any6, nil)}}
	r.tell(command{Spec: spec})
	r.tell(ads)
	r.shows(any4, "BGP.next_hop: 10.9.0.2")
	r.shows(any6, "BGP.next_hop: fd09::2")
	for range 2 {
		r.tell(command{HandOver: true})
		r.edge.Wait()
		r.speaker("again")
		r.tell(command{Spec: spec})
		stale := time.Now().Add(1500 * time.Millisecond) // the time that a node is held back for
		for time.Now().Before(stale) {
			if s := r.route(any4) + r.route(any6); strings.Contains(s, "not ") {
				t.Fatalf("bird has taken a route back:\n%s", s)
			}
		}
		r.tell(ads)
		r.until(any4, func(s string) bool {
			if s += r.route(any6); strings.Contains(s, "not ") {
				t.Fatalf("bird has taken a route back:\n%s", s)
			}
			out, _ := exec.Command(r.birdc, "-s", r.socket, "show", "protocols", "all", "edge").CombinedOutput()
			return strings.Contains(string(out), "Established") && !strings.Contains(string(out), "Graceful restart active")
		})
		r.shows(any4, "BGP.next_hop: 10.9.0.2")
		r.shows(any6, "BGP.next_hop: fd09::2")
	}
	out, err := exec.Command(r.birdc, "-s", r.socket, "show", "protocols", "all", "edge").CombinedOutput()
	if err != nil || strings.Count(string(out), "Import withdraws:            0") != 2 {
		t.Errorf("%v\n%s", err, out)
	}
	r.in.Close()
	r.edge.Wait()
	r.gone(any4)
	r.gone(any6)
}
