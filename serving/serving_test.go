package serving

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func fetch(t *testing.T, h http.Handler, path string) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
	return w.Code, w.Body.String()
}

func TestHealthAndReady(t *testing.T) {
	var broken atomic.Bool
	s, err := New(Config{Logger: quiet(), Checks: []Check{
		{"dns", func() error { return nil }},
		{"l7", func() error {
			if broken.Load() {
				return errors.New("no endpoint is up")
			}
			return nil
		}},
	}, More: map[string]http.Handler{"/metrics": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "m") })}})
	if err != nil {
		t.Fatal(err)
	}
	h := s.Handler()
	if code, body := fetch(t, h, "/ready"); code != 200 || body != `{"ready":true,"checks":[{"name":"dns","ready":true},{"name":"l7","ready":true}]}`+"\n" {
		t.Errorf("/ready: %d %s", code, body)
	}
	broken.Store(true)
	if code, body := fetch(t, h, "/ready"); code != 503 || !strings.Contains(body, `{"name":"l7","ready":false,"why":"no endpoint is up"}`) {
		t.Errorf("/ready: %d %s", code, body)
	}
	if code, body := fetch(t, h, "/health"); code != 200 || body != "ok\n" {
		t.Errorf("/health while not ready: %d %s", code, body)
	}
	if code, body := fetch(t, h, "/metrics"); code != 200 || body != "m" {
		t.Errorf("/metrics: %d %s", code, body)
	}
	broken.Store(false)
	s.Stopping()
	if code, body := fetch(t, h, "/ready"); code != 503 || !strings.Contains(body, "stopping") {
		t.Errorf("/ready while stopping: %d %s", code, body)
	}
}

func TestNewRefuses(t *testing.T) {
	ok := func() error { return nil }
	for _, cfg := range []Config{
		{},
		{Logger: quiet(), Listen: []string{"80"}},
		{Logger: quiet(), Checks: []Check{{"", ok}}},
		{Logger: quiet(), Checks: []Check{{"a", nil}}},
		{Logger: quiet(), Checks: []Check{{"a", ok}, {"a", ok}}},
	} {
		if _, err := New(cfg); err == nil {
			t.Errorf("%+v is accepted", cfg)
		}
	}
}

func TestRunFailsWhereItCannotListen(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s, err := New(Config{Logger: quiet(), Listen: []string{"127.0.0.1:0", l.Addr().String()}})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Run(t.Context()); err == nil {
		t.Error("Run on an address in use gave no error")
	}
}

// systemd stands in for systemd's end of the notify socket.
func systemd(t *testing.T) <-chan string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	said := make(chan string, 1000)
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := c.Read(buf)
			if err != nil {
				return
			}
			for line := range strings.SplitSeq(string(buf[:n]), "\n") {
				said <- line
			}
		}
	}()
	return said
}

// expect reads until systemd hears want and gives all that it heard.
func expect(t *testing.T, said <-chan string, want string) []string {
	t.Helper()
	var all []string
	limit := time.After(10 * time.Second)
	for {
		select {
		case s := <-said:
			if all = append(all, s); s == want {
				return all
			}
		case <-limit:
			t.Fatalf("systemd did not hear %s, only %q", want, all)
		}
	}
}

func TestSystemdHearsOfEverything(t *testing.T) {
	said := systemd(t)
	t.Setenv("WATCHDOG_USEC", "60000")
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	var ready, dead atomic.Bool
	s, err := New(Config{Logger: quiet(), Listen: []string{"127.0.0.1:0"},
		Checks: []Check{{"l7", func() error {
			if ready.Load() {
				return nil
			}
			return errors.New("warming up")
		}}},
		Alive: func() error {
			if dead.Load() {
				return errors.New("stuck")
			}
			return nil
		}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()

	if heard := expect(t, said, "WATCHDOG=1"); !slices.Contains(heard, "STATUS=l7: warming up") || slices.Contains(heard, "READY=1") {
		t.Errorf("before it is ready systemd heard %q", heard)
	}
	ready.Store(true)
	expect(t, said, "READY=1")
	expect(t, said, "STATUS=ready")
	res, err := http.Get("http://" + s.Addrs()[0].String() + "/ready")
	if err != nil || res.StatusCode != 200 {
		t.Errorf("/ready: %v %v", res, err)
	}
	res.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	s.Reload()()
	expect(t, said, "STATUS=reloading")

	dead.Store(true)
	expect(t, said, "STATUS=ready")
	for len(said) > 0 {
		<-said
	}
	<-time.After(100 * time.Millisecond)
	quietFrom := len(said)
	<-time.After(100 * time.Millisecond)
	if len(said) > quietFrom {
		t.Error("a stuck program feeds the watchdog")
	}
	stop()
	expect(t, said, "STOPPING=1")
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// After another process has become the service systemd hears nothing of this one.
func TestSystemdHearsOfTheNextProcess(t *testing.T) {
	said := systemd(t)
	s, err := New(Config{Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	s.HandOver(4711)
	s.Stopping()
	other, err := New(Config{Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	other.Reload()
	if heard := expect(t, said, "STATUS=reloading"); !slices.Equal(heard, []string{"MAINPID=4711", "STATUS=reloading"}) {
		t.Errorf("systemd heard %q", heard)
	}
}
