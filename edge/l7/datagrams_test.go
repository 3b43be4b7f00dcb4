package l7

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"meridian/fleet"
)

// datagramSpec is a fleet with one udp service at 192.0.2.1:25, whose datagrams the
// gateways pass on.
func datagramSpec(more string, endpoints ...string) string {
	return strings.Replace(streamSpec(more, endpoints...), "protocol: tcp\n", "protocol: udp\n", 1)
}

// datagramRig is a rig whose UDP port is a free one of 127.0.0.1.
func datagramRig(t *testing.T, spec string, change ...func(*Config)) (*rig, *net.UDPAddr) {
	t.Helper()
	var mu sync.Mutex
	var at *net.UDPAddr
	r := newRig(t, spec, append(change, func(c *Config) {
		c.ListenPacket = func(ctx context.Context, _, _ string) (net.PacketConn, error) {
			c, err := ListenPacket(ctx, "udp4", "127.0.0.1:0")
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				at = c.LocalAddr().(*net.UDPAddr)
			}
			return c, err
		}
	})...)
	mu.Lock()
	defer mu.Unlock()
	return r, at
}

// echoes is a UDP endpoint that says its name before what it got.
func echoes(t testing.TB, name string) (string, *net.UDPConn) {
	t.Helper()
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	go func() {
		b := make([]byte, maxDatagram)
		n := copy(b, name)
		for {
			k, from, err := c.ReadFromUDPAddrPort(b[n:])
			if err != nil {
				return
			}
			c.WriteToUDPAddrPort(b[:n+k], from)
		}
	}()
	return c.LocalAddr().String(), c
}

// caller is one UDP client; ask gives what it was answered, "" for nothing.
type caller struct {
	t testing.TB
	c *net.UDPConn
}

func newCaller(t testing.TB, to *net.UDPAddr) caller {
	t.Helper()
	c, err := net.DialUDP("udp4", nil, to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return caller{t, c}
}

func (c caller) ask(s string, wait time.Duration) string {
	c.t.Helper()
	c.c.SetReadDeadline(time.Now().Add(wait))
	if _, err := c.c.Write([]byte(s)); err != nil {
		return ""
	}
	b := make([]byte, maxDatagram)
	n, err := c.c.Read(b)
	if err != nil {
		return ""
	}
	return string(b[:n])
}

// until asks again until it is answered want.
func (c caller) until(s, want string) {
	c.t.Helper()
	got := ""
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); {
		if got = c.ask(s, 100*time.Millisecond); got == want {
			return
		}
	}
	c.t.Fatalf("%q was answered by %q, expected %q", s, got, want)
}

const patient = 10 * time.Second

// Each client, by address and port, keeps its endpoint; clients are spread over
// all, and what is large passes too.
func TestDatagrams(t *testing.T) {
	a, _ := echoes(t, "a")
	b, _ := echoes(t, "b")
	r, at := datagramRig(t, datagramSpec("", a, b))
	seen := map[byte]int{}
	for range 8 {
		c := newCaller(t, at)
		first := c.ask("1", patient)
		if first == "" {
			t.Fatal("no answer")
		}
		seen[first[0]]++
		for range 3 {
			if again := c.ask("1", patient); again != first {
				t.Errorf("%q, and then %q", first, again)
			}
		}
		if large := c.ask(strings.Repeat("x", 50_000), patient); len(large) != 50_001 {
			t.Errorf("%d octets came back", len(large))
		}
	}
	if seen['a'] != 4 || seen['b'] != 4 {
		t.Errorf("clients went to %v", seen)
	}
	if n := r.metric("meridian_l7_udp_flows"); n != 8 {
		t.Errorf("%v flows", n)
	}
	// An endpoint may answer before the gateway has counted what it was sent.
	until(t, "datagrams counted", func() bool { return r.metric("meridian_l7_udp_datagrams_total", "direction", "received") == 40 })
	if out := r.metric("meridian_l7_udp_datagrams_total", "direction", "sent"); out != 40 {
		t.Errorf("%v datagrams sent", out)
	}
	if err := r.g.Ready(); err != nil {
		t.Errorf("a gateway whose only service has no checks is not ready: %v", err)
	}
}

// By consistent hash, all ports of a client's address have one endpoint.
func TestDatagramsOfOneAddressStayTogether(t *testing.T) {
	a, _ := echoes(t, "a")
	b, _ := echoes(t, "b")
	_, at := datagramRig(t, datagramSpec("routing_policy: consistent_hash", a, b))
	first := newCaller(t, at).ask("1", patient)
	for range 8 {
		if got := newCaller(t, at).ask("1", patient); got != first || got == "" {
			t.Errorf("%q, and then %q", first, got)
		}
	}
}

// An endpoint whose host says that nobody listens loses its flows to another,
// whatever the policy.
func TestDatagramsLeaveAnEndpointThatIsGone(t *testing.T) {
	for _, policy := range []string{"round_robin", "consistent_hash"} {
		a, ca := echoes(t, "a")
		b, cb := echoes(t, "b")
		r, at := datagramRig(t, datagramSpec("routing_policy: "+policy, a, b))
		c := newCaller(t, at)
		gone, other := ca, "b1"
		if c.ask("1", patient) == "b1" {
			gone, other = cb, "a1"
		}
		gone.Close()
		c.until("1", other)
		if n := r.metric("meridian_l7_failures_total", "flag", "UF"); n == 0 {
			t.Error("no failure was counted")
		}
	}
}

// An endpoint that the check finds down loses its flows; one that is down alone
// keeps them.
func TestDatagramsGoByHealth(t *testing.T) {
	silent, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	a, _ := echoes(t, "a")
	check := "healthcheck: {type: udp, send: ping, interval: 100ms, timeout: 50ms, expect: {body: ping}}\nrouting_policy: consistent_hash"
	r, at := datagramRig(t, datagramSpec(check, silent.LocalAddr().String()))
	c := newCaller(t, at)
	r.waitState(silent.LocalAddr().String(), fleet.Down)
	c.ask("1", 50*time.Millisecond)
	until(t, "a flow to the only endpoint, which is down", func() bool { return r.metric("meridian_l7_udp_flows") == 1 })
	if err := r.apply(datagramSpec(check, silent.LocalAddr().String(), a)); err != nil {
		t.Fatal(err)
	}
	r.waitState(a, fleet.Up)
	c.until("1", "a1")
}

// There are never more flows than MaxFlows: one goes for each that comes.
func TestDatagramsAreBounded(t *testing.T) {
	a, _ := echoes(t, "a")
	r, at := datagramRig(t, datagramSpec("", a), func(c *Config) { c.MaxFlows = 4 })
	for range 10 {
		if got := newCaller(t, at).ask("1", patient); got != "a1" {
			t.Errorf("answered %q", got)
		}
	}
	if n := r.metric("meridian_l7_udp_flows"); n != 4 {
		t.Errorf("%v flows", n)
	}
	if n := counted(t, r.g.metrics.stress.evicted); n != 6 {
		t.Errorf("%v flows were evicted", n)
	}
}

// A flow ends once it was silent for the idle limit.
func TestDatagramsIdle(t *testing.T) {
	a, _ := echoes(t, "a")
	r, at := datagramRig(t, datagramSpec("timeouts: {idle: 200ms}", a))
	newCaller(t, at).ask("1", patient)
	for end := time.Now().Add(patient); r.metric("meridian_l7_udp_flows") != 0; {
		if time.Now().After(end) {
			t.Fatal("the flow is still there")
		}
		<-time.After(10 * time.Millisecond)
	}
}

// A flow leaves an endpoint that is taken away, and stays with one that drains;
// with the service its port goes.
func TestDatagramsFollowTheSpec(t *testing.T) {
	a, _ := echoes(t, "a")
	b, _ := echoes(t, "b")
	r, at := datagramRig(t, datagramSpec("", a))
	c := newCaller(t, at)
	if got := c.ask("1", patient); got != "a1" {
		t.Errorf("at first: %q", got)
	}
	if err := r.apply(datagramSpec("", `{address: "`+a+`", state: draining}`, b)); err != nil {
		t.Fatal(err)
	}
	if got := c.ask("2", patient); got != "a2" {
		t.Errorf("of an endpoint that drains: %q", got)
	}
	if got := newCaller(t, at).ask("2", patient); got != "b2" {
		t.Errorf("a new client is answered %q", got)
	}
	if err := r.apply(datagramSpec("", b)); err != nil {
		t.Fatal(err)
	}
	if got := c.ask("3", patient); got != "b3" {
		t.Errorf("of an endpoint that is gone: %q", got)
	}
	if err := r.apply(httpSpec("", backend(t, "w", nil))); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(patient); r.g.flows.Load() > 0; {
		if time.Now().After(end) {
			t.Fatal("flows of a service that is gone stay")
		}
		<-time.After(10 * time.Millisecond)
	}
}

// A datagram on its way, and its answer, allocate nothing.
func TestDatagramsAllocateNothing(t *testing.T) {
	a, _ := echoes(t, "a")
	r, _ := datagramRig(t, datagramSpec("", a))
	socket, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	d := &datagrams{g: r.g, at: netip.MustParseAddrPort(streamVIP), socket: socket, flows: map[netip.AddrPort]*flow{}}
	defer d.end()
	client, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	from, b := client.LocalAddr().(*net.UDPAddr).AddrPort(), make([]byte, 1200)
	n := testing.AllocsPerRun(500, func() {
		d.deliver(b[:100], from, r.g.now())
		client.SetReadDeadline(time.Now().Add(patient))
		if _, _, err := client.ReadFromUDPAddrPort(b); err != nil {
			t.Fatal(err)
		}
	})
	if n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// When another process takes over it alone reads the socket; what was asked here
// is answered from here still.
func TestDatagramsOutliveAHandover(t *testing.T) {
	asked, answer := make(chan netip.AddrPort, 1), make(chan string)
	endpoint, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer endpoint.Close()
	go func() {
		b := make([]byte, 100)
		_, from, err := endpoint.ReadFromUDPAddrPort(b)
		if err != nil {
			return
		}
		asked <- from
		endpoint.WriteToUDPAddrPort([]byte(<-answer), from)
	}()
	r, at := datagramRig(t, datagramSpec("", endpoint.LocalAddr().String()))
	c := newCaller(t, at)
	c.c.Write([]byte("question"))
	<-asked

	r.g.mu.Lock()
	var d *datagrams
	for _, d = range r.g.datagrams {
	}
	f, err := d.socket.File() // as another process has it
	r.g.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	other, err := net.FilePacketConn(f)
	f.Close()
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	r.g.stopAccepting()

	answer <- "late"
	c.c.SetReadDeadline(time.Now().Add(patient))
	b := make([]byte, 100)
	if n, err := c.c.Read(b); string(b[:n]) != "late" {
		t.Errorf("%q, %v", b[:n], err)
	}
	other.SetReadDeadline(time.Now().Add(patient))
	for range 20 {
		c.c.Write([]byte("another"))
		if n, _, err := other.ReadFrom(b); string(b[:n]) != "another" || err != nil {
			t.Fatalf("the other process gets %q, %v", b[:n], err)
		}
	}
	select {
	case <-d.ended:
	case <-time.After(patient):
		t.Error("the flow that has fallen silent stays")
	}
}
