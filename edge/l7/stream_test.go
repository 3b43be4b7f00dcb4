package l7

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	proxyproto "github.com/pires/go-proxyproto"

	"meridian/fleet"
)

// streamSpec is a fleet with one tcp service at 192.0.2.1:25, whose connections
// end at the gateways.
func streamSpec(more string, endpoints ...string) string {
	s := strings.NewReplacer("protocol: http\n", "protocol: tcp\n", "ports: [80]", "ports: [25]", "  hosts: [www.demo.test]\n", "  forwarding: proxy\n").Replace(httpSpec("", endpoints...))
	return strings.Replace(s, "  forwarding: proxy\n", "  forwarding: proxy\n"+indent(more), 1)
}

const streamVIP = "192.0.2.1:25"

// speaker is a TCP endpoint that speaks first: its name. Then it gives back what it
// gets, until that ends.
func speaker(t *testing.T, name string) string {
	t.Helper()
	return serveRaw(t, func(c net.Conn) { speak(c, name) })
}

// told is one that says whom the PROXY protocol has told it of.
func told(t *testing.T) string {
	t.Helper()
	return serveRaw(t, func(raw net.Conn) {
		c := proxyproto.NewConn(raw)
		who := "nobody"
		if h := c.ProxyHeader(); h != nil {
			who = fmt.Sprintf("v%d %s", h.Version, h.SourceAddr)
		}
		speak(c, who)
	})
}

func speak(c net.Conn, first string) {
	fmt.Fprintln(c, first)
	io.Copy(c, c)
}

// stream connects a client to the service, and reads the endpoint's first line.
func (r *rig) stream() (*net.TCPConn, string) {
	r.t.Helper()
	c, err := net.Dial("tcp", r.addr(streamVIP))
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(10 * time.Second))
	var line []byte
	for b := make([]byte, 1); len(line) == 0 || line[len(line)-1] != '\n'; line = append(line, b[0]) {
		if _, err := io.ReadFull(c, b); err != nil {
			return c.(*net.TCPConn), ""
		}
	}
	return c.(*net.TCPConn), strings.TrimSpace(string(line))
}

// Connections of a tcp service go to its endpoints in turn, and carry all that
// either side says, also after one of them has ended.
func TestStreams(t *testing.T) {
	a, b := speaker(t, "a"), speaker(t, "b")
	r := newRig(t, streamSpec("", a, b))
	r.waitState(a, fleet.Up)
	r.waitState(b, fleet.Up)
	seen := map[string]int{}
	data := bytes.Repeat([]byte("meridian"), 100_000)
	for range 8 {
		c, said := r.stream()
		seen[said]++
		go func() {
			c.Write(data)
			c.CloseWrite()
		}()
		if back, err := io.ReadAll(c); err != nil || !bytes.Equal(back, data) {
			t.Errorf("%d of %d octets came back, %v", len(back), len(data), err)
		}
	}
	if seen["a"] != 4 || seen["b"] != 4 {
		t.Errorf("connections went to %v", seen)
	}
	// A client sees the end before the gateway has counted.
	until(t, "connections and octets counted", func() bool {
		in, out := r.metric("meridian_l7_stream_bytes_total", "direction", "received"), r.metric("meridian_l7_stream_bytes_total", "direction", "sent")
		return r.metric("meridian_l7_streams_total") == 8 && in == float64(8*len(data)) && out == in+8*2
	})
}

// The endpoint is told whose connection it is by the PROXY protocol.
func TestStreamsTellTheClient(t *testing.T) {
	for mode, version := range map[string]string{"proxy_v1": "v1", "proxy_v2": "v2"} {
		r := newRig(t, streamSpec("client_ip: "+mode, told(t)))
		c, said := r.stream()
		if want := fmt.Sprintf("%s %s", version, c.LocalAddr()); said != want {
			t.Errorf("%s: the endpoint said %q, expected %q", mode, said, want)
		}
	}
}

// A connection that an endpoint does not take goes to another; where there is
// none it ends at once.
func TestStreamsFindAnEndpointThatLives(t *testing.T) {
	gone, a := dead(t), speaker(t, "a")
	slow := "healthcheck: {interval: 1h}"
	r := newRig(t, streamSpec(slow, gone, a), func(c *Config) { c.Prober = ignorant{} })
	for range 6 {
		if _, said := r.stream(); said != "a" {
			t.Errorf("the endpoint said %q", said)
		}
	}
	if n := r.metric("meridian_l7_retries_total"); n == 0 {
		t.Error("no connection was tried again")
	}
	if err := r.apply(streamSpec(slow+"\nretries: {attempts: 0}", gone)); err != nil {
		t.Fatal(err)
	}
	if _, said := r.stream(); said != "" {
		t.Errorf("a dead endpoint said %q", said)
	}
	if n := r.metric("meridian_l7_failures_total", "flag", "UF"); n != 1 {
		t.Errorf("%v connections failed", n)
	}
}

// ignorant is a prober that finds nothing out, so that requests have to.
type ignorant struct{}

func (ignorant) Probe(ctx context.Context, _ fleet.Probe) fleet.ProbeResult {
	<-ctx.Done()
	return fleet.ProbeResult{}
}

// A gateway that stops lets connections end, up to the service's limit, and then
// cuts them.
func TestStreamsDrain(t *testing.T) {
	a := speaker(t, "a")
	r := newRig(t, streamSpec("timeouts: {drain: 1s}", a))
	ends, _ := r.stream()
	stays, _ := r.stream()
	r.stop()
	if _, err := io.WriteString(ends, "still"); err != nil {
		t.Error(err)
	}
	got := make([]byte, 5)
	if _, err := io.ReadFull(ends, got); err != nil || string(got) != "still" {
		t.Errorf("%q, %v", got, err)
	}
	ends.Close()
	if b, err := io.ReadAll(stays); len(b) > 0 {
		t.Errorf("%q, %v", b, err)
	}
}

// A service that goes lets its connections end; its port is served no more.
func TestStreamsOfAServiceThatGoes(t *testing.T) {
	a := speaker(t, "a")
	r := newRig(t, streamSpec("", a))
	c, _ := r.stream()
	if err := r.apply(httpSpec("", backend(t, "b", nil))); err != nil {
		t.Fatal(err)
	}
	if _, err := net.Dial("tcp", r.addr(streamVIP)); err == nil {
		t.Error("the port still takes connections")
	}
	io.WriteString(c, "still")
	c.CloseWrite()
	if b, err := io.ReadAll(c); err != nil || string(b) != "still" {
		t.Errorf("%q, %v", b, err)
	}
}
