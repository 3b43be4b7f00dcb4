package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"meridian/edge/xdp"
	"meridian/fleet"
	"meridian/rules"
)

// looker answers edge explain and edge plan on the running node, at --health,
// to callers on this machine. It changes nothing.
type looker struct {
	layer4  atomic.Pointer[xdp.Layer4] // nil: none yet, or the node has none
	planner sync.Mutex                 // one plan at a time
}

func (l *looker) handlers() map[string]http.Handler {
	return map[string]http.Handler{
		"GET /explain": l.local(l.explain),
		"POST /plan":   l.local(l.plan),
	}
}

// refusal is an error with an HTTP status.
type refusal struct {
	status int
	error
}

func refuse(status int, format string, args ...any) error {
	return refusal{status, fmt.Errorf(format, args...)}
}

// problem is the body of a refused call.
type problem struct {
	Error string `json:"error"`
}

// local serves what f gives as JSON, to this machine alone.
func (l *looker) local(f func(*xdp.Layer4, *http.Request) (any, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v, err := l.answer(f, r)
		status := http.StatusOK
		var no refusal
		switch {
		case errors.As(err, &no):
			status = no.status
		case err != nil:
			status = http.StatusInternalServerError
		}
		if err != nil {
			v = problem{err.Error()}
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(v)
	})
}

func (l *looker) answer(f func(*xdp.Layer4, *http.Request) (any, error), r *http.Request) (any, error) {
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || !from.Addr().Unmap().IsLoopback() {
		return nil, refuse(http.StatusForbidden, "only for callers on this machine")
	}
	x := l.layer4.Load()
	if x == nil {
		return nil, refuse(http.StatusServiceUnavailable, "this node has no layer 4, or no configuration yet")
	}
	return f(x, r)
}

func (l *looker) explain(x *xdp.Layer4, r *http.Request) (any, error) {
	q := r.URL.Query()
	flow, err := xdp.ParseFlow(q.Get("protocol"), q.Get("client"), q.Get("vip"))
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "%w", err)
	}
	return x.Explain(flow)
}

// maxSpec bounds a Spec that is to be planned, octets.
const maxSpec = 16 << 20

func (l *looker) plan(x *xdp.Layer4, r *http.Request) (any, error) {
	doc, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, maxSpec))
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "read the Spec: %w", err)
	}
	if !l.planner.TryLock() {
		return nil, refuse(http.StatusTooManyRequests, "another plan is being made")
	}
	defer l.planner.Unlock()
	snap, err := rules.Compile(doc, 0)
	if err != nil {
		return nil, refuse(http.StatusUnprocessableEntity, "%w", err)
	}
	list, err := x.Changes(&fleet.World{Snapshot: snap})
	if err != nil {
		return nil, refuse(http.StatusUnprocessableEntity, "%w", err)
	}
	return list, nil
}

// node asks the running node.
type nodeClient struct {
	address string // of --health, or a URL
	http    http.Client
}

func newNodeClient(address string) *nodeClient {
	return &nodeClient{address, http.Client{Timeout: 30 * time.Second}}
}

// call reads a reply into v. Errors are the node's own words, or why it could
// not be asked.
func (c *nodeClient) call(method, path string, query url.Values, body io.Reader, v any) error {
	base := c.address
	if !strings.Contains(base, "://") {
		base = "http://" + base
	}
	req, err := http.NewRequest(method, strings.TrimSuffix(base, "/")+path+"?"+query.Encode(), body)
	if err != nil {
		return fmt.Errorf("--health: %w", err)
	}
	resp, err := c.http.Do(req)
	var opErr *net.OpError
	if errors.As(err, &opErr) {
		return fmt.Errorf("no node answers at %s (edge run --health): %w", c.address, opErr)
	}
	if err != nil {
		return fmt.Errorf("ask the node: %w", err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	if err != nil {
		return fmt.Errorf("ask the node: %w", err)
	}
	var p problem
	switch {
	case resp.StatusCode == http.StatusOK:
		err = json.Unmarshal(b, v)
	case json.Unmarshal(b, &p) == nil && p.Error != "":
		err = errors.New(p.Error)
	default:
		err = fmt.Errorf("%s answers %s", c.address, resp.Status)
	}
	return err
}

// show prints v as JSON, or as text does.
func show(asJSON bool, v any, text func(io.Writer)) error {
	if !asJSON {
		text(os.Stdout)
		return nil
	}
	enc := json.NewEncoder(os.Stdout)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
