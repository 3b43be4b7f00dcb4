package l7

import (
	"bufio"
	"io"
	"math"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"meridian/edge/l7/overload"
	"meridian/fleet"
)

// pressed is a rig whose pressure the test says.
func pressed(t *testing.T, spec string, change ...func(*Config)) (*rig, func(float64)) {
	var bits atomic.Uint64
	r := newRig(t, spec, append(change, func(c *Config) {
		c.measure = func() overload.Measures {
			return overload.Measures{overload.Memory: math.Float64frombits(bits.Load())}
		}
	})...)
	return r, func(p float64) { bits.Store(math.Float64bits(p)) }
}

// eventually waits until what is true is so.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !is(); {
		if time.Now().After(end) {
			t.Fatalf("not in time: %s", what)
		}
		<-time.After(5 * time.Millisecond)
	}
}

// A keep-alive connection with one request behind it.
func (r *rig) resting(address string) net.Conn {
	r.t.Helper()
	c, err := net.Dial("tcp", r.addr(address))
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(30 * time.Second))
	r.again(c)
	return c
}

// again makes a request on it, and gives the answer's head.
func (r *rig) again(c net.Conn) *http.Response {
	r.t.Helper()
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: www.demo.test\r\n\r\n")
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		r.t.Fatal(err)
	}
	io.Copy(io.Discard, res.Body)
	res.Body.Close()
	return res
}

// Short of something, the gateway first closes idle connections, the longest idle
// first, and takes requests as before.
func TestOverloadClosesTheLongestIdle(t *testing.T) {
	b := backend(t, "b", nil)
	r, press := pressed(t, httpSpec("", b))
	r.waitState(b, fleet.Up)
	var all []net.Conn
	for range 20 {
		all = append(all, r.resting("192.0.2.1:80"))
	}
	r.again(all[0]) // no longer the longest idle
	press(0.82)
	if _, err := all[1].Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the longest idle connection: %v", err)
	}
	press(0)
	all[0].SetReadDeadline(time.Now().Add(time.Millisecond))
	if _, err := all[0].Read(make([]byte, 1)); err == io.EOF {
		t.Error("the connection that was used last was closed before others")
	}
	eventually(t, "closed connections are counted", func() bool { return counted(t, r.g.metrics.stress.shed.WithLabelValues(shedIdle)) >= 2 })
	if res := r.again(r.resting("192.0.2.1:80")); res.StatusCode != 200 {
		t.Errorf("a new connection got %d", res.StatusCode)
	}
}

// Then it refuses new connections, but those of the fleet's nodes.
func TestOverloadRefusesConnections(t *testing.T) {
	b := backend(t, "b", nil)
	r, press := pressed(t, httpSpec("", b))
	r.waitState(b, fleet.Up)
	press(0.92)
	eventually(t, "a refusal", func() bool { return r.g.sheds(overload.Refuse) })
	c, err := net.Dial("tcp", r.addr("192.0.2.1:80"))
	if err == nil {
		defer c.Close()
		c.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err = c.Read(make([]byte, 1)); err == nil || strings.Contains(err.Error(), "timeout") {
			t.Errorf("a new connection: %v", err)
		}
	}
	quic := &packets{g: r.g, s: r.session().(*session).s}
	if s, gone := quic.admit(netip.MustParseAddrPort("127.0.0.1:9"), netip.AddrPort{}, nil); s != nil {
		t.Error("a new connection of HTTP/3 is admitted")
		gone()
	}
	if err := r.apply(strings.Replace(httpSpec("", b), "10.0.0.1}", "127.0.0.1}", 1)); err != nil {
		t.Fatal(err)
	}
	health := "GET /health HTTP/1.1\r\nHost: " + fleet.GatewayHost + "\r\nConnection: close\r\n\r\n"
	if got := r.raw("192.0.2.1:80", health); !strings.HasPrefix(got, "HTTP/1.1 200") {
		t.Errorf("a node's check got %q", got)
	}
}

// At last it refuses requests, of low priority first, and says when to come again.
func TestOverloadRefusesRequestsByPriority(t *testing.T) {
	for _, tc := range []struct {
		priority string
		pressure float64
		refused  bool
	}{
		{"low", 0.96, true}, {"normal", 0.96, false}, {"normal", 0.99, true}, {"high", 2, false},
	} {
		b := backend(t, "b", nil)
		// The test is at a node's address, so that its connections are taken.
		spec := strings.Replace(httpSpec("priority: "+tc.priority, b), "10.0.0.1}", "127.0.0.1}", 1)
		r, press := pressed(t, spec)
		r.waitState(b, fleet.Up)
		press(tc.pressure)
		eventually(t, "the level", func() bool { return r.g.sheds(overload.RejectLow) })
		res := r.again(r.resting("192.0.2.1:80"))
		if refused := res.StatusCode == 503 && res.Header.Get("Retry-After") == "1"; refused != tc.refused {
			t.Errorf("%s at %v: %s, Retry-After %q", tc.priority, tc.pressure, res.Status, res.Header.Get("Retry-After"))
		}
		eventually(t, "what is refused is counted, and nothing else", func() bool {
			return r.metric("meridian_l7_failures_total", "flag", "OL") > 0 == tc.refused
		})
		press(0)
		eventually(t, "the end of it", func() bool { return r.again(r.resting("192.0.2.1:80")).StatusCode == 200 })
	}
}

// Connections count as a share of gateway.max_connections.
func TestOverloadByConnections(t *testing.T) {
	b := backend(t, "b", nil)
	r, _ := pressed(t, "gateway: {max_connections: 10}\n"+httpSpec("", b))
	r.waitState(b, fleet.Up)
	for range 9 {
		r.resting("192.0.2.1:80")
	}
	eventually(t, "a level of overload", func() bool { return counted(t, r.g.metrics.stress.level) >= float64(overload.Idle) })
}

// What is measured of this process is sane: little of its memory and files is in use.
func TestMeasure(t *testing.T) {
	g := newGauge()
	g.read()
	before := openFiles()
	for range 50 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
	}
	if now := openFiles(); before < 3 || now < before+25 || now > before+75 {
		t.Errorf("%v files, and with 50 more %v", before, now)
	}
	for r, p := range g.read() {
		if p < 0 || math.IsNaN(p) || math.IsInf(p, 0) || overload.Resource(r) != overload.Processor && p > 1 {
			t.Errorf("%s at %v", overload.Resource(r), p)
		}
	}
}
