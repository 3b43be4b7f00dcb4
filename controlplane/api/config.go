package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"meridian/controlplane"
	"meridian/fleet"
	"meridian/node"
)

const (
	maxConfig = 128 << 20 // octets of a POST /config
	maxShift  = 64 << 10
)

// Bundle is a Spec with the objects that it names: zone files, certificates
// and authorities live with the operator, and travel with the Spec.
type Bundle struct {
	Spec    string         `json:"spec"` // the document, YAML or JSON
	Objects []BundleObject `json:"objects"`
}

// BundleObject is one object; Data is base64 in JSON.
type BundleObject struct {
	Kind fleet.ObjectKind `json:"kind"` // zone, certificate, ca, secret, page or latency
	ID   string           `json:"id"`   // zone: its name; certificate: its id; else the reference
	File string           `json:"file,omitempty"`
	Data []byte           `json:"data"`
}

// parameters refuses query parameters that are not known, so that a misspelt
// dry_run changes nothing.
func parameters(r *http.Request, known ...string) (url.Values, error) {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, fmt.Errorf("query: %w", err)
	}
	for k := range q {
		if !slices.Contains(known, k) {
			return nil, fmt.Errorf("query parameter %q is unknown; expected one of %s", k, strings.Join(known, ", "))
		}
	}
	return q, nil
}

func flag(q url.Values, name string) (bool, error) {
	switch v := q.Get(name); v {
	case "", "0", "false":
		return false, nil
	case "1", "true":
		return true, nil
	default:
		return false, fmt.Errorf("%s: %q is not 0 or 1", name, v)
	}
}

// baseOf gives the revision that a change builds on: ?base=REV or If-Match.
func baseOf(r *http.Request, q url.Values) (*uint64, error) {
	text, name := q.Get("base"), "base"
	if text == "" {
		text, name = q.Get("revision"), "revision" // the same by another name
	}
	if text == "" {
		text, name = strings.Trim(r.Header.Get("If-Match"), `"`), "If-Match"
	}
	if text == "" || text == "*" {
		return nil, nil
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return nil, fmt.Errorf("%s: %q is not a revision", name, text)
	}
	return &n, nil
}

func (s *Server) postConfig(w http.ResponseWriter, r *http.Request) {
	q, err := parameters(r, "base", "revision", "dry_run")
	if err != nil {
		fail(w, http.StatusBadRequest, err)
		return
	}
	dry, err1 := flag(q, "dry_run")
	base, err2 := baseOf(r, q)
	if err := errors.Join(err1, err2); err != nil {
		fail(w, http.StatusBadRequest, err)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxConfig))
	if err != nil {
		s.failRead(w, err)
		return
	}
	sub, err := parseConfig(body)
	if err != nil {
		fail(w, http.StatusBadRequest, err)
		return
	}
	sub.Base, sub.DryRun = base, dry
	res, err := s.cfg.Control.Submit(r.Context(), sub)
	if err != nil {
		s.failWith(w, err)
		return
	}
	w.Header().Set("ETag", etag(res.Revision))
	reply(w, http.StatusOK, res)
}

func (s *Server) failRead(w http.ResponseWriter, err error) {
	var tooBig *http.MaxBytesError
	if errors.As(err, &tooBig) {
		s.failWith(w, err)
		return
	}
	fail(w, http.StatusBadRequest, fmt.Errorf("body: %w", err))
}

// parseConfig reads the body of POST /config: a Bundle, or a Spec alone, whose
// objects are those of the current revision. A Spec has no key "spec".
func parseConfig(body []byte) (controlplane.Submission, error) {
	var probe struct {
		Spec *json.RawMessage `json:"spec"`
	}
	if !bytes.HasPrefix(bytes.TrimSpace(body), []byte("{")) || json.Unmarshal(body, &probe) != nil || probe.Spec == nil {
		return controlplane.Submission{Doc: body, Reuse: true}, nil
	}
	var b Bundle
	if err := strict(body, &b); err != nil {
		return controlplane.Submission{}, fmt.Errorf("bundle: %w", err)
	}
	sub := controlplane.Submission{Doc: []byte(b.Spec)}
	for i, o := range b.Objects {
		switch o.Kind {
		case fleet.ObjectZone, fleet.ObjectCertificate, fleet.ObjectCA, fleet.ObjectSecret, fleet.ObjectPage, fleet.ObjectLatency:
		default:
			return sub, fmt.Errorf("bundle: objects[%d].kind: %q is not zone, certificate, ca, secret, page or latency", i, o.Kind)
		}
		sub.Objects = append(sub.Objects, fleet.Object{Key: fleet.ObjectKey{Kind: o.Kind, ID: o.ID}, Data: o.Data, File: o.File})
	}
	return sub, nil
}

// strict decodes exactly one JSON value without unknown keys.
func strict(body []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return errors.New(strings.TrimPrefix(err.Error(), "json: "))
	}
	if _, err := dec.Token(); err != io.EOF {
		return errors.New("more follows after the JSON value")
	}
	return nil
}

func etag(revision uint64) string { return `"` + strconv.FormatUint(revision, 10) + `"` }

// getConfig answers with the complete Spec as JSON. It holds references to
// secrets only.
func (s *Server) getConfig(w http.ResponseWriter, r *http.Request) {
	world := s.cfg.Control.Current()
	if world == nil {
		fail(w, http.StatusNotFound, errors.New("there is no Spec yet; submit one with gslb apply"))
		return
	}
	tag := etag(world.Snapshot.Revision)
	w.Header().Set("ETag", tag)
	if r.Header.Get("If-None-Match") == tag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	reply(w, http.StatusOK, world.Snapshot.Spec)
}

func (s *Server) rollback(w http.ResponseWriter, r *http.Request) {
	q, err := parameters(r, "to", "base", "revision")
	if err != nil {
		fail(w, http.StatusBadRequest, err)
		return
	}
	base, err := baseOf(r, q)
	if err != nil {
		fail(w, http.StatusBadRequest, err)
		return
	}
	to := uint64(0)
	if v := q.Get("to"); v != "" {
		if to, err = strconv.ParseUint(v, 10, 64); err != nil {
			fail(w, http.StatusBadRequest, fmt.Errorf("to: %q is not a revision", v))
			return
		}
	}
	res, err := s.cfg.Control.Rollback(r.Context(), to, base)
	if err != nil {
		s.failWith(w, err)
		return
	}
	w.Header().Set("ETag", etag(res.Revision))
	reply(w, http.StatusOK, res)
}

// ShiftRequest is the body of POST /traffic-shift.
type ShiftRequest struct {
	ID      string         `json:"id,omitempty"`
	From    string         `json:"from"`
	Service string         `json:"service,omitempty"`
	To      []string       `json:"to,omitempty"`
	Share   float64        `json:"share"` // 0 to 1
	Drain   bool           `json:"drain,omitempty"`
	For     fleet.Duration `json:"for,omitempty"` // instead of expires
	Expires time.Time      `json:"expires,omitzero"`
	Reason  string         `json:"reason,omitempty"`
	Created time.Time      `json:"created,omitzero"` // ignored: a shift that was read may be sent back
}

func (q *ShiftRequest) shift(now time.Time) (fleet.Shift, error) {
	sh := fleet.Shift{ID: q.ID, From: q.From, Service: q.Service, To: q.To, Share: q.Share, Drain: q.Drain, Expires: q.Expires, Reason: q.Reason}
	if q.For > 0 {
		if !q.Expires.IsZero() {
			return sh, errors.New("expected either for or expires")
		}
		sh.Expires = now.Add(q.For.D())
	}
	return sh, nil
}

func (s *Server) postShift(w http.ResponseWriter, r *http.Request) {
	q, err := parameters(r, "dry_run")
	if err != nil {
		fail(w, http.StatusBadRequest, err)
		return
	}
	dry, err := flag(q, "dry_run")
	if err != nil {
		fail(w, http.StatusBadRequest, err)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxShift))
	if err != nil {
		s.failRead(w, err)
		return
	}
	var req ShiftRequest
	err = strict(body, &req)
	var sh fleet.Shift
	if err == nil {
		sh, err = req.shift(time.Now())
	}
	if err != nil {
		fail(w, http.StatusBadRequest, fmt.Errorf("shift: %w", err))
		return
	}
	res, err := s.cfg.Control.AddShift(r.Context(), sh, dry)
	if err != nil {
		s.failWith(w, err)
		return
	}
	reply(w, http.StatusOK, res)
}

func (s *Server) getShifts(w http.ResponseWriter, _ *http.Request) {
	reply(w, http.StatusOK, s.cfg.Control.Shifts())
}

func (s *Server) deleteShift(w http.ResponseWriter, r *http.Request) {
	err := s.cfg.Control.RemoveShift(r.Context(), r.PathValue("id"))
	switch {
	case errors.Is(err, controlplane.ErrRefused):
		fail(w, http.StatusNotFound, err)
	case err != nil:
		s.failWith(w, err)
	default:
		w.WriteHeader(http.StatusNoContent)
	}
}

// StatusReply is the answer of GET /status.
type StatusReply struct {
	controlplane.Status
	Agent *node.Status `json:"agent,omitempty"` // what this node works with
}

func (s *Server) status(w http.ResponseWriter, _ *http.Request) {
	var out StatusReply
	if s.cfg.Control != nil {
		out.Status = s.cfg.Control.Status()
	}
	if s.cfg.Agent != nil {
		a := s.cfg.Agent()
		out.Agent = &a
		if s.cfg.Control == nil {
			out.Node, out.Revision, out.Hash, out.Since, out.Source = a.Node, a.Revision, a.Hash, a.Since, a.Source
		}
	}
	if s.cfg.Control == nil && s.cfg.Problem != nil {
		out.Problem = s.cfg.Problem()
	}
	reply(w, http.StatusOK, out)
}

// explain answers GET, and POST with a Spec's document as body, by which the
// node then answers in place of its own, under its own health.
func (s *Server) explain(w http.ResponseWriter, r *http.Request) {
	q, err := parameters(r, "name", "type", "client", "down", "weight", "shift", "record")
	var spec []byte
	if err == nil && r.Method == http.MethodPost {
		spec, err = io.ReadAll(http.MaxBytesReader(w, r.Body, maxConfig))
	}
	if err != nil {
		fail(w, http.StatusBadRequest, err)
		return
	}
	v, err := s.cfg.Explain(q, spec)
	if err != nil {
		fail(w, http.StatusBadRequest, err)
		return
	}
	reply(w, http.StatusOK, v)
}
