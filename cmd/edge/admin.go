package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"meridian/edge/xdp"
	"meridian/fleet"
	"meridian/handover"
)

// admin is a node's own interface to its layer 4, for edge rule, top, capture,
// members, explain and plan: HTTP on a socket in the data directory, which only who may read
// that can open. Rules that are added are kept beside it, so that they outlive
// the process.
type admin struct {
	data    string
	log     *slog.Logger
	sockets *handover.Set
	upgrade func() (pid int, err error) // has another process take this one's place
	layer4  atomic.Pointer[xdp.Layer4]  // nil until the node has its place

	planner sync.Mutex // one plan at a time
	keeper  sync.Mutex // one who writes the rules at a time
}

const (
	socketName = "edge.sock"
	rulesName  = "rules.json"
	maxRule    = 64 << 10 // octets of a rule as it comes
)

// take puts a node's layer 4 behind the interface, with the rules that were
// added before and still hold.
func (a *admin) take(x *xdp.Layer4) {
	b, err := os.ReadFile(filepath.Join(a.data, rulesName))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		a.log.Error("rules that were added are lost", "error", err)
	}
	var list []json.RawMessage
	if len(b) > 0 {
		if err := json.Unmarshal(b, &list); err != nil {
			a.log.Error("rules that were added are lost", "file", rulesName, "error", err)
		}
	}
	for _, doc := range list {
		r, err := fleet.ParsePacketRule(doc)
		if err == nil && r.Until.After(time.Now()) {
			err = x.AddRule(*r)
		}
		if err != nil {
			a.log.Error("a rule that was added is lost", "error", err)
		}
	}
	a.layer4.Store(x)
}

// keep writes the rules that were added to the data directory. An error says that
// what was changed holds all the same.
func (a *admin) keep(x *xdp.Layer4) error {
	a.keeper.Lock()
	defer a.keeper.Unlock()
	if err := a.write(x); err != nil {
		return fmt.Errorf("done, but not for longer than this process runs: the rules cannot be kept: %w", err)
	}
	return nil
}

func (a *admin) write(x *xdp.Layer4) error {
	all, err := x.Rules()
	if err != nil {
		return err
	}
	added := []fleet.PacketRule{}
	for _, r := range all {
		if r.Origin == xdp.OriginNode {
			added = append(added, r.PacketRule)
		}
	}
	b, err := json.Marshal(added)
	if err != nil {
		return err
	}
	path := filepath.Join(a.data, rulesName)
	if err := os.WriteFile(path+".new", b, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// run serves until ctx ends. A node whose socket cannot be had does its work
// all the same.
func (a *admin) run(ctx context.Context) error {
	l, err := a.listen()
	if err != nil {
		a.log.Error("edge rule, top, capture, members, explain and plan cannot reach this node", "error", err)
		<-ctx.Done()
		return nil
	}
	return a.serve(ctx, l)
}

func (a *admin) listen() (net.Listener, error) {
	path := filepath.Join(a.data, socketName)
	return a.sockets.Listen("unix", path, func() (net.Listener, error) { return bind(path) })
}

func bind(path string) (net.Listener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

func (a *admin) serve(ctx context.Context, l net.Listener) error {
	srv := &http.Server{Handler: a.handler(ctx), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 10 * time.Second, MaxHeaderBytes: 16 << 10}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	<-ctx.Done()
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if srv.Shutdown(end) != nil {
		srv.Close()
	}
	if err := <-done; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("admin socket: %w", err)
	}
	return nil
}

// handler gives the interface; streams end with ctx.
func (a *admin) handler(ctx context.Context) http.Handler {
	mux := http.NewServeMux()
	with := func(do func(*xdp.Layer4, http.ResponseWriter, *http.Request)) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			x := a.layer4.Load()
			if x == nil {
				refuse(w, http.StatusServiceUnavailable, errors.New("this node has no layer 4, or no configuration yet"))
				return
			}
			do(x, w, r)
		}
	}
	mux.HandleFunc("GET /rules", with(func(x *xdp.Layer4, w http.ResponseWriter, r *http.Request) {
		list, err := x.Rules()
		answer(w, list, err)
	}))
	mux.HandleFunc("POST /rules", with(a.add))
	mux.HandleFunc("DELETE /rules/{name}", with(func(x *xdp.Layer4, w http.ResponseWriter, r *http.Request) {
		if name := r.PathValue("name"); !x.DropRule(name) {
			refuse(w, http.StatusNotFound, fmt.Errorf("no rule %q was added on this node; those of the Spec go with the Spec", name))
			return
		}
		answer(w, struct{}{}, a.keep(x))
	}))
	mux.HandleFunc("GET /traffic", with(func(x *xdp.Layer4, w http.ResponseWriter, r *http.Request) {
		t, err := x.Traffic()
		answer(w, t, err)
	}))
	mux.HandleFunc("GET /members", with(func(x *xdp.Layer4, w http.ResponseWriter, r *http.Request) {
		list, err := x.Members()
		answer(w, list, err)
	}))
	mux.HandleFunc("GET /explain", with(a.explain))
	mux.HandleFunc("POST /plan", with(a.plan))
	mux.HandleFunc("POST /upgrade", func(w http.ResponseWriter, _ *http.Request) {
		pid, err := a.upgrade()
		answer(w, upgraded{pid}, err)
	})
	mux.HandleFunc("GET /samples", with(func(x *xdp.Layer4, w http.ResponseWriter, r *http.Request) { stream(ctx, x, w, r) }))
	return mux
}

// add takes a rule in.
func (a *admin) add(x *xdp.Layer4, w http.ResponseWriter, r *http.Request) {
	doc, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRule))
	var rule *fleet.PacketRule
	if err == nil {
		rule, err = fleet.ParsePacketRule(doc)
	}
	if err == nil {
		err = x.AddRule(*rule)
	}
	if err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	answer(w, rule, a.keep(x))
}

// stream writes samples, one JSON object a line, until who reads goes away.
func stream(ctx context.Context, x *xdp.Layer4, w http.ResponseWriter, r *http.Request) {
	want := fleet.PacketSampling{}
	for key, v := range map[string]*int{"rate": &want.Rate, "per_second": &want.PerSecond} {
		n, err := strconv.Atoi(r.URL.Query().Get(key))
		if err != nil || n < 1 || n > 1_000_000 {
			refuse(w, http.StatusBadRequest, fmt.Errorf("%s: expected 1 to 1000000", key))
			return
		}
		*v = n
	}
	both, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(ctx, cancel)()
	out, flush := json.NewEncoder(w), http.NewResponseController(w)
	w.Header().Set("Content-Type", "application/x-ndjson")
	if flush.Flush() != nil {
		return
	}
	x.Samples(both, want, func(s *xdp.Sample) bool { return out.Encode(s) == nil && flush.Flush() == nil })
}

func answer(w http.ResponseWriter, v any, err error) {
	if err != nil {
		refuse(w, http.StatusInternalServerError, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // who asked is gone
}

// trouble is the body of an answer that is none.
type trouble struct {
	Error string `json:"error"`
}

func refuse(w http.ResponseWriter, code int, err error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(trouble{err.Error()}) // who asked is gone
}
