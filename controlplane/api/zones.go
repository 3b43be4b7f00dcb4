package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"meridian/controlplane"
	"meridian/dns/zone"
	"meridian/fleet"
	"meridian/rules"
)

// Zones lists zones and changes those that the API writes;
// *controlplane.ControlPlane is one.
type Zones interface {
	ZoneNames() []fleet.Name // in order
	ZoneInfo(name fleet.Name) (controlplane.ZoneInfo, error)
	Zone(name fleet.Name) (z *zone.Zone, etag string, err error)
	WriteZone(ctx context.Context, name fleet.Name, base string, edit controlplane.Edit) (controlplane.ZoneInfo, error)
	DeleteZone(ctx context.Context, name fleet.Name, base string) error
}

// Served is what this node's nameserver serves.
type Served interface {
	Zone(name fleet.Name) *zone.Zone   // nil where it does not serve it
	Static(name fleet.Name) *zone.Zone // as transfers show it: steered names with records; nil likewise
	ZoneNames() []fleet.Name           // in any order
}

const (
	maxZone  = 64 << 20 // octets of a PUT /zones/NAME
	maxPatch = 4 << 20
	pageSize = 100 // zones of GET /zones, unless limit says otherwise
	maxPage  = 1000
)

// ZoneList is the answer of GET /zones.
type ZoneList struct {
	Zones []controlplane.ZoneInfo `json:"zones"`
	Total int                     `json:"total"`
	Next  string                  `json:"next,omitempty"` // after which the next page begins; empty at the end
}

// ZoneReply is the answer of GET /zones/NAME as JSON.
type ZoneReply struct {
	controlplane.ZoneInfo
	RRsets []rules.RRset `json:"rrsets"`
}

func (s *Server) zoneRoutes(secret func(string, methods)) {
	if s.cfg.Zones == nil && s.cfg.Served == nil {
		return
	}
	secret("/zones", methods{"GET": s.listZones})
	m := methods{"GET": s.getZone}
	if s.cfg.Zones != nil {
		m["PUT"], m["PATCH"], m["DELETE"] = s.putZone, s.patchZone, s.deleteZone
	} else {
		for _, method := range []string{"PUT", "PATCH", "DELETE"} {
			m[method] = func(w http.ResponseWriter, _ *http.Request) {
				fail(w, http.StatusNotFound, errNoControl)
			}
		}
	}
	secret("/zones/{name}", m)
	secret("/zones/{name}/{action}", methods{"POST": s.zoneAction})
}

// zoneName gives the name in the path; "@" stands for the root.
func zoneName(w http.ResponseWriter, r *http.Request) (fleet.Name, bool) {
	text := r.PathValue("name")
	if text == "@" {
		return ".", true
	}
	n, err := fleet.ParseName(text)
	if err != nil {
		fail(w, http.StatusBadRequest, fmt.Errorf("zone: %w", err))
		return "", false
	}
	return n, true
}

// names lists all zones, those that only the nameserver knows (transferred
// ones) among them.
func (s *Server) names() []fleet.Name {
	var out []fleet.Name
	if s.cfg.Zones != nil {
		out = s.cfg.Zones.ZoneNames()
	}
	if s.cfg.Served != nil {
		out = append(out, s.cfg.Served.ZoneNames()...)
		slices.Sort(out)
		out = slices.Compact(out)
	}
	return out
}

// zoneInfo joins what the control plane and the nameserver know of a zone.
func (s *Server) zoneInfo(name fleet.Name) (controlplane.ZoneInfo, error) {
	info, err := controlplane.ZoneInfo{Zone: name, Source: "file", State: "ok"}, error(nil)
	if s.cfg.World != nil {
		if w := s.cfg.World(); w != nil {
			info.Source = controlplane.SourceOf(w, name)
		}
	}
	if s.cfg.Zones != nil {
		if info, err = s.cfg.Zones.ZoneInfo(name); err != nil {
			info = controlplane.ZoneInfo{Zone: name, Source: "catalog", State: "ok"}
		}
	}
	if s.cfg.Served != nil {
		if z := s.cfg.Served.Zone(name); z != nil {
			info.Serial, info.Records, info.Signed, err = z.Serial, z.Records(), z.Signed, nil
			if len(info.Warnings) == 0 {
				info.Warnings = z.Warnings
			}
			if info.Source == "primaries" || info.State == "empty" {
				info.State = "ok"
			}
		} else if s.cfg.Zones == nil {
			err = fmt.Errorf("%w: %s", controlplane.ErrNoZone, name)
		}
	}
	if s.cfg.ZoneState != nil && err == nil {
		if state := s.cfg.ZoneState(name); state != "" {
			info.State = state
		}
	}
	return info, err
}

func (s *Server) listZones(w http.ResponseWriter, r *http.Request) {
	q, err := parameters(r, "after", "limit")
	limit := pageSize
	if err == nil && q.Get("limit") != "" {
		if limit, err = strconv.Atoi(q.Get("limit")); err != nil || limit < 1 || limit > maxPage {
			err = fmt.Errorf("limit: %q is not 1 to %d", q.Get("limit"), maxPage)
		}
	}
	if err != nil {
		fail(w, http.StatusBadRequest, err)
		return
	}
	names := s.names()
	out := ZoneList{Zones: []controlplane.ZoneInfo{}, Total: len(names)}
	at, found := slices.BinarySearch(names, fleet.Name(q.Get("after")))
	if found {
		at++
	}
	for ; at < len(names) && len(out.Zones) < limit; at++ {
		info, err := s.zoneInfo(names[at])
		if err != nil {
			info.Zone, info.State = names[at], err.Error()
		}
		out.Zones = append(out.Zones, info)
	}
	if at < len(names) {
		out.Next = string(names[at-1])
	}
	reply(w, http.StatusOK, out)
}

// content gives a zone as its writer wrote it, or with served as nameservers
// serve it to secondaries.
func (s *Server) content(name fleet.Name, served bool) (z *zone.Zone, tag string, err error) {
	err = fmt.Errorf("%w: %s", controlplane.ErrNoZone, name)
	if s.cfg.Zones != nil && !served {
		z, tag, err = s.cfg.Zones.Zone(name)
	}
	if err != nil && s.cfg.Served != nil {
		show := s.cfg.Served.Zone
		if served {
			show = s.cfg.Served.Static
		}
		if have := show(name); have != nil {
			return have, "", nil
		}
	}
	return z, tag, err
}

func (s *Server) getZone(w http.ResponseWriter, r *http.Request) {
	name, ok := zoneName(w, r)
	if !ok {
		return
	}
	q, err := parameters(r, "served")
	if err != nil {
		fail(w, http.StatusBadRequest, err)
		return
	}
	served, err := flag(q, "served")
	if err != nil {
		fail(w, http.StatusBadRequest, err)
		return
	}
	z, tag, err := s.content(name, served)
	if err != nil {
		s.failZone(w, name, err)
		return
	}
	w.Header().Set("Vary", "Accept")
	if tag != "" {
		w.Header().Set("ETag", `"`+tag+`"`)
		if r.Header.Get("If-None-Match") == `"`+tag+`"` {
			w.WriteHeader(http.StatusNotModified)
			return
		}
	}
	if !strings.Contains(r.Header.Get("Accept"), "json") {
		w.Header().Set("Content-Type", "text/dns") // RFC 4027
		if err := z.WriteText(w); err != nil {
			s.log.Debug("zone not sent", "zone", name, "error", err)
		}
		return
	}
	info, err := s.zoneInfo(name)
	if err != nil {
		s.failZone(w, name, err)
		return
	}
	reply(w, http.StatusOK, ZoneReply{info, rules.RRsets(z, served)})
}

// zoneBase gives what a change builds on, by If-Match or If-None-Match.
func zoneBase(r *http.Request) (string, error) {
	match, none := r.Header.Get("If-Match"), r.Header.Get("If-None-Match")
	switch {
	case match != "" && none != "":
		return "", errors.New("expected either If-Match or If-None-Match")
	case none == "*":
		return controlplane.Absent, nil
	case none != "":
		return "", fmt.Errorf("If-None-Match: expected *, got %q", none)
	case match == "":
		return controlplane.AnyBase, nil
	case match == "*":
		return controlplane.Exists, nil
	}
	m := etagForm.FindStringSubmatch(match)
	if m == nil {
		return "", fmt.Errorf("If-Match: expected one ETag in quotes, got %q", match)
	}
	return m[1], nil
}

var etagForm = regexp.MustCompile(`^"([0-9A-Za-z]{1,64})"$`)

// change reads what PUT, PATCH and DELETE have alike.
func (s *Server) change(w http.ResponseWriter, r *http.Request, limit int64) (name fleet.Name, base string, body []byte, ok bool) {
	if name, ok = zoneName(w, r); !ok {
		return
	}
	_, err := parameters(r)
	if err == nil {
		base, err = zoneBase(r)
	}
	if err != nil {
		fail(w, http.StatusBadRequest, err)
		return name, base, nil, false
	}
	if body, err = io.ReadAll(http.MaxBytesReader(w, r.Body, limit)); err != nil {
		s.failRead(w, err)
		return name, base, nil, false
	}
	return name, base, body, true
}

// putZone makes a zone's content that of a master file.
func (s *Server) putZone(w http.ResponseWriter, r *http.Request) {
	name, base, body, ok := s.change(w, r, maxZone)
	if !ok {
		return
	}
	next, err := zone.Load(name, body, bodyFile)
	if err != nil {
		s.failZone(w, name, fmt.Errorf("%w: %w", controlplane.ErrZone, err))
		return
	}
	made := false
	info, err := s.cfg.Zones.WriteZone(r.Context(), name, base, func(cur *zone.Zone) (*zone.Zone, error) {
		made = cur == nil
		return next, nil
	})
	code := http.StatusOK
	if made {
		code = http.StatusCreated
	}
	s.written(w, code, name, info, err)
}

// patchZone replaces RRsets.
func (s *Server) patchZone(w http.ResponseWriter, r *http.Request) {
	name, base, body, ok := s.change(w, r, maxPatch)
	if !ok {
		return
	}
	var sets []rules.RRset
	if err := strict(body, &sets); err != nil {
		fail(w, http.StatusBadRequest, fmt.Errorf("expected a list of RRsets {name, type, ttl, records, delete}: %w", err))
		return
	}
	info, err := s.cfg.Zones.WriteZone(r.Context(), name, base, func(cur *zone.Zone) (*zone.Zone, error) {
		if cur == nil {
			return nil, fmt.Errorf("%w: %s", controlplane.ErrNoZone, name)
		}
		next, err := rules.Patch(cur, sets)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", controlplane.ErrZone, err)
		}
		return next, nil
	})
	s.written(w, http.StatusOK, name, info, err)
}

func (s *Server) deleteZone(w http.ResponseWriter, r *http.Request) {
	name, base, _, ok := s.change(w, r, 0)
	if !ok {
		return
	}
	if err := s.cfg.Zones.DeleteZone(r.Context(), name, base); err != nil {
		s.failZone(w, name, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (s *Server) written(w http.ResponseWriter, code int, name fleet.Name, info controlplane.ZoneInfo, err error) {
	if err != nil {
		s.failZone(w, name, err)
		return
	}
	if info.ETag != "" {
		w.Header().Set("ETag", `"`+info.ETag+`"`)
	}
	reply(w, code, info)
}

// zoneAction tells secondaries of a zone (notify), asks its primaries whether
// it has changed (refresh), or transfers it whole (retransfer).
func (s *Server) zoneAction(w http.ResponseWriter, r *http.Request) {
	name, ok := zoneName(w, r)
	if !ok {
		return
	}
	action := r.PathValue("action")
	if !slices.Contains([]string{"notify", "refresh", "retransfer"}, action) {
		fail(w, http.StatusNotFound, fmt.Errorf("%q: expected notify, refresh or retransfer", action))
		return
	}
	if s.cfg.ZoneAction == nil {
		fail(w, http.StatusNotFound, errors.New("this node transfers no zones; ask a nameserver"))
		return
	}
	if err := s.cfg.ZoneAction(r.Context(), name, action); err != nil {
		s.failZone(w, name, err)
		return
	}
	w.WriteHeader(http.StatusAccepted)
}

// bodyFile stands for the body in errors about its lines.
const bodyFile = "body"

var bodyLine = regexp.MustCompile(`^` + bodyFile + `:(\d+): (.*)$`)

// failZone answers with what is wrong about a zone.
func (s *Server) failZone(w http.ResponseWriter, name fleet.Name, err error) {
	switch {
	case errors.Is(err, controlplane.ErrNoZone):
		fail(w, http.StatusNotFound, err)
	case errors.Is(err, controlplane.ErrOtherWriter):
		fail(w, http.StatusConflict, err)
	case errors.Is(err, controlplane.ErrChanged):
		fail(w, http.StatusPreconditionFailed, err)
	case errors.Is(err, controlplane.ErrZone):
		reply(w, http.StatusUnprocessableEntity, zoneProblem(name, err))
	default:
		s.failWith(w, err)
	}
}

// zoneProblem lists what is wrong with a content, with lines where they are
// known.
func zoneProblem(name fleet.Name, err error) *Problem {
	p := &Problem{Message: fmt.Sprintf("zone %s cannot be served with this content", name)}
	for _, e := range leaves(err) {
		var fe *fleet.FieldError
		if errors.As(e, &fe) {
			p.Errors = append(p.Errors, Field{Path: fe.Path, Line: fe.Line, Message: fe.Msg})
			continue
		}
		for _, text := range strings.Split(e.Error(), "\n") {
			f := Field{Path: string(name), Message: text}
			if m := bodyLine.FindStringSubmatch(text); m != nil {
				f.Line, _ = strconv.Atoi(m[1])
				f.Message = m[2]
			}
			if text != controlplane.ErrZone.Error() {
				p.Errors = append(p.Errors, f)
			}
		}
	}
	return p
}

// ZonePath gives the path of a zone in the API.
func ZonePath(name fleet.Name) string {
	if name == "." {
		return "/zones/@"
	}
	return "/zones/" + url.PathEscape(string(name))
}
