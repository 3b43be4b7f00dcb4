package l7

import (
	"net/http"

	"meridian/edge/l7/filter"
	"meridian/edge/l7/overload"
	"meridian/edge/l7/wire"
	"meridian/fleet"
)

// shaping is what an answer gets on its way from the endpoint to the client.
type shaping struct {
	coder    coder // nil: the body stays as it is
	coding   fleet.Coding
	streams  bool     // the endpoint did not say how long the body is
	held     bool     // the coder may hold something back
	keep     *keeping // nil: the answer is not kept
	personal bool     // the answer is for one client, or a part
	sticky   []byte   // cookie that keeps the client with its pool; nil: none to set

	stickyRoom [16]byte
	address    [48]byte
	vars       filter.Vars
}

// any says whether the body passes through hands.
func (s *shaping) any() bool { return s.coder != nil || s.keep != nil }

// flush sends on what a coder holds back, where the client may be waiting for
// it: of a body of known length it waits for the end.
func (s *shaping) flush() error {
	if s.coder == nil || !s.streams || !s.held {
		return nil
	}
	s.held = false
	return s.coder.Flush()
}

// shape changes the head of an endpoint's answer, and begins what is done with
// its body.
func (x *exchange) shape() {
	set := x.way.set
	if x.way.stale != nil {
		x.begunKeeping()
	}
	x.dress()
	if x.g.sheds(overload.Compress) {
		return
	}
	if coding := set.Compression.Choose(x.h, &x.ans); coding != "" && x.ans.Length != 0 {
		x.shaped.streams = x.ans.Length < 0
		filter.Mark(&x.ans, coding)
		x.shaped.coding = coding
		x.shaped.coder = x.g.coder(coding, (*frontWriter)(x))
		x.g.metrics.filters.compressed.WithLabelValues(x.service.spec.Service, string(coding)).Inc()
	}
}

// dress gives an answer, whoever made it, what the filters add to answers. To
// another region's gateway it goes bare: that one does the same.
func (x *exchange) dress() {
	set := x.set()
	if set == nil || x.foreign {
		return
	}
	if set.CORS != nil {
		set.CORS.Answer(x.h, &x.ans)
	}
	if x.shaped.sticky != nil {
		x.setSticky()
	}
	if set.HSTS != "" && x.scheme() == "https" && x.ans.Get(wire.StrictTransportSecurity) == nil {
		x.ans.AddBytes(wire.StrictTransportSecurity, octets(set.HSTS))
	}
	if set.Answer != nil {
		set.Answer.Apply(&x.ans, x.vars(x.ans.Status))
	}
}

func (x *exchange) setSticky() {
	v := make([]byte, 0, 96)
	v = append(append(append(v, x.way.Split.Cookie...), '='), x.shaped.sticky...)
	v = append(v, "; Path=/; HttpOnly; SameSite=Lax"...)
	if x.scheme() == "https" {
		v = append(v, "; Secure"...)
	}
	x.ans.AddBytes(wire.SetCookie, v)
	x.shaped.sticky = nil
}

// replaced answers in place of an endpoint that failed: by an answer kept from
// before, or by the page for its status.
func (x *exchange) replaced() bool {
	status := x.ans.Status
	if x.way.stale != nil && status >= 500 && staleStatus(status) && x.answerStale() {
		x.up.discard()
		return true
	}
	p := x.set().Page(status, true)
	if p == nil {
		return false
	}
	x.noteStatus("error_pages", "in place of the endpoint's ", status)
	x.ans.DropListed()
	kept := x.ans.Fields[:0]
	for _, f := range x.ans.Fields {
		switch {
		case f.ID == wire.SetCookie, f.ID == wire.Location, f.ID == wire.RetryAfter, f.ID == wire.Vary,
			wire.EqualFold(f.Name, "www-authenticate"), wire.EqualFold(f.Name, "allow"):
			kept = append(kept, f)
		}
	}
	x.ans.Fields = kept
	x.sayAs(status, p.Type, string(p.Body(nil, x.vars(status))))
	x.up.discard()
	return true
}

// write passes a piece of the answer's body on.
func (x *exchange) write(p []byte) error {
	if !x.shaped.any() {
		return x.f.Write(p)
	}
	if k := x.shaped.keep; k != nil && !k.add(p) {
		x.shaped.keep = nil
	}
	if x.shaped.coder != nil {
		x.shaped.held = true
		_, err := x.shaped.coder.Write(p)
		return err
	}
	return x.f.Write(p)
}

// shapeEnd ends what is done with the body, which is whole.
func (x *exchange) shapeEnd() error {
	if x.shaped.keep != nil {
		x.way.stale.put(x.shaped.keep)
		x.shaped.keep = nil
	}
	c := x.shaped.coder
	if c == nil {
		return nil
	}
	x.shaped.coder = nil
	err := c.Close()
	x.g.putCoder(x.shaped.coding, c)
	return err
}

// frontWriter lets a coder write to the client.
type frontWriter exchange

func (w *frontWriter) Write(p []byte) (int, error) {
	if err := w.f.Write(p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// forwardedElement writes what Forwarded says of the client (RFC 7239).
func forwardedElement(x *exchange) []byte {
	return filter.AppendForwarded(nil, x.client, x.h.Authority, x.scheme())
}

// staleStatus says whether an answer may be replaced by a stale one (RFC 5861
// section 4).
func staleStatus(status int) bool {
	switch status {
	case http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}
