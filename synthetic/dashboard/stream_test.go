package dashboard

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// stream is a client of the event stream that keeps all it reads.
type stream struct {
	mu     sync.Mutex
	text   strings.Builder
	header http.Header
	code   int
	cancel context.CancelFunc
	done   chan struct{}
}

func (s *stream) Header() http.Header  { return s.header }
func (s *stream) WriteHeader(code int) { s.code = code }
func (s *stream) Flush()               {}
func (s *stream) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(b)
}

// open connects a stream that saw that ID last; inside a synctest bubble.
func open(d *Dashboard, lastID string) *stream {
	ctx, cancel := context.WithCancel(context.Background())
	s := &stream{header: http.Header{}, cancel: cancel, done: make(chan struct{})}
	r := httptest.NewRequestWithContext(ctx, "GET", "/dashboard/events", nil)
	r.Header.Set("Last-Event-ID", lastID)
	go func() {
		defer close(s.done)
		d.ServeHTTP(s, r)
	}()
	synctest.Wait()
	return s
}

// frame is one server-sent event as the client reads it.
type frame struct {
	kind, id string
	data     map[string]json.RawMessage
}

// take gives what came since the last call.
func (s *stream) take(t *testing.T) []frame {
	t.Helper()
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []frame
	for _, block := range strings.Split(s.text.String(), "\n\n") {
		var f frame
		for _, line := range strings.Split(block, "\n") {
			key, value, _ := strings.Cut(line, ": ")
			switch key {
			case "event":
				f.kind = value
			case "id":
				f.id = value
			case "data":
				if err := json.Unmarshal([]byte(value), &f.data); err != nil {
					t.Fatal(err)
				}
			}
		}
		if f.kind != "" {
			out = append(out, f)
		}
	}
	s.text.Reset()
	return out
}

// running starts a dashboard within a synctest bubble and stops it at the end.
func running(t *testing.T, f func(d *Dashboard, feed *Feed)) {
	synctest.Test(t, func(t *testing.T) {
		feed := testFeed(t)
		d := testDashboard(t, feed)
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error)
		go func() { done <- d.Run(ctx) }()
		synctest.Wait()
		f(d, feed)
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

func pass(d time.Duration) { <-time.After(d) }

func TestStreamBeginsWithTheWholeState(t *testing.T) {
	running(t, func(d *Dashboard, feed *Feed) {
		s := open(d, "")
		got := s.take(t)
		if len(got) != 1 || got[0].kind != "state" || got[0].data["regions"] == nil || got[0].id == "" {
			t.Errorf("expected the whole state, got %+v", got)
		}
		if s.header.Get("Content-Type") != "text/event-stream" {
			t.Errorf("headers %v", s.header)
		}
	})
}

func TestStreamCarriesOnlyWhatChanged(t *testing.T) {
	running(t, func(d *Dashboard, feed *Feed) {
		s := open(d, "")
		s.take(t)
		w := testWorld(t)
		v := healthy(w)
		kill(w, v, "fra", noon)
		feed.SetView(v)
		pass(coalesce)
		got := s.take(t)
		if len(got) != 1 || got[0].kind != "patch" {
			t.Fatalf("expected one patch, got %+v", got)
		}
		for _, key := range []string{"headline", "regions", "services", "matrix", "events"} {
			if got[0].data[key] == nil {
				t.Errorf("the patch lacks %s", key)
			}
		}
		for _, key := range []string{"nodes", "shifts", "fleet", "revision"} {
			if got[0].data[key] != nil {
				t.Errorf("the patch repeats %s", key)
			}
		}
		if text := string(got[0].data["events"]); strings.Contains(text, "runs revision") {
			t.Errorf("the patch repeats old events: %s", text)
		}
	})
}

func TestManyChangesMakeFewPatches(t *testing.T) {
	running(t, func(d *Dashboard, feed *Feed) {
		s := open(d, "")
		pass(coalesce)
		s.take(t)
		for range 50 {
			feed.Add(Event{Kind: "bgp", Text: "a route came"})
			pass(10 * time.Millisecond)
		}
		pass(coalesce)
		if n := len(s.take(t)); n < 5 || n > 7 {
			t.Errorf("50 changes in 500 ms made %d patches, expected about 5", n)
		}
	})
}

func TestStreamResumesWhereItWas(t *testing.T) {
	running(t, func(d *Dashboard, feed *Feed) {
		s := open(d, "")
		id := s.take(t)[0].id
		s.cancel()
		<-s.done
		for range 3 {
			feed.Add(Event{Kind: "bgp", Text: "a route came"})
			pass(coalesce)
		}
		resumed := open(d, id)
		got := resumed.take(t)
		if len(got) != 3 {
			t.Fatalf("expected the 3 patches that were missed, got %+v", got)
		}
		for _, f := range got {
			if f.kind != "patch" || f.data["events"] == nil || f.data["regions"] != nil {
				t.Errorf("expected a patch with an event, got %+v", f)
			}
		}
		current := open(d, got[2].id)
		if again := current.take(t); len(again) != 0 {
			t.Errorf("nothing was missed, yet got %+v", again)
		}
	})
}

func TestStreamWithAnUnknownIDGetsTheWholeState(t *testing.T) {
	d := testDashboard(t, testFeed(t))
	for _, id := range []string{"", "x", "-", "0-1", d.hub.epoch, d.hub.epoch + "-", d.hub.epoch + "-999", d.hub.epoch + "--1", d.hub.epoch + "-18446744073709551615"} {
		missed, c, err := d.hub.join(id)
		if err != nil || len(missed) != 1 || !strings.HasPrefix(string(missed[0]), "event: state\n") {
			t.Errorf("%q: expected the whole state, got %d messages (%v)", id, len(missed), err)
		}
		d.hub.leave(c)
	}
}

func TestTooOldAnIDGetsTheWholeState(t *testing.T) {
	feed := testFeed(t)
	d := testDashboard(t, feed)
	_, _, id, err := d.hub.state()
	if err != nil {
		t.Fatal(err)
	}
	for range keptMessages + 1 {
		feed.Add(Event{Kind: "bgp", Text: "a route came"})
		if err := d.hub.publish(feed.State()); err != nil {
			t.Fatal(err)
		}
	}
	missed, _, _ := d.hub.join(id)
	if len(missed) != 1 {
		t.Errorf("expected the whole state, got %d messages", len(missed))
	}
}

func TestStreamsAreBounded(t *testing.T) {
	running(t, func(d *Dashboard, feed *Feed) {
		a, b := open(d, ""), open(d, "")
		refused := open(d, "")
		<-refused.done
		if refused.code != http.StatusServiceUnavailable || refused.header.Get("Retry-After") == "" {
			t.Errorf("the third of two streams: %d %v", refused.code, refused.header)
		}
		a.cancel()
		<-a.done
		if again := open(d, ""); len(again.take(t)) == 0 {
			t.Error("no stream is accepted although one has ended")
		}
		_ = b
	})
}

func TestASlowClientIsDroppedAndNobodyWaits(t *testing.T) {
	feed := testFeed(t)
	d := testDashboard(t, feed)
	_, slow, _ := d.hub.join("")
	_, quick, _ := d.hub.join("")
	for i := range clientQueue + 1 {
		feed.Add(Event{Kind: "bgp", Text: "a route came"})
		if err := d.hub.publish(feed.State()); err != nil {
			t.Fatal(err)
		}
		if _, open := <-quick; !open {
			t.Fatalf("the quick client was dropped at message %d", i)
		}
	}
	for range clientQueue {
		<-slow
	}
	if _, open := <-slow; open {
		t.Error("the slow client was not dropped")
	}
	d.hub.leave(slow) // as its handler does
}

func TestHeartbeat(t *testing.T) {
	running(t, func(d *Dashboard, feed *Feed) {
		s := open(d, "")
		s.take(t)
		pass(heartbeat)
		if got := s.take(t); len(got) != 1 || got[0].kind != "beat" || got[0].id != "" {
			t.Errorf("expected a heartbeat, got %+v", got)
		}
	})
}

func TestRunEndsTheStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := testDashboard(t, testFeed(t))
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error)
		go func() { ended <- d.Run(ctx) }()
		s := open(d, "")
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
		<-s.done
		if w := get(d, "/dashboard/events"); w.Code != http.StatusServiceUnavailable {
			t.Errorf("a stream after the end: %d", w.Code)
		}
	})
}

// A shift ends by time alone; no call says so.
func TestTimeAloneIsNoticed(t *testing.T) {
	running(t, func(d *Dashboard, feed *Feed) {
		w := testWorld(t)
		w.Shifts = append(w.Shifts, shiftUntil(time.Now().Add(5*time.Second)))
		feed.Apply(w)
		s := open(d, "")
		pass(coalesce)
		s.take(t)
		pass(5*time.Second + refresh)
		got := s.take(t)
		if len(got) == 0 || string(got[len(got)-1].data["shifts"]) != "[]" {
			t.Errorf("expected a patch without shifts, got %+v", got)
		}
	})
}

func FuzzLastEventID(f *testing.F) {
	d := testDashboard(f, testFeed(f))
	f.Add("")
	f.Add(d.hub.epoch + "-1")
	f.Fuzz(func(t *testing.T, id string) {
		missed, c, err := d.hub.join(id)
		if err != nil {
			t.Fatal(err)
		}
		if len(missed) > keptMessages {
			t.Errorf("%d messages", len(missed))
		}
		d.hub.leave(c)
	})
}

func BenchmarkPublish(b *testing.B) {
	feed := testFeed(b)
	d := testDashboard(b, feed)
	for b.Loop() {
		if err := d.hub.publish(feed.State()); err != nil {
			b.Fatal(err)
		}
	}
}

func TestMetricsCountStreams(t *testing.T) {
	d := testDashboard(t, testFeed(t))
	r := prometheus.NewPedanticRegistry()
	d.Register(r)
	for range 3 {
		d.hub.join("") // two are allowed
	}
	for range clientQueue + 1 {
		d.hub.beat()
	}
	got := map[string]float64{}
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		m := f.GetMetric()[0]
		got[f.GetName()] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
	}
	for name, want := range map[string]float64{"meridian_dashboard_streams": 0,
		"meridian_dashboard_streams_refused_total": 1, "meridian_dashboard_streams_dropped_total": 2} {
		if got[name] != want {
			t.Errorf("%s is %v, expected %v", name, got[name], want)
		}
	}
}
