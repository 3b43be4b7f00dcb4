package api

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"meridian/controlplane"
	"meridian/fleet"
	"meridian/node"
	"meridian/rules"
)

// Control is the control plane; *controlplane.ControlPlane is one.
type Control interface {
	Submit(ctx context.Context, sub controlplane.Submission) (*controlplane.Result, error)
	Rollback(ctx context.Context, to uint64, base *uint64) (*controlplane.Result, error)
	AddShift(ctx context.Context, sh fleet.Shift, dryRun bool) (*controlplane.ShiftResult, error)
	RemoveShift(ctx context.Context, id string) error
	Shifts() []fleet.Shift
	Status() controlplane.Status
	Current() *fleet.World
}

// Config is what a Server works with. What is nil is answered with 404, but
// for Token: without one, everything that needs it is refused.
type Config struct {
	Token     string
	Control   Control                                      // nil on a node without the role control
	Agent     func() node.Status                           // this node's
	Ready     func() error                                 // why this node cannot do its work
	Problem   func() string                                // what else is wrong, on a node without Control; "" for nothing
	World     func() *fleet.World                          // that the node works with
	View      func() *fleet.View                           // the node's
	Explain   func(q url.Values, spec []byte) (any, error) // errors are the caller's fault; spec: to suppose in place of the present one, or nil
	Zones     Zones                                        // nil where zones cannot be changed here
	Served    Served                                       // nil where this node is no nameserver
	ZoneState func(fleet.Name) string                      // how the transfers of a zone are; "" for nothing to tell
	Keys      http.Handler                                 // at /keys and below: zones' keys
	Queries   http.Handler                                 // at /queries: a trace of queries
	Events    *Feed
	Metrics   prometheus.Gatherer
	Dashboard http.Handler // read-only pages, at every path that is not the API's
	Logger    *slog.Logger

	// ZoneAction does notify, refresh or retransfer for a zone.
	ZoneAction func(ctx context.Context, zone fleet.Name, action string) error
}

// Server is the admin API.
type Server struct {
	cfg     Config
	log     *slog.Logger
	token   [sha256.Size]byte
	mux     *http.ServeMux
	started time.Time
	stop    context.Context // ends with Run, for streams
	cancel  context.CancelFunc
}

// New makes the API; it opens nothing.
func New(cfg Config) (*Server, error) {
	if cfg.Logger == nil {
		return nil, errors.New("admin API: expected a logger")
	}
	s := &Server{cfg: cfg, log: cfg.Logger, token: sha256.Sum256([]byte(cfg.Token)), mux: http.NewServeMux(), started: time.Now()}
	s.stop, s.cancel = context.WithCancel(context.Background())
	s.routes()
	return s, nil
}

// methods answers a path by method; others get 405.
type methods map[string]http.HandlerFunc

func (m methods) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	h, ok := m[method]
	if !ok {
		var allow []string
		for k := range m {
			allow = append(allow, k)
		}
		sort.Strings(allow)
		w.Header().Set("Allow", strings.Join(allow, ", "))
		fail(w, http.StatusMethodNotAllowed, fmt.Errorf("%s is not allowed here; use %s", r.Method, strings.Join(allow, " or ")))
		return
	}
	h(w, r)
}

func (s *Server) routes() {
	open := func(path string, m methods) { s.mux.Handle(path, m) }
	secret := func(path string, m methods) { s.mux.Handle(path, s.authenticated(m)) }
	open("/health", methods{"GET": s.health})
	open("/ready", methods{"GET": s.ready})
	if s.cfg.Metrics != nil {
		open("/metrics", methods{"GET": promhttp.HandlerFor(s.cfg.Metrics, promhttp.HandlerOpts{}).ServeHTTP})
	}
	secret("/status", methods{"GET": s.status})
	if s.cfg.Control != nil {
		secret("/config", methods{"GET": s.getConfig, "POST": s.postConfig})
		secret("/config/rollback", methods{"POST": s.rollback})
		secret("/traffic-shift", methods{"GET": s.getShifts, "POST": s.postShift})
		secret("/traffic-shift/{id}", methods{"DELETE": s.deleteShift})
	} else {
		s.elsewhere(errNoControl, "/config", "/traffic-shift")
	}
	if s.cfg.Keys == nil {
		s.elsewhere(errNoControl, "/keys")
	}
	s.zoneRoutes(secret)
	for path, h := range map[string]http.Handler{"/keys": s.cfg.Keys, "/queries": s.cfg.Queries} {
		if h != nil {
			s.mux.Handle(path, s.authenticated(h))
			s.mux.Handle(path+"/", s.authenticated(h))
		}
	}
	if s.cfg.Explain != nil {
		secret("/explain", methods{"GET": s.explain, "POST": s.explain})
	} else {
		s.elsewhere(errNoAnswers, "/explain")
	}
	if s.cfg.Events != nil {
		secret("/events", methods{"GET": s.events})
	}
	s.mux.HandleFunc("/", s.other)
}

// Why a node has not what it is asked for.
var (
	errNoControl = errors.New("this node runs no control plane; ask one that does")
	errNoAnswers = errors.New("this node answers by no Spec; there is nothing to explain")
)

// elsewhere answers for what this node has not.
func (s *Server) elsewhere(why error, paths ...string) {
	refuse := s.authenticated(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fail(w, http.StatusNotFound, why)
	}))
	for _, path := range paths {
		s.mux.Handle(path, refuse)
		s.mux.Handle(path+"/", refuse)
	}
}

// other serves the dashboard to callers on this machine, and 404 otherwise.
func (s *Server) other(w http.ResponseWriter, r *http.Request) {
	switch {
	case s.cfg.Dashboard == nil:
		fail(w, http.StatusNotFound, fmt.Errorf("%s does not exist", r.URL.Path))
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		methods{"GET": s.cfg.Dashboard.ServeHTTP}.ServeHTTP(w, r)
	case loopback(r) || s.allowed(r):
		s.cfg.Dashboard.ServeHTTP(w, r)
	default:
		s.unauthorized(w)
	}
}

// loopback says whether the caller is on this machine and means it: a page of
// another site that had its name point here says that name in Host.
func loopback(r *http.Request) bool {
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || !from.Addr().Unmap().IsLoopback() {
		return false
	}
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	a, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && a.Unmap().IsLoopback()
}

// allowed says whether the request has the token; it takes the same time for
// every wrong one.
func (s *Server) allowed(r *http.Request) bool {
	got, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	sum := sha256.Sum256([]byte(strings.TrimSpace(got)))
	return subtle.ConstantTimeCompare(sum[:], s.token[:]) == 1 && ok && s.cfg.Token != ""
}

func (s *Server) unauthorized(w http.ResponseWriter) {
	w.Header().Set("WWW-Authenticate", `Bearer realm="meridian"`)
	fail(w, http.StatusUnauthorized, errors.New("expected Authorization: Bearer TOKEN; the token is in admin.token in the node's data directory"))
}

func (s *Server) authenticated(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !s.allowed(r) {
			s.unauthorized(w)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// ServeHTTP serves one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	s.mux.ServeHTTP(w, r)
}

// Run serves the listener, which it closes, until ctx ends.
func (s *Server) Run(ctx context.Context, l net.Listener) error {
	srv := &http.Server{Handler: s, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: time.Minute,
		IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10, ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug)}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	select {
	case err := <-done:
		return fmt.Errorf("admin API: %w", err)
	case <-ctx.Done():
	}
	s.cancel()
	limited, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if err := srv.Shutdown(limited); err != nil {
		_ = srv.Close()
	}
	<-done
	return nil
}

// Problem is the body of every error.
type Problem struct {
	Message string  `json:"error"`
	Errors  []Field `json:"errors,omitempty"`  // one for each wrong field or object
	Current uint64  `json:"current,omitempty"` // on a conflict: the current revision
}

// Field is what is wrong with one field or object.
type Field struct {
	Path    string `json:"path"`           // in the Spec, or the object
	Line    int    `json:"line,omitempty"` // in the Spec
	Message string `json:"message"`
}

// Error lists all that is wrong, a line each.
func (p *Problem) Error() string {
	lines := []string{p.Message}
	for _, f := range p.Errors {
		at := f.Path
		if f.Line > 0 {
			at = fmt.Sprintf("line %d: %s", f.Line, f.Path)
		}
		lines = append(lines, "  "+at+": "+f.Message)
	}
	return strings.Join(lines, "\n")
}

// problem gives the status and body for an error.
func problem(err error) (int, *Problem) {
	var conflict *controlplane.ConflictError
	var tooBig *http.MaxBytesError
	var item *controlplane.ItemConflictError
	switch {
	case errors.As(err, &item):
		return http.StatusConflict, &Problem{Message: err.Error()}
	case errors.As(err, &conflict):
		return http.StatusConflict, &Problem{Message: err.Error(), Current: conflict.Current}
	case errors.Is(err, controlplane.ErrStoreAway):
		return http.StatusServiceUnavailable, &Problem{Message: err.Error()}
	case errors.Is(err, controlplane.ErrRefused):
		return http.StatusUnprocessableEntity, &Problem{Message: err.Error()}
	case errors.As(err, &tooBig):
		return http.StatusRequestEntityTooLarge, &Problem{Message: fmt.Sprintf("body is larger than %d octets", tooBig.Limit)}
	}
	if fields := fieldsOf(err); len(fields) > 0 {
		n := fmt.Sprintf("the Spec has %d errors", len(fields))
		if len(fields) == 1 {
			n = "the Spec has one error"
		}
		return http.StatusUnprocessableEntity, &Problem{Message: n, Errors: fields}
	}
	return http.StatusInternalServerError, &Problem{Message: err.Error()}
}

// ProblemOf gives an error in the form in which the API answers with it.
func ProblemOf(err error) *Problem {
	_, p := problem(err)
	return p
}

// fieldsOf lists what is wrong with a Spec and its objects; empty for any
// other error.
func fieldsOf(err error) []Field {
	var out []Field
	for _, e := range leaves(err) {
		var fe *fleet.FieldError
		var oe *rules.ObjectError
		switch {
		case errors.As(e, &fe):
			out = append(out, Field{fe.Path, fe.Line, fe.Msg})
		case errors.As(e, &oe):
			out = append(out, Field{oe.Path(), oe.Line, oe.Msg})
		default:
			return nil
		}
	}
	return out
}

func leaves(err error) []error {
	if j, ok := err.(interface{ Unwrap() []error }); ok {
		var out []error
		for _, e := range j.Unwrap() {
			out = append(out, leaves(e)...)
		}
		return out
	}
	return []error{err}
}

// fail answers with an error.
func fail(w http.ResponseWriter, code int, err error) {
	var p *Problem
	if !errors.As(err, &p) {
		p = &Problem{Message: err.Error()}
	}
	reply(w, code, p)
}

func (s *Server) failWith(w http.ResponseWriter, err error) {
	code, p := problem(err)
	if code >= 500 {
		s.log.Error("admin request failed", "error", err)
	}
	reply(w, code, p)
}

func reply(w http.ResponseWriter, code int, v any) {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		code, b = http.StatusInternalServerError, []byte(`{"error": "the answer does not encode"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = w.Write(append(b, '\n'))
}

// TokenFile is the name of the token's file in a node's data directory.
const TokenFile = "admin.token"

// LoadToken reads a token file.
func LoadToken(path string) (string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("admin token: %w", err)
	}
	t := strings.TrimSpace(string(b))
	if len(t) < 16 {
		return "", fmt.Errorf("admin token: %s: expected at least 16 characters", path)
	}
	return t, nil
}

// LoadOrCreateToken reads the token in a data directory, or draws one where
// there is none; its file is 0600.
func LoadOrCreateToken(dir string) (string, error) {
	path := filepath.Join(dir, TokenFile)
	b := make([]byte, 32)
	_, _ = rand.Read(b)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return LoadToken(path)
	}
	if err != nil {
		return "", fmt.Errorf("admin token: %w", err)
	}
	_, err = fmt.Fprintln(f, hex.EncodeToString(b))
	if err := errors.Join(err, f.Close()); err != nil {
		return "", fmt.Errorf("admin token: %w", err)
	}
	return hex.EncodeToString(b), nil
}
