package l7

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// breaking is an endpoint that reads a request and hangs up.
func breaking(t testing.TB, served *atomic.Int64) string {
	return backend(t, "breaking", func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		served.Add(1)
		c, _, _ := http.NewResponseController(w).Hijack()
		c.Close()
	})
}

func send(t testing.TB, c *http.Client, method, body string, header ...string) (int, string) {
	t.Helper()
	req, _ := http.NewRequest(method, "http://www.demo.test/", strings.NewReader(body))
	for _, h := range header {
		if k, v, ok := strings.Cut(h, ": "); ok {
			req.Header.Set(k, v)
		}
	}
	res, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, _ := io.ReadAll(res.Body)
	return res.StatusCode, string(b)
}

// noChecks has no checks but an early one: until that every endpoint is unknown, and
// so in rotation. A test that such a check must not overtake has an ignorant prober.
const noChecks = "healthcheck: {interval: 1h, timeout: 1s}\n"

// flagged says whether so many requests carry the flag. A request is counted
// when its answer has been sent, so its client may be here first.
func (r *rig) flagged(f flag, want float64) bool {
	return r.counts(want, "meridian_l7_failures_total", "flag", f.String())
}

func TestFailedConnectIsTriedElsewhere(t *testing.T) {
	good := backend(t, "good", func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "good %d", len(b))
	})
	r := newRig(t, httpSpec(noChecks, dead(t), good))
	c := r.client(webVIP, nil)
	big := strings.Repeat("x", 1<<20)
	for range 6 {
		// Nothing was sent yet, so that even a large POST may go elsewhere.
		if status, body := send(t, c, "POST", big); status != 200 || body != fmt.Sprint("good ", len(big)) {
			t.Fatalf("%d %q", status, body)
		}
		if status, _ := send(t, c, "GET", ""); status != 200 {
			t.Fatal(status)
		}
	}
	if !r.flagged(flagConnect, 0) {
		t.Error("requests that succeeded in the end count as failures")
	}
}

func TestOnlySafeRequestsAreSentTwice(t *testing.T) {
	var served atomic.Int64
	r := newRig(t, httpSpec(noChecks, breaking(t, &served), breaking(t, &served), breaking(t, &served), breaking(t, &served)))
	c := r.client(webVIP, nil)
	for _, tc := range []struct {
		method, body, header string
		tries                int64
	}{
		{"GET", "", "", 3},
		{"PUT", "small", "", 3},
		{"POST", "small", "", 1},
		{"POST", "small", "Idempotency-Key: 1", 3},
		{"PATCH", "small", "", 1},
		{"PUT", strings.Repeat("x", replayed+1), "", 1},
	} {
		served.Store(0)
		status, _ := send(t, c, tc.method, tc.body, tc.header)
		if status != http.StatusBadGateway || served.Load() != tc.tries {
			t.Errorf("%s with %d octets %s: %d after %d tries, want 502 after %d", tc.method, len(tc.body), tc.header, status, served.Load(), tc.tries)
		}
	}
}

func TestAStatusIsTriedElsewhereAndTheLastOnePassed(t *testing.T) {
	var bad atomic.Int64
	busy := func(name string) string {
		return backend(t, name, func(w http.ResponseWriter, r *http.Request) {
			bad.Add(1)
			w.WriteHeader(503)
			io.WriteString(w, "busy "+name)
		})
	}
	t.Run("another has capacity", func(t *testing.T) {
		r := newRig(t, httpSpec(noChecks, busy("a"), backend(t, "good", nil)))
		for range 4 {
			if status, body := get(t, r.client(webVIP, nil), "http://www.demo.test/"); status != 200 || body != "good" {
				t.Errorf("%d %q", status, body)
			}
		}
	})
	t.Run("none has", func(t *testing.T) {
		r := newRig(t, httpSpec(noChecks, busy("a"), busy("b"), busy("c")))
		bad.Store(0)
		status, body := get(t, r.client(webVIP, nil), "http://www.demo.test/")
		if status != 503 || !strings.HasPrefix(body, "busy ") || bad.Load() != 3 {
			t.Errorf("%d %q after %d tries", status, body, bad.Load())
		}
	})
}

func TestTheSameEndpointOnlyWhereThereIsNoOther(t *testing.T) {
	var served atomic.Int64
	r := newRig(t, httpSpec(noChecks, breaking(t, &served)))
	if status, _ := get(t, r.client(webVIP, nil), "http://www.demo.test/"); status != 502 || served.Load() != 3 {
		t.Errorf("%d after %d tries", status, served.Load())
	}
	if !r.flagged(flagRetryLimit, 1) {
		t.Error("not flagged URX")
	}
}

func TestOneDeadlineForAllTries(t *testing.T) {
	release := make(chan struct{})
	slow := func() string {
		return backend(t, "slow", func(w http.ResponseWriter, r *http.Request) {
			select {
			case <-release:
			case <-r.Context().Done():
			}
		})
	}
	defer close(release)
	t.Run("no answer", func(t *testing.T) {
		r := newRig(t, httpSpec(noChecks+"timeouts: {request: 200ms}\n", slow()))
		if status, _ := get(t, r.client(webVIP, nil), "http://www.demo.test/"); status != http.StatusGatewayTimeout {
			t.Errorf("got %d", status)
		}
		if !r.flagged(flagTimeout, 1) {
			t.Error("not flagged UT")
		}
	})
	t.Run("per try", func(t *testing.T) {
		r := newRig(t, httpSpec(noChecks+"retries: {per_try_timeout: 300ms, retry_on: [timeout]}\n", slow(), backend(t, "fast", nil)))
		for range 3 {
			if status, body := get(t, r.client(webVIP, nil), "http://www.demo.test/"); status != 200 || body != "fast" {
				t.Errorf("%d %q", status, body)
			}
		}
	})
}

func TestNoEndpointAtAll(t *testing.T) {
	r := newRig(t, httpSpec(noChecks, `{address: "127.0.0.1:1", state: disabled}`))
	if status, body := get(t, r.client(webVIP, nil), "http://www.demo.test/"); status != 503 || body != "503 no endpoint\n" {
		t.Errorf("%d %q", status, body)
	}
	if err := r.g.Ready(); err == nil {
		t.Error("ready without an endpoint")
	}
}

func TestBudgetStopsRetries(t *testing.T) {
	r := newRig(t, httpSpec(noChecks+"retries: {attempts: 2, budget_percent: 20}\n", dead(t), dead(t), dead(t)))
	c := r.client(webVIP, nil)
	const requests = 200
	for range requests {
		get(t, c, "http://www.demo.test/")
	}
	retries := r.metric("meridian_l7_retries_total")
	// Ten seconds of the fixed part, 20 % of requests, and what the run's own
	// few seconds add.
	if retries < 100 || retries > 300 || r.metric("meridian_l7_retry_overflow_total") == 0 {
		t.Errorf("%d requests made %v retries", requests, retries)
	}
}

func TestBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(20, 1000)
		take := func() (n int) {
			for b.take(time.Now()) {
				n++
			}
			return n
		}
		if n := take(); n != 100 {
			t.Errorf("a full bucket gives %d", n)
		}
		time.Sleep(500 * time.Millisecond)
		if n := take(); n != 5 {
			t.Errorf("half a second gives %d", n)
		}
		for range 50 {
			b.request()
		}
		if n := take(); n != 10 {
			t.Errorf("fifty requests give %d", n)
		}
		time.Sleep(time.Hour)
		if n := take(); n != 100 {
			t.Errorf("an hour gives %d", n)
		}
		// What busy seconds add is saved up, and no longer than them.
		b.settle(1000 + 5000)
		for range 10_000 {
			b.request()
		}
		time.Sleep(time.Hour)
		if n := take(); n != 100+1000 {
			t.Errorf("five thousand requests just now give %d", n)
		}
		for range 1000 {
			b.settle(1000 + 5000)
		}
		time.Sleep(time.Hour)
		if n := take(); n < 100 || n > 120 {
			t.Errorf("an hour after them gives %d", n)
		}
	})
	if newBudget(0, 0).take(time.Now()) {
		t.Error("a budget of nothing gave a retry")
	}
}

func TestClientThatLeavesIsNotTold(t *testing.T) {
	arrived := make(chan struct{})
	gone := make(chan struct{})
	b := backend(t, "b", func(w http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-r.Context().Done()
		close(gone)
	})
	r := newRig(t, httpSpec(noChecks, b))
	ctx, cancel := context.WithCancel(t.Context())
	req, _ := http.NewRequestWithContext(ctx, "GET", "http://www.demo.test/", nil)
	go func() {
		<-arrived
		cancel()
	}()
	if _, err := r.client(webVIP, nil).Do(req); err == nil {
		t.Fatal("an answer came")
	}
	<-gone // the endpoint is told
	r.stop()
	<-r.ended
	r.ended <- nil
	if !r.flagged(flagClientGone, 1) {
		t.Error("not flagged DC")
	}
}
