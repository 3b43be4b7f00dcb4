package l7

import (
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"meridian/edge/l7/wire"
	"meridian/fleet"
)

// seenBy takes what a gateway exports.
type seenBy chan *Seen

func (c seenBy) Take(s *Seen) { c <- s }

const clientTrace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

// tracingSpec is httpSpec with gateway.tracing.
func tracingSpec(tracing, end string) string {
	return httpSpec(noChecks, end) + "gateway: {" + tracing + "}\n"
}

// traced sends a request with a trace and gives what the endpoint got.
func (r *rig) traced(parents ...string) http.Header {
	r.t.Helper()
	req, _ := http.NewRequest("GET", "http://www.demo.test/p?secret=1", nil)
	req.Header["Traceparent"] = parents
	req.Header.Set("Tracestate", "vendor=1")
	req.Header.Set("X-Forwarded-For", "203.0.113.7")
	res, err := r.client(webVIP, nil).Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer res.Body.Close()
	io.Copy(io.Discard, res.Body)
	return nil
}

// W3C Trace Context: a trace is continued where its sender is trusted, else one
// begins; the endpoint gets the gateway's span as its parent.
func TestTracesBeginOrGoOn(t *testing.T) {
	const collector = `endpoint: "127.0.0.1:4317"`
	for name, tc := range map[string]struct {
		tracing string
		parents []string
		trace   string // what the endpoint gets, as a pattern
		state   string
		spans   bool
	}{
		"no tracing":                {"", []string{clientTrace}, "^" + clientTrace + "$", "vendor=1", false},
		"everybody is trusted":      {"tracing: {" + collector + ", trust: all}", []string{clientTrace}, "^00-4bf92f3577b34da6a3ce929d0e0e4736-[0-9a-f]{16}-01$", "vendor=1", true},
		"a client that samples not": {"tracing: {" + collector + ", trust: all, sample: 1}", []string{clientTrace[:53] + "00"}, "^00-4bf92f3577b34da6a3ce929d0e0e4736-[0-9a-f]{16}-00$", "vendor=1", false},
		"strangers":                 {"tracing: {" + collector + ", sample: 1}", []string{clientTrace}, "^00-[0-9a-f]{32}-[0-9a-f]{16}-01$", "", true},
		"strangers, not sampled":    {"tracing: {" + collector + "}", []string{clientTrace}, "^00-[0-9a-f]{32}-[0-9a-f]{16}-00$", "", false},
		"nobody's trace":            {"tracing: {" + collector + ", sample: 1, trust: all}", nil, "^00-[0-9a-f]{32}-[0-9a-f]{16}-01$", "", true},
		"a trusted proxy":           {"trusted_proxies: [127.0.0.0/8], tracing: {" + collector + "}", []string{clientTrace}, "^00-4bf92f3577b34da6a3ce929d0e0e4736-[0-9a-f]{16}-01$", "vendor=1", true},
		"nobody is trusted":         {"trusted_proxies: [127.0.0.0/8], tracing: {" + collector + ", trust: none}", []string{clientTrace}, "^00-[0-9a-f]{32}-[0-9a-f]{16}-00$", "", false},
		"another is trusted":        {"trusted_proxies: [10.0.0.0/8], tracing: {" + collector + "}", []string{clientTrace}, "^00-[0-9a-f]{32}-[0-9a-f]{16}-00$", "", false},
		"two parents":               {"tracing: {" + collector + ", trust: all}", []string{clientTrace, clientTrace}, "^00-[0-9a-f]{32}-[0-9a-f]{16}-00$", "", false},
		"malformed":                 {"tracing: {" + collector + ", trust: all}", []string{"00-x"}, "^00-[0-9a-f]{32}-[0-9a-f]{16}-00$", "", false},
	} {
		got := make(chan http.Header, 1)
		end := backend(t, "b", func(w http.ResponseWriter, r *http.Request) { got <- r.Header })
		seen := make(seenBy, 10)
		r := newRig(t, tracingSpec(tc.tracing, end), func(c *Config) { c.Telemetry = seen })
		r.traced(tc.parents...)
		h := <-got
		all := h.Values("Traceparent")
		if len(all) != 1 || !regexp.MustCompile(tc.trace).MatchString(all[0]) || h.Get("Tracestate") != tc.state {
			t.Errorf("%s: the endpoint got %q with state %q", name, all, h.Get("Tracestate"))
			continue
		}
		if tc.tracing != "" && all[0][3:35] == clientTrace[3:35] != (tc.state != "") || all[0][36:52] == clientTrace[36:52] && tc.tracing != "" {
			t.Errorf("%s: the endpoint got %q", name, all)
		}
		r.stop()
		<-r.ended
		r.ended <- nil
		if !tc.spans {
			if len(seen) != 0 {
				t.Errorf("%s: %d requests were exported", name, len(seen))
			}
			continue
		}
		s := <-seen
		if parentOf(s, 0) != all[0] || !s.Span || s.Record || s.State != tc.state || s.Path != "/p" || s.Status != 200 || s.Service != "web" ||
			len(s.Tries) != 1 || s.Tries[0].Endpoint != end || s.Tries[0].Status != 200 || s.Tries[0].ID == s.Trace.Parent || s.End.Before(s.Start) {
			t.Errorf("%s: %+v", name, s)
		}
		client := "127.0.0.1"
		if strings.Contains(tc.tracing, "trusted_proxies") {
			client = "203.0.113.7"
		}
		if s.Client.String() != client || !s.Peer.Addr().IsLoopback() || s.Route != "0" || s.Wait+s.Connect+s.Answer+s.Relay != s.End.Sub(s.Start) {
			t.Errorf("%s: %+v", name, s)
		}
		if continued := s.Parent != [8]byte{}; continued != (tc.state != "") {
			t.Errorf("%s: parent %x", name, s.Parent)
		}
	}
}

// parentOf is what the endpoint of a try is told.
func parentOf(s *Seen, try int) string {
	t := s.Trace
	t.Parent = s.Tries[try].ID
	return string(wire.AppendTrace(nil, &t))
}

// The endpoint of each try has that try's span as its parent, by HTTP/1.1 and, in
// place of h2's, told by the same field; whom filters ask has the gateway's.
func TestEachTryIsItsOwnParent(t *testing.T) {
	got := make(chan string, 10)
	tells := func(status int) string {
		return backend(t, "b", func(w http.ResponseWriter, r *http.Request) {
			got <- r.Header.Get("Traceparent")
			w.WriteHeader(status)
		})
	}
	guard := tells(204)
	more := noChecks + `retries: {attempts: 3, retry_on: ["503"]}
filters: {forward_auth: {pool: guard, path: /}}
`
	fails := tells(503)
	spec := httpSpec(more, fails) + "  - {id: guard, endpoints: [{address: \"" + guard + "\"}]}\ngateway: {tracing: {endpoint: \"127.0.0.1:4317\", trust: all}}\n"
	seen := make(seenBy, 10)
	r := newRig(t, spec, func(c *Config) { c.Telemetry = seen })
	r.traced(clientTrace)
	s := <-seen
	if len(s.Tries) < 2 || len(got) != 1+len(s.Tries) {
		t.Fatalf("%d tries, %d requests", len(s.Tries), len(got))
	}
	if asked := <-got; asked != string(wire.AppendTrace(nil, &s.Trace)) {
		t.Errorf("whom the filter asks got %q of %+v", asked, s.Trace)
	}
	for i := range s.Tries {
		if told := <-got; told != parentOf(s, i) || i > 0 && s.Tries[i].ID == s.Tries[i-1].ID {
			t.Errorf("try %d: %q of %x", i, told, s.Tries[i].ID)
		}
	}
}

// Whoever is told the timings is told the trace, so that a browser's spans can join it.
func TestClientsAreToldTheTrace(t *testing.T) {
	r := newRig(t, httpSpec(noChecks, backend(t, "b", nil))+"gateway: {tracing: {endpoint: \"127.0.0.1:4317\", trust: all}}\n", withWhy)
	req, _ := http.NewRequest("GET", "http://www.demo.test/", nil)
	req.Header.Set("Traceparent", clientTrace)
	req.Header.Set("X-Edge-Why", tokenFor("www.demo.test"))
	res, err := r.client(webVIP, nil).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if got := res.Header.Get("Server-Timing"); !regexp.MustCompile(`edge;dur=[0-9.]+, traceparent;desc="` + clientTrace[:35] + `-[0-9a-f]{16}-01"$`).MatchString(got) {
		t.Errorf("Server-Timing %q", got)
	}
	if got := res.Header.Get("X-Edge-Why"); !strings.Contains(got, `"trace":"`+clientTrace[3:35]+`"`) {
		t.Errorf("the report %q", got)
	}
}

// With logs, each so many-th request is exported as a record, without its query.
func TestRecordsOfTheAccessLogAreExported(t *testing.T) {
	end := backend(t, "b", nil)
	seen := make(seenBy, 10)
	r := newRig(t, tracingSpec(`tracing: {endpoint: "127.0.0.1:4317", logs: 2}`, end), func(c *Config) { c.Telemetry = seen })
	for range 4 {
		r.traced()
	}
	r.stop()
	<-r.ended
	r.ended <- nil
	if len(seen) != 2 {
		t.Fatalf("%d of 4 requests were exported, want each second one", len(seen))
	}
	if s := <-seen; s.Span || !s.Record || s.Path != "/p" || s.Trace.ID == [16]byte{} || len(s.Tries) != 0 || s.Answer <= 0 || s.ID == "" {
		t.Errorf("%+v", s)
	}
}

// A request that the next region answers is one trace: there is a span for the try at
// that region's gateway, and the gateway there goes on with the trace, whoever is
// trusted otherwise.
func TestTheNextRegionsSpansAreOfTheSameTrace(t *testing.T) {
	got := make(chan string, 10)
	gone, lives := dead(t), backend(t, "nyc", func(w http.ResponseWriter, r *http.Request) { got <- r.Header.Get("Traceparent") })
	seen := map[string]seenBy{"fra": make(seenBy, 10), "nyc": make(seenBy, 10)}
	spec := twoRegions(false, "healthcheck: {interval: 100ms, timeout: 100ms, fall: 1}", gone, lives) + "gateway: {tracing: {endpoint: \"127.0.0.1:4317\", trust: none, sample: 1}}\n"
	fra, nyc := pair(t, false, spec, func(c *Config) { c.Telemetry = seen[c.Region] })
	nyc.waitState(lives, fleet.Up)
	fra.waitState(gone, fleet.Down)
	fra.traced(clientTrace)
	here, there := <-seen["fra"], <-seen["nyc"]
	if len(here.Tries) != 1 || here.Tries[0].Region != "nyc" || here.Tries[0].Status != 200 || here.Parent != [8]byte{} {
		t.Errorf("here %+v", here)
	}
	if there.Trace.ID != here.Trace.ID || there.Parent != here.Tries[0].ID || len(there.Tries) != 1 || there.Tries[0].Endpoint != lives || there.Tries[0].Region != "" {
		t.Errorf("here %+v\nthere %+v", here, there)
	}
	if p := <-got; p != parentOf(there, 0) {
		t.Errorf("the endpoint got %q", p)
	}
}
