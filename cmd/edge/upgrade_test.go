package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"meridian/handover"
	"meridian/internal/testkit"
)

// nextFails is set where this test program stands in for a new edge that fails
// on its way, after the word that it holds.
const nextFails = "MERIDIAN_TEST_NEXT_FAILS"

func TestMain(m *testing.M) {
	if after := os.Getenv(nextFails); after != "" && len(os.Args) > 1 && os.Args[1] == "run" {
		s, err := handover.Inherit()
		if err == nil && after == "take" {
			_, err = s.Former().Applied()
		}
		fmt.Fprintln(os.Stderr, "this is no edge", err)
		os.Exit(3)
	}
	os.Exit(m.Run())
}

// upgrading is a node whose program is upgraded under load.
type upgrading struct {
	t           *testing.T
	dir, spec   string
	program     string // where edge runs from
	good        string // the real one
	plain, safe uint16 // ports
	ca          *testkit.Authority
	endpoint    string
	pid         int
	done        atomic.Int64 // requests and echoes that went well

	vip, own, device, pins, roles string
	dial                          func(ctx context.Context, network, address string) (net.Conn, error)
	start                         func(*exec.Cmd) error
}

const upgradingVIP = "127.77.7.1"

func newUpgrading(t *testing.T) *upgrading {
	t.Helper()
	u := &upgrading{t: t, dir: shortDir(t), ca: testkit.NewAuthority(t), plain: testkit.FreePort(t, upgradingVIP), safe: testkit.FreePort(t, upgradingVIP),
		vip: upgradingVIP, own: "127.0.0.1", device: noDevice, roles: "l7", dial: new(net.Dialer).DialContext, start: (*exec.Cmd).Start}
	u.spec, u.program, u.good = filepath.Join(u.dir, "spec.yaml"), filepath.Join(u.dir, "edge"), filepath.Join(u.dir, "good")
	if out, err := exec.Command(testkit.Program(t, "go"), "build", "-o", u.good, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	u.install(u.good)
	pair := u.ca.Issue(t, "demo.test")
	cut := strings.Index(string(pair), "-----END CERTIFICATE-----\n") + len("-----END CERTIFICATE-----\n")
	u.write("c.pem", pair[:cut])
	u.write("k.pem", pair[cut:])
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	u.serve(l)
	u.configure("")
	return u
}

// serve has the endpoint at l.
func (u *upgrading) serve(l net.Listener) {
	endpoint := httptest.NewUnstartedServer(http.HandlerFunc(answerOrEcho))
	endpoint.Listener.Close()
	endpoint.Listener = l
	endpoint.Start()
	u.t.Cleanup(endpoint.Close)
	u.endpoint = l.Addr().String()
}

// answerOrEcho is the endpoint: whole bodies, and echoes where it is to upgrade.
func answerOrEcho(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Upgrade") == "" {
		n, _ := io.Copy(io.Discard, r.Body)
		fmt.Fprintf(w, "whole %d %s", n, strings.Repeat("x", 3000))
		return
	}
	c, rw, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	defer c.Close()
	fmt.Fprint(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\n")
	_, _ = io.Copy(c, rw)
}

func (u *upgrading) write(name string, b []byte) {
	u.t.Helper()
	if err := os.WriteFile(filepath.Join(u.dir, name), b, 0o600); err != nil {
		u.t.Fatal(err)
	}
}

// configure writes the Spec, with more services.
func (u *upgrading) configure(more string) {
	u.t.Helper()
	pools := fmt.Sprintf(`pools: [{id: main, endpoints: [{address: "%s"}]}]`, u.endpoint)
	u.write("spec.yaml.new", []byte(fmt.Sprintf(`
regions: [{id: fra, location: {latitude: 50, longitude: 8}, vips: {v4: [%s]}}]
nodes: [{name: n, region: fra, roles: [%s], addresses: {v4: %s}}]
certificates: [{id: c1, cert: "file:c.pem", key: "file:k.pem"}]
services:
  - {service: plain, protocol: http, ports: [%d], hosts: [demo.test], timeouts: {drain: 60s}, %s}
  - {service: safe, protocol: https, http3: true, ports: [%d], hosts: [demo.test], timeouts: {drain: 60s}, %s}
%s`, u.vip, u.roles, u.own, u.plain, pools, u.safe, pools, strings.ReplaceAll(more, "POOLS", pools))))
	if err := os.Rename(u.spec+".new", u.spec); err != nil {
		u.t.Fatal(err)
	}
}

// install puts a program in the place of the one that runs.
func (u *upgrading) install(from string) {
	u.t.Helper()
	b, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(u.program+".new", b, 0o700)
	}
	if err == nil {
		err = os.Rename(u.program+".new", u.program)
	}
	if err != nil {
		u.t.Fatal(err)
	}
}

// run starts the node's first process.
func (u *upgrading) run(env ...string) {
	u.t.Helper()
	log, err := os.Create(filepath.Join(u.dir, "log"))
	if err != nil {
		u.t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(u.program, "run", "--node", "n", "--data", u.dir, "--spec", u.spec, "--device", u.device, "--gossip", "off", "--pins", u.pins, "--health", "127.0.0.1:0")
	cmd.Stdout, cmd.Stderr, cmd.Env = log, log, append(os.Environ(), env...)
	if err := u.start(cmd); err != nil {
		u.t.Fatal(err)
	}
	u.pid = cmd.Process.Pid
	go func() { _ = cmd.Wait() }()
	u.t.Cleanup(func() {
		_ = syscall.Kill(u.pid, syscall.SIGKILL)
		u.gone(u.pid)
		if b, err := os.ReadFile(log.Name()); err == nil && u.t.Failed() {
			u.t.Logf("%s", b)
		}
	})
	u.until("it serves", func() bool { return u.get(u.client(false), "http", u.plain) == nil })
}

// upgrade asks for it as an operator does.
func (u *upgrading) upgrade() error {
	u.t.Helper()
	c := client{data: u.dir}
	var got upgraded
	if err := c.ask(u.t.Context(), http.MethodPost, "/upgrade", nil, &got); err != nil {
		return err
	}
	u.pid = got.Process
	return nil
}

func (u *upgrading) until(what string, ok func() bool) {
	u.t.Helper()
	limit := time.After(30 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-limit:
			u.t.Fatalf("not so: %s", what)
		}
	}
}

// gone waits for a process's end, reaped or not.
func (u *upgrading) gone(pid int) {
	u.t.Helper()
	u.until("the process ends", func() bool {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		return err != nil || strings.Contains(string(b), ") Z ")
	})
}

func (u *upgrading) at(port uint16) string {
	return net.JoinHostPort(u.vip, strconv.Itoa(int(port)))
}

// client speaks HTTP/1.1 or HTTP/2 to the node.
func (u *upgrading) client(h2 bool) *http.Client {
	t := &http.Transport{TLSClientConfig: u.tls(), ForceAttemptHTTP2: h2, DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
		_, port, _ := net.SplitHostPort(addr)
		return u.dial(ctx, "tcp", net.JoinHostPort(u.vip, port))
	}}
	u.t.Cleanup(t.CloseIdleConnections)
	return &http.Client{Transport: t, Timeout: 30 * time.Second}
}

func (u *upgrading) tls() *tls.Config {
	return &tls.Config{RootCAs: u.ca.Pool, ServerName: "demo.test"}
}

func (u *upgrading) get(c *http.Client, scheme string, port uint16) error {
	res, err := c.Get(fmt.Sprintf("%s://demo.test:%d/", scheme, port))
	if err != nil {
		return err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	if res.StatusCode != 200 || len(b) != 3008 {
		return fmt.Errorf("%s, %d octets", res.Status, len(b))
	}
	u.done.Add(1)
	return nil
}

// tunnel opens one, echoes until enough says so, and closes it.
func (u *upgrading) tunnel(enough func(turns int) bool) error {
	plain, err := u.dial(u.t.Context(), "tcp", u.at(u.safe))
	if err != nil {
		return err
	}
	defer plain.Close()
	c := tls.Client(plain, u.tls())
	fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: demo.test\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\n")
	in := bufio.NewReader(c)
	res, err := http.ReadResponse(in, nil)
	if err != nil || res.StatusCode != 101 {
		return fmt.Errorf("%v, %v", res, err)
	}
	pace := time.NewTicker(time.Millisecond)
	defer pace.Stop()
	for n := 0; !enough(n); n++ {
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		fmt.Fprintf(c, "line %d\n", n)
		if line, err := in.ReadString('\n'); err != nil || line != fmt.Sprintf("line %d\n", n) {
			return fmt.Errorf("turn %d: %q, %v", n, line, err)
		}
		u.done.Add(1)
		<-pace.C
	}
	return nil
}

// load runs every kind of client until the function that it gives is called,
// which fails the test where any of their requests has.
func (u *upgrading) load() (stop func()) {
	ctx, cancel := context.WithCancel(u.t.Context())
	var all sync.WaitGroup
	again := func(kind string, do func() error) {
		all.Go(func() {
			for ctx.Err() == nil {
				if err := do(); err != nil {
					u.t.Errorf("%s: %v", kind, err)
					return
				}
			}
		})
	}
	for range 2 {
		plain, safe, h2, once := u.client(false), u.client(false), u.client(true), u.client(false)
		once.Transport.(*http.Transport).DisableKeepAlives = true
		again("http/1.1", func() error { return u.get(plain, "http", u.plain) })
		again("http/1.1 over TLS", func() error { return u.get(safe, "https", u.safe) })
		again("http/2", func() error { return u.get(h2, "https", u.safe) })
		again("a connection a request", func() error { return u.get(once, "http", u.plain) })
		again("tunnels", func() error { return u.tunnel(func(n int) bool { return n > 300 }) })
	}
	again("a long tunnel", func() error { return u.tunnel(func(int) bool { return ctx.Err() != nil }) })
	if u.device == noDevice { // its client dials in this network namespace
		u.loadQUIC(ctx, again)
	}
	return func() {
		cancel()
		all.Wait()
	}
}

// more waits until the load has got some way.
func (u *upgrading) more() {
	u.t.Helper()
	was := u.done.Load()
	u.until("the load goes on", func() bool { return u.done.Load() > was+500 || u.t.Failed() })
}

func TestUpgradesUnderLoadFailNoRequest(t *testing.T) {
	u := newUpgrading(t)
	u.run()
	stop := u.load()
	var before []int
	for range 5 {
		u.more()
		before = append(before, u.pid)
		if err := u.upgrade(); err != nil {
			t.Fatal(err)
		}
	}
	u.more()
	stop()
	for _, pid := range before {
		u.gone(pid)
	}
	if err := u.get(u.client(false), "http", u.plain); err != nil {
		t.Error(err)
	}
	last := u.pid
	if err := syscall.Kill(last, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	u.gone(last)
}

// What the new program cannot do harms nobody.
func TestUpgradeToABrokenProgram(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct{ text, after, want string }{
		"no program":      {text: "not one", want: "start "},
		"ends at once":    {text: "#!/bin/sh\nexit 7\n", want: "the new process ended: exit status 7"},
		"ends early":      {after: "start", want: "the new process ended: exit status 3"},
		"ends when it is": {after: "take", want: "the new process ended: exit status 3"},
	} {
		t.Run(name, func(t *testing.T) {
			u := newUpgrading(t)
			u.run(nextFails + "=" + tc.after)
			pid, stop := u.pid, u.load()
			if tc.text != "" {
				u.write("broken", []byte(tc.text))
				u.install(filepath.Join(u.dir, "broken"))
			} else {
				u.install(self)
			}
			u.more()
			if err := u.upgrade(); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%v, expected %q", err, tc.want)
			}
			u.more()
			stop()
			u.install(u.good)
			if err := u.upgrade(); err != nil || u.pid == pid {
				t.Errorf("then to a sound one: %v", err)
			}
			u.gone(pid)
			if err := u.get(u.client(false), "http", u.plain); err != nil {
				t.Error(err)
			}
		})
	}
}

// The new process takes the sockets that its configuration has, and no others.
func TestUpgradeWithAnotherConfiguration(t *testing.T) {
	u := newUpgrading(t)
	extra := testkit.FreePort(t, upgradingVIP)
	u.configure(fmt.Sprintf("  - {service: extra, protocol: http, ports: [%d], hosts: [demo.test], POOLS}\n", extra))
	u.run()
	u.until("the extra port is served", func() bool { return u.get(u.client(false), "http", extra) == nil })
	former, stop := u.pid, u.load()
	u.more()
	u.configure("")
	if err := u.upgrade(); err != nil {
		t.Fatal(err)
	}
	u.more()
	u.until("the extra port is closed", func() bool {
		c, err := net.Dial("tcp", u.at(extra))
		if err == nil {
			c.Close()
		}
		return errors.Is(err, syscall.ECONNREFUSED)
	})
	u.configure(fmt.Sprintf("  - {service: extra, protocol: http, ports: [%d], hosts: [demo.test], POOLS}\n", extra))
	u.until("the extra port is served again", func() bool { return u.get(u.client(false), "http", extra) == nil })
	u.more()
	stop()
	u.gone(former)
}
