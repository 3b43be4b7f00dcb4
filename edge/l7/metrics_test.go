package l7

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net/http"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"meridian/fleet"
)

// lockedBuffer takes log records from several goroutines.
type lockedBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

func TestRequestsAreCountedAndLogged(t *testing.T) {
	var log lockedBuffer
	end := backend(t, "b", nil)
	r := newRig(t, httpSpec("", end), func(c *Config) {
		c.AccessLog, c.AccessEvery = slog.New(slog.NewJSONHandler(&log, nil)), 2
	})
	r.waitState(end, fleet.Up)
	c := r.client(webVIP, nil)
	for range 4 {
		get(t, c, "http://www.demo.test/page?secret=1")
	}
	get(t, c, "http://"+fleet.GatewayHost+"/health")
	r.stop()
	<-r.ended
	r.ended <- nil

	if n := r.metric("meridian_l7_requests_total", "code_class", "2xx"); n != 4 {
		t.Errorf("%v requests are counted, want 4: the checks of layer 4 are none of the service's", n)
	}
	if n := r.metric("meridian_l7_request_duration_seconds"); n != 4 {
		t.Errorf("%v durations, want 4", n)
	}
	if n := r.metric("meridian_l7_endpoint_up", "pool", "main", "endpoint", end); n != 1 {
		t.Errorf("endpoint up is %v", n)
	}
	if n := r.metric("meridian_l7_endpoint_requests", "endpoint", end); n != 0 {
		t.Errorf("%v requests under way at the end", n)
	}
	lines := bytes.Split(bytes.TrimSpace(log.Bytes()), []byte("\n"))
	if len(lines) != 2 {
		t.Fatalf("%d of 5 requests are logged, want each second one:\n%s", len(lines), log.Bytes())
	}
	var record map[string]any
	if err := json.Unmarshal(lines[0], &record); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]any{"service": "web", "method": "GET", "host": "www.demo.test", "path": "/page",
		"status": 200.0, "sent": 1.0, "endpoint": end, "tries": 1.0, "flag": "", "proto": "HTTP/1.1"} {
		if record[key] != want {
			t.Errorf("%s is %v, want %v", key, record[key], want)
		}
	}
	sum := 0.0
	for _, timer := range []string{"wait", "connect", "answer", "relay"} {
		d, ok := record[timer].(float64)
		if sum += d; !ok || d < 0 {
			t.Errorf("%s is %v", timer, record[timer])
		}
	}
	if sum != record["took"] || record["answer"] == 0.0 {
		t.Errorf("the timers' sum is %v, took %v", sum, record["took"])
	}
	if id, _ := record["request_id"].(string); len(id) != 32 {
		t.Errorf("request_id is %v", record["request_id"])
	}
}

// What is counted of a service goes with it.
func TestMetricsOfAServiceThatGoes(t *testing.T) {
	end := backend(t, "b", nil)
	r := newRig(t, httpSpec("", end))
	get(t, r.client(webVIP, nil), "http://www.demo.test/")
	spec := bytes.ReplaceAll([]byte(httpSpec("", end)), []byte("service: web"), []byte("service: other"))
	if err := r.apply(string(spec)); err != nil {
		t.Fatal(err)
	}
	if len(r.g.metrics.services) != 2 { // other, and requests for none
		t.Errorf("%d services have metrics", len(r.g.metrics.services))
	}
	get(t, r.client(webVIP, nil), "http://www.demo.test/")
}

// Per pool and endpoint: what was answered and how fast, connections opened,
// who is a member and who is well; and it stays when the config changes.
func TestPoolsAndEndpointsAreCounted(t *testing.T) {
	fails := backend(t, "f", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(503) })
	spec := httpSpec("retries: {attempts: 1, retry_on: [connect_failure]}\n", fails, "127.0.0.1:1")
	r := newRig(t, spec)
	r.waitState(fails, fleet.Up)
	c := r.client(webVIP, nil)
	for range 4 {
		get(t, c, "http://www.demo.test/")
	}
	if err := r.apply(spec); err != nil {
		t.Fatal(err)
	}
	get(t, c, "http://www.demo.test/")
	if !r.counts(5, "meridian_l7_upstream_requests_total", "pool", "main", "endpoint", fails, "code_class", "5xx") {
		t.Error("answers of the endpoint are not counted")
	}
	if !r.counts(5, "meridian_l7_upstream_duration_seconds", "pool", "main") || !r.counts(5, "meridian_l7_requests_total", "code_class", "5xx") {
		t.Error("durations of answers are not counted")
	}
	if n := r.metric("meridian_l7_upstream_connect_seconds", "pool", "main"); n < 1 || n > 5 {
		t.Errorf("%v connections were opened", n)
	}
	if n := r.metric("meridian_l7_pool_endpoints", "pool", "main"); n != 2 {
		t.Errorf("%v members", n)
	}
	if n := r.metric("meridian_l7_pool_endpoints_healthy", "pool", "main"); n > 1 {
		t.Errorf("%v are healthy", n)
	}
	if n := r.metric("meridian_l7_pool_endpoints_ejected", "pool", "main"); n > 1 {
		t.Errorf("%v are ejected", n)
	}
	if n := r.metric("meridian_l7_pool_connections", "pool", "main"); n < 1 || n > 2 {
		t.Errorf("%v connections to endpoints", n)
	}
	if n := r.metric("meridian_l7_pool_requests", "pool", "main") + r.metric("meridian_l7_pool_pending_requests", "pool", "main"); n != 0 {
		t.Errorf("%v requests under way", n)
	}
}

// What a pool's limits refuse is counted by limit, and what is under way shown.
func TestRefusalsOfAPoolAreCounted(t *testing.T) {
	release, begun := make(chan struct{}), make(chan struct{}, 1)
	end := backend(t, "b", func(w http.ResponseWriter, r *http.Request) { begun <- struct{}{}; <-release })
	r := newRig(t, httpSpec(noChecks+"limits: {requests: 1}\n", end))
	c := r.client(webVIP, nil)
	done := make(chan int, 1)
	go func() {
		status, _ := get(t, c, "http://www.demo.test/")
		done <- status
	}()
	<-begun
	if status, _ := get(t, c, "http://www.demo.test/"); status != 503 {
		t.Errorf("beyond the limit: %d", status)
	}
	for name, want := range map[string]float64{"meridian_l7_pool_requests": 1, "meridian_l7_pool_connections": 1, "meridian_l7_pool_pending_requests": 0} {
		if n := r.metric(name, "pool", "main"); n != want {
			t.Errorf("%s is %v, want %v", name, n, want)
		}
	}
	close(release)
	if status := <-done; status != 200 {
		t.Errorf("within the limit: %d", status)
	}
	for limit, want := range map[string]float64{"requests": 1, "pending": 0, "connections": 0, "retries": 0} {
		if n := r.metric("meridian_l7_pool_refused_total", "pool", "main", "limit", limit); n != want {
			t.Errorf("%s refused %v, want %v", limit, n, want)
		}
	}
}

// Listeners tell of their connections, and of some the way to the client.
func TestListenersCountConnections(t *testing.T) {
	r := newRig(t, httpSpec(noChecks, backend(t, "b", nil)))
	for range pathEvery {
		c := r.client(webVIP, nil)
		get(t, c, "http://www.demo.test/")
	}
	reg := prometheus.NewPedanticRegistry()
	r.g.Register(reg)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			got[f.GetName()] += m.GetGauge().GetValue() + m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	if got["meridian_l7_listener_connections"] != pathEvery || got["meridian_l7_connections_total"] != pathEvery || got["meridian_l7_client_rtt_seconds"] != 1 {
		t.Errorf("%v connections, %v ways", got["meridian_l7_listener_connections"], got["meridian_l7_client_rtt_seconds"])
	}
}

// A gateway tells when the certificates end that it shows.
func TestTheEndOfCertificatesIsTold(t *testing.T) {
	r := newRig(t, httpsSpec(noChecks, backend(t, "b", nil)))
	reg := prometheus.NewPedanticRegistry()
	r.g.Register(reg)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	want := r.g.gen.Load().tls.certs.All()[0].TLS.Leaf.NotAfter.Unix()
	for _, f := range families {
		if f.GetName() != "meridian_l7_certificate_not_after_seconds" {
			continue
		}
		if m := f.GetMetric(); len(m) != 1 || m[0].GetLabel()[0].GetValue() != "c1" || int64(m[0].GetGauge().GetValue()) != want {
			t.Errorf("%v, expected the end of c1 at %d", m, want)
		}
		return
	}
	t.Error("nothing is told")
}
