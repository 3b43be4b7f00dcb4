package l7

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"meridian/edge/l7/balance"
	"meridian/edge/l7/why"
)

var whyKey = []byte("a key of thirty-two octets......")

func withWhy(c *Config) {
	c.WhyKey = whyKey
	c.Slot = func(udp bool, client, vip netip.AddrPort) *why.Slot {
		return &why.Slot{Service: "web", Slot: 7, Slots: 65537, Reason: fmt.Sprint(udp, client.IsValid(), vip.IsValid())}
	}
}

// ask sends a request with a token, and gives the answer and its report; nil:
// there was none.
func askWhy(t *testing.T, c *http.Client, url, token string) (*http.Response, *why.Report) {
	t.Helper()
	req, _ := http.NewRequest("GET", url, nil)
	req.Header.Set("X-Edge-Why", token)
	res, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	io.Copy(io.Discard, res.Body)
	got := res.Header.Values("X-Edge-Why")
	if len(got) == 0 {
		return res, nil
	}
	if len(got) > 1 {
		t.Fatalf("%d reports: %q", len(got), got)
	}
	var r why.Report
	if err := json.Unmarshal([]byte(got[0]), &r); err != nil {
		t.Fatalf("%q: %v", got[0], err)
	}
	return res, &r
}

func tokenFor(host string) string { return why.Token(whyKey, host, time.Now().Add(time.Minute)) }

// A caller with a token learns who served the request, what was picked and why,
// each try, and whose time it was.
func TestAnAuthorisedCallerLearnsWhy(t *testing.T) {
	good := backend(t, "good", nil)
	refusing := "127.0.0.1:1"
	r := newRig(t, httpSpec(noChecks+"retries: {attempts: 3}\nrouting_policy: round_robin\n", refusing, good), withWhy, func(c *Config) { c.Prober = ignorant{} })
	c := r.client(webVIP, nil)
	tries := 0
	for range 4 { // of which two begin with the endpoint that refuses
		res, report := askWhy(t, c, "http://www.demo.test/x", tokenFor("www.demo.test"))
		if res.StatusCode != 200 || report == nil {
			t.Fatalf("%d, report %v", res.StatusCode, report)
		}
		if report.Node != "n1" || report.Region != "fra" || report.Revision != 1 || report.Service != "web" || report.Pool != "main" ||
			report.Policy != "round_robin" || report.Status != 200 || report.Flag != "" || report.ID != res.Header.Get("X-Request-ID") || report.Host != "www.demo.test" {
			t.Errorf("%+v", report)
		}
		if report.Slot == nil || report.Slot.Slot != 7 || report.Slot.Reason != "false true true" {
			t.Errorf("slot %+v", report.Slot)
		}
		chosen := 0
		for _, m := range report.Candidates {
			if m.Reason == balance.ReasonChosen {
				chosen++
				if m.Name != report.Tries[0].Endpoint {
					t.Errorf("%s was said to be chosen, and %s was tried", m.Name, report.Tries[0].Endpoint)
				}
			}
		}
		if chosen != 1 || len(report.Candidates) != 2 {
			t.Errorf("candidates %+v", report.Candidates)
		}
		last := report.Tries[len(report.Tries)-1]
		if last.Endpoint != good || last.Outcome != "answered" || last.Status != 200 || last.Answer <= 0 {
			t.Errorf("last try %+v", last)
		}
		if len(report.Tries) == 2 && report.Tries[0].Outcome != "the endpoint cannot be reached" {
			t.Errorf("first try %+v", report.Tries[0])
		}
		tries += len(report.Tries)
		if tm := report.Timers; tm.Wait+tm.Connect+tm.Answer != tm.Total || tm.Total <= 0 || tm.Wait < 0 || tm.Connect < 0 || tm.Answer < 0 {
			t.Errorf("timers %+v", tm)
		}
		if !strings.Contains(res.Header.Get("Server-Timing"), "edge;dur=") {
			t.Errorf("Server-Timing %q", res.Header.Get("Server-Timing"))
		}
	}
	if tries < 5 {
		t.Errorf("%d tries of 4 requests, of which some began with an endpoint that refuses", tries)
	}
}

// What the gateway answers itself is what one wants to understand most.
func TestTheGatewaysOwnAnswersSayWhy(t *testing.T) {
	r := newRig(t, httpSpec(noChecks+"retries: {attempts: 0}\n", "127.0.0.1:1"), withWhy)
	c := r.client(webVIP, nil)
	res, report := askWhy(t, c, "http://www.demo.test/", tokenFor("www.demo.test"))
	if res.StatusCode != 503 || report == nil || report.Status != 503 || report.Flag != "UF" || len(report.Tries) != 1 {
		t.Errorf("%d %+v", res.StatusCode, report)
	}
	res, report = askWhy(t, c, "http://other.test/", tokenFor("other.test"))
	if res.StatusCode != 404 || report == nil || report.Flag != "NR" || report.Service != "" || report.Timers.Connect != 0 {
		t.Errorf("%d %+v", res.StatusCode, report)
	}
}

// Strangers learn nothing, their field is not passed on, and no endpoint can
// speak in the gateway's place.
func TestStrangersLearnNothing(t *testing.T) {
	saw := make(chan http.Header, 10)
	end := backend(t, "b", func(w http.ResponseWriter, r *http.Request) {
		saw <- r.Header
		w.Header().Set("X-Edge-Why", `{"node":"forged"}`)
	})
	r := newRig(t, httpSpec(noChecks, end), withWhy)
	c := r.client(webVIP, nil)
	for name, token := range map[string]string{"a guess": "1", "another host's": tokenFor("other.test"), "an old one": why.Token(whyKey, "www.demo.test", time.Now().Add(-time.Minute))} {
		if res, report := askWhy(t, c, "http://www.demo.test/", token); res.StatusCode != 200 || report != nil || res.Header.Get("Server-Timing") != "" {
			t.Errorf("with %s: %d, report %+v", name, res.StatusCode, report)
		}
		if h := <-saw; h.Get("X-Edge-Why") != "" {
			t.Errorf("with %s: the endpoint got %q", name, h.Get("X-Edge-Why"))
		}
	}
	if _, report := askWhy(t, c, "http://www.demo.test/", tokenFor("www.demo.test")); report == nil || report.Node != "n1" {
		t.Errorf("report %+v", report)
	}
	if h := <-saw; h.Get("X-Edge-Why") != "" {
		t.Errorf("the endpoint got the token %q", h.Get("X-Edge-Why"))
	}
}

// server_timing tells every client, beside what the endpoint says of itself.
func TestServerTiming(t *testing.T) {
	end := backend(t, "b", func(w http.ResponseWriter, r *http.Request) { w.Header().Set("Server-Timing", "db;dur=5") })
	r := newRig(t, httpSpec(noChecks+"server_timing: true\n", end))
	res, report := askWhy(t, r.client(webVIP, nil), "http://www.demo.test/", "1")
	got := res.Header.Values("Server-Timing")
	if report != nil || len(got) != 2 || got[0] != "db;dur=5" {
		t.Fatalf("%q, report %+v", got, report)
	}
	var wait, connect, answer, all float64
	if n, err := fmt.Sscanf(got[1], "edge-wait;dur=%f, edge-connect;dur=%f, edge-answer;dur=%f, edge;dur=%f", &wait, &connect, &answer, &all); n != 4 {
		t.Errorf("%q: %v", got[1], err)
	}
	if all <= 0 || wait+connect+answer > all+0.002 || wait+connect+answer < all-0.002 {
		t.Errorf("%q do not sum up", got[1])
	}
}
