package xdp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"meridian/fleet"
)

var gatewayTarget = fleet.Target{Kind: fleet.TargetGateway, Region: "fra", Node: "gw"}

// observe makes one check of a server by a plan and writes what it reports.
func observe(t *testing.T, p checkPlan, dial func(context.Context, checkWay) (net.Conn, error)) string {
	t.Helper()
	var got []string
	if p.ways == nil {
		p.ways = []checkWay{{vip: netip.MustParseAddrPort("192.0.2.1:80")}}
	}
	p.target, p.timeout = gatewayTarget, 5*time.Second
	c := &checker{plan: p, node: "lb", dial: dial, report: func(o fleet.Observation) {
		word := "ok"
		if !o.OK {
			word = fmt.Sprintf("%s (%s)", o.Cause, o.Detail)
		}
		got = append(got, o.Check+" "+word)
		if o.Vantage != "lb" || o.Target != gatewayTarget {
			t.Errorf("observation %+v", o)
		}
	}}
	c.once(t.Context())
	return strings.Join(got, "; ")
}

func to(addr string) func(context.Context, checkWay) (net.Conn, error) {
	return func(ctx context.Context, _ checkWay) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", addr)
	}
}

func TestWhatACheckReports(t *testing.T) {
	answers := map[string]int{}
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Host != fleet.GatewayHost {
			t.Errorf("asked for host %q", r.Host)
		}
		if r.Header.Get("User-Agent") != "meridian-l4" {
			t.Errorf("asked by %q", r.Header.Get("User-Agent"))
		}
		if answers["close"] == 1 {
			w.Header().Set("Connection", "close")
		}
		w.WriteHeader(answers[r.URL.Path])
		fmt.Fprint(w, "all is well")
	})
	plain, secure := httptest.NewServer(h), httptest.NewTLSServer(h)
	defer plain.Close()
	defer secure.Close()
	gw := checkPlan{kind: fleet.CheckHTTP, host: fleet.GatewayHost, path: "/health", readyPath: "/ready", expect: fleet.Expect{Status: []string{"2xx"}}}
	for _, c := range []struct {
		name    string
		answers map[string]int
		change  func(*checkPlan)
		want    string
	}{
		{"up", map[string]int{"/health": 200, "/ready": 200}, nil, "http ok; ready ok"},
		{"draining", map[string]int{"/health": 200, "/ready": 503}, nil, "http ok; ready status (/ready is not 2xx)"},
		{"down", map[string]int{"/health": 503, "/ready": 503}, nil, "http status (/health answers 503)"},
		{"a server that is about to stop", map[string]int{"/health": 200, "/ready": 503, "close": 1}, nil, "http ok; ready status (/ready is not 2xx)"},
		{"no ready path", map[string]int{"/health": 204}, func(p *checkPlan) { p.readyPath = "" }, "http ok"},
		{"wrong body", map[string]int{"/health": 200}, func(p *checkPlan) { p.expect.Body = "very" }, "http body (the body holds not the expected text)"},
		{"right body", map[string]int{"/health": 200, "/ready": 200}, func(p *checkPlan) { p.expect.Body = "is well" }, "http ok; ready ok"},
		{"TCP alone", nil, func(p *checkPlan) { p.kind, p.readyPath = fleet.CheckTCP, "" }, "tcp ok"},
	} {
		t.Run(c.name, func(t *testing.T) {
			answers = c.answers
			p := gw
			if c.change != nil {
				c.change(&p)
			}
			if got := observe(t, p, to(plain.Listener.Addr().String())); got != c.want {
				t.Errorf("reported %q, expected %q", got, c.want)
			}
			if p.kind == fleet.CheckTCP {
				return
			}
			p.kind = fleet.CheckHTTPS
			want := strings.Replace(c.want, "http ", "https ", 1)
			if got := observe(t, p, to(secure.Listener.Addr().String())); got != want {
				t.Errorf("by TLS reported %q, expected %q", got, want)
			}
		})
	}
	t.Run("TLS asked of a plain server", func(t *testing.T) {
		p := gw
		p.kind = fleet.CheckHTTPS
		if got := observe(t, p, to(plain.Listener.Addr().String())); !strings.HasPrefix(got, "https tls (TLS: ") {
			t.Errorf("reported %q", got)
		}
	})
	t.Run("refused", func(t *testing.T) {
		got := observe(t, gw, func(context.Context, checkWay) (net.Conn, error) {
			return nil, fmt.Errorf("connect: %w", syscall.ECONNREFUSED)
		})
		if got != "http refused (connect: connection refused)" {
			t.Errorf("reported %q", got)
		}
	})
	t.Run("one of two ways is dead", func(t *testing.T) {
		answers = map[string]int{"/health": 200, "/ready": 200}
		p := gw
		p.ways = []checkWay{{vip: netip.MustParseAddrPort("192.0.2.1:80")}, {vip: netip.MustParseAddrPort("[2001:db8::1]:80")}}
		live := to(plain.Listener.Addr().String())
		got := observe(t, p, func(ctx context.Context, w checkWay) (net.Conn, error) {
			if w.vip.Addr().Is6() {
				return nil, errors.New("no way")
			}
			return live(ctx, w)
		})
		if got != "http other (no way)" {
			t.Errorf("reported %q", got)
		}
	})
}

// For want of a port a check is not made, which says nothing of its target.
func TestChecksThatAreNotMade(t *testing.T) {
	skipped := 0
	gw := checkPlan{kind: fleet.CheckTCP, ways: make([]checkWay, 1)}
	c := &checker{plan: gw, node: "lb", skip: func() { skipped++ },
		dial:   func(context.Context, checkWay) (net.Conn, error) { return nil, errNoPort },
		report: func(o fleet.Observation) { t.Errorf("reported %+v", o) }}
	if c.once(t.Context()); skipped != 1 {
		t.Errorf("%d checks skipped", skipped)
	}
	gw.ways = []checkWay{{vip: netip.MustParseAddrPort("192.0.2.1:80")}, {vip: netip.MustParseAddrPort("[2001:db8::1]:80")}}
	got := observe(t, gw, func(_ context.Context, w checkWay) (net.Conn, error) {
		if w.vip.Addr().Is6() {
			return nil, errors.New("no way")
		}
		return nil, errNoPort
	})
	if got != "tcp other (no way)" {
		t.Errorf("one of two ways is dead: reported %q", got)
	}
}

// From a gateway's death, right after it passed a check, to the report of the
// third failure.
func TestThirdFailureComesWithinASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var dead bool
		var died, third time.Time
		failures := 0
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		c := &checker{node: "lb",
			plan: checkPlan{target: gatewayTarget, kind: fleet.CheckTCP, interval: gatewayInterval, ways: make([]checkWay, 1)},
			dial: func(ctx context.Context, _ checkWay) (net.Conn, error) {
				mu.Lock()
				gone := dead
				mu.Unlock()
				if gone {
					<-ctx.Done()
					return nil, ctx.Err()
				}
				a, _ := net.Pipe()
				return a, nil
			},
			report: func(o fleet.Observation) {
				mu.Lock()
				defer mu.Unlock()
				switch {
				case o.OK:
					dead, died = true, time.Now()
				case o.Cause != fleet.CauseTimeout:
					t.Errorf("cause %s", o.Cause)
				default:
					if failures++; failures == 3 {
						third = time.Now()
						cancel()
					}
				}
			}}
		c.run(ctx)
		if took := third.Sub(died); took <= 0 || took >= time.Second {
			t.Errorf("the third failure came %s after the death", took)
		}
	})
}
