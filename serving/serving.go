// Package serving is what a program serves about itself: GET /health (it is
// alive) and GET /ready (it should be given work, and why not), and its word to
// systemd: ready, alive, reloading, stopping.
//
// Runtime floor: it imports the standard library and go-systemd's daemon, no
// other room; both programs use it.
package serving

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// Check is one condition for being ready.
type Check struct {
	Name  string       // one word: dns, l7, xds …
	Ready func() error // nil: ready; else why not. Fast, and safe for concurrent use
}

// Config is what a Server needs.
type Config struct {
	// Listen holds ADDRESS:PORT for /health, /ready and More; empty for none:
	// then only systemd is told, and the handler serves elsewhere.
	Listen []string
	Checks []Check
	// Alive says why the program should be restarted by systemd's watchdog; nil
	// for never.
	Alive func() error
	// Open opens a listener; nil: net's.
	Open func(ctx context.Context, network, address string) (net.Listener, error)
	// More are further paths, as /metrics.
	More   map[string]http.Handler
	Logger *slog.Logger
}

// Server serves /health and /ready, and speaks to systemd where that listens.
type Server struct {
	cfg      Config
	stopping atomic.Bool
	silent   atomic.Bool        // systemd hears of another process
	notify   func(state string) // to systemd

	mu    sync.Mutex // guards addrs
	addrs []net.Addr
}

// New checks cfg. It opens nothing.
func New(cfg Config) (*Server, error) {
	if cfg.Logger == nil {
		return nil, errors.New("serving: logger is missing")
	}
	seen := map[string]bool{}
	for _, c := range cfg.Checks {
		if c.Name == "" || c.Ready == nil || seen[c.Name] {
			return nil, fmt.Errorf("serving: check %q: expected a name of its own and a function", c.Name)
		}
		seen[c.Name] = true
	}
	for _, l := range cfg.Listen {
		if _, _, err := net.SplitHostPort(l); err != nil {
			return nil, fmt.Errorf("serving: %q is not ADDRESS:PORT", l)
		}
	}
	s := &Server{cfg: cfg}
	s.notify = func(state string) {
		if s.silent.Load() {
			return
		}
		if _, err := daemon.SdNotify(false, state); err != nil {
			cfg.Logger.Warn("serving: notify systemd", "err", err)
		}
	}
	return s, nil
}

// report is the body of /ready.
type report struct {
	Ready  bool     `json:"ready"`
	Checks []result `json:"checks"`
}

type result struct {
	Name  string `json:"name"`
	Ready bool   `json:"ready"`
	Why   string `json:"why,omitempty"`
}

func (s *Server) report() report {
	r := report{Ready: true, Checks: []result{}}
	if s.stopping.Load() {
		r.Ready = false
		r.Checks = append(r.Checks, result{Name: "program", Why: "stopping"})
	}
	for _, c := range s.cfg.Checks {
		one := result{Name: c.Name, Ready: true}
		if err := c.Ready(); err != nil {
			one.Ready, one.Why, r.Ready = false, err.Error(), false
		}
		r.Checks = append(r.Checks, one)
	}
	return r
}

// first gives the first reason for not being ready, in words.
func (r report) first() string {
	for _, c := range r.Checks {
		if !c.Ready {
			return c.Name + ": " + c.Why
		}
	}
	return "ready"
}

// Handler serves /health, /ready and More; it may also stand in another
// server. /health is 200 as long as the program answers; /ready is 200 or 503
// with each check's result as JSON.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("GET /ready", func(w http.ResponseWriter, _ *http.Request) {
		r := s.report()
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		if !r.Ready {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		json.NewEncoder(w).Encode(r)
	})
	for path, h := range s.cfg.More {
		mux.Handle(path, h)
	}
	return mux
}

// Addrs lists where Run listens, once it does.
func (s *Server) Addrs() []net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]net.Addr{}, s.addrs...)
}

// Stopping makes /ready fail and tells systemd. cmd calls it when the program
// begins to drain; it may be called again.
func (s *Server) Stopping() {
	if !s.stopping.Swap(true) {
		s.notify(daemon.SdNotifyStopping + "\nSTATUS=stopping")
	}
}

// HandOver tells systemd that another process is this service from now on, and
// nothing more after that: what this one still does is no state of the service.
func (s *Server) HandOver(pid int) {
	s.notify(fmt.Sprintf("MAINPID=%d", pid))
	s.silent.Store(true)
}

// Reload tells systemd that a reload begins; the function that it gives tells
// the end.
func (s *Server) Reload() (done func()) {
	s.notify("STATUS=reloading")
	return func() { s.notify("STATUS=" + s.report().first()) }
}

// Run listens and serves until ctx ends; it should be the last to end, so that
// /health answers while the program drains. Where an address cannot be had it
// fails at once. systemd hears READY when all checks pass, or after ten
// seconds: a program that waits for others is not one to restart.
func (s *Server) Run(ctx context.Context) error {
	open := s.cfg.Open
	if open == nil {
		open = new(net.ListenConfig).Listen
	}
	var listeners []net.Listener
	for _, a := range s.cfg.Listen {
		l, err := open(ctx, "tcp", a)
		if err != nil {
			for _, l := range listeners {
				l.Close()
			}
			return fmt.Errorf("health and metrics: %w", err)
		}
		listeners = append(listeners, l)
	}
	s.mu.Lock()
	for _, l := range listeners {
		s.addrs = append(s.addrs, l.Addr())
	}
	s.mu.Unlock()

	srv := &http.Server{Handler: s.Handler(), ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10}
	var wg sync.WaitGroup
	for _, l := range listeners {
		wg.Go(func() {
			if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				s.cfg.Logger.Error("serving: stopped answering", "address", l.Addr().String(), "err", err)
			}
		})
	}
	wg.Go(func() { s.tell(ctx) })
	<-ctx.Done()
	s.Stopping()
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if srv.Shutdown(end) != nil {
		srv.Close()
	}
	wg.Wait()
	return nil
}

// readyWithin is when systemd hears READY at the latest.
const readyWithin = 10 * time.Second

// tell keeps systemd informed until ctx ends.
func (s *Server) tell(ctx context.Context) {
	watchdog, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		s.cfg.Logger.Warn("serving: watchdog", "err", err)
	}
	period := time.Second
	if watchdog > 0 {
		period = min(period, watchdog/3)
	}
	tick := time.NewTicker(period)
	defer tick.Stop()
	began, told, status := time.Now(), false, ""
	for {
		r := s.report()
		if !told && (r.Ready || time.Since(began) >= readyWithin) {
			told = true
			s.notify(daemon.SdNotifyReady)
		}
		if now := r.first(); now != status && !s.stopping.Load() {
			status = now
			s.notify("STATUS=" + status)
		}
		if watchdog > 0 {
			s.feed()
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// feed keeps the watchdog quiet, unless the program should be restarted.
func (s *Server) feed() {
	if s.cfg.Alive != nil {
		if err := s.cfg.Alive(); err != nil {
			s.cfg.Logger.Error("serving: not alive; leaving the restart to the watchdog", "err", err)
			return
		}
	}
	s.notify(daemon.SdNotifyWatchdog)
}
