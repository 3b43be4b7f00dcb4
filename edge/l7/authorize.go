package l7

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"meridian/edge/l7/filter"
	"meridian/edge/l7/wire"
)

// hashWait is how long a request waits for its turn to have its password
// verified, which takes long by design.
const hashWait = 5 * time.Second

// basic asks for a name and password (RFC 7617).
func (x *exchange) basic() bool {
	b := x.way.set.Basic
	if b.Field != "" {
		x.strike(b.Field)
	}
	user, password, ok := filter.Credentials(x.h)
	if ok && !b.Known(user, password) {
		wait := hashWait
		if x.deadline != 0 {
			wait = min(wait, x.deadline.since(x.g.now()))
		}
		turn := time.NewTimer(wait)
		defer turn.Stop()
		select {
		case x.g.hashing <- struct{}{}:
			ok = b.Verify(user, password)
			<-x.g.hashing
		case <-turn.C:
			return x.deny("basic_auth", http.StatusServiceUnavailable, "too many logins at a time")
		}
	}
	if !ok {
		return x.challenge("basic_auth", b.Challenge(), "a name and password are needed")
	}
	if b.Field != "" {
		x.tell(b.Field, clean(string(user)))
	}
	x.note("basic_auth", "passed", "")
	return true
}

// clean makes a user's name, which may hold anything, fit for a field.
func clean(s string) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, s))
}

// challenge answers 401.
func (x *exchange) challenge(by, how, text string) bool {
	x.denied(by, text)
	x.ans.Add("WWW-Authenticate", how)
	x.say(http.StatusUnauthorized, "401 "+text+"\n")
	return false
}

// token asks for a JSON Web Token (RFC 6750 section 3 for what is answered).
func (x *exchange) token() bool {
	j := x.way.set.JWT
	for _, name := range j.Fields() {
		x.strike(name)
	}
	claims, err := j.Verify(j.Token(x.h), time.Now())
	switch {
	case errors.Is(err, filter.ErrNoToken) && j.Optional:
		x.note("jwt", "passed without a token", "")
		return true
	case errors.Is(err, filter.ErrNoToken):
		return x.challenge("jwt", "Bearer", "a token is needed")
	case err != nil:
		return x.challenge("jwt", `Bearer error="invalid_token", error_description="`+err.Error()+`"`, err.Error())
	}
	for _, c := range claims {
		x.tell(c.Field, c.Value)
	}
	x.note("jwt", "passed", "")
	return true
}

// strike takes a field that a filter speaks by from the client, and those that
// differ from it by underscores alone: a CGI endpoint could not tell them apart.
func (x *exchange) strike(name string) {
	fields := x.h.Fields[:0]
	for _, f := range x.h.Fields {
		if !sameForCGI(f.Name, name) {
			fields = append(fields, f)
		}
	}
	x.h.Fields = fields
}

func sameForCGI(b []byte, s string) bool {
	if len(b) != len(s) {
		return false
	}
	flat := func(c byte) byte {
		switch {
		case c == '_':
			return '-'
		case 'A' <= c && c <= 'Z':
			return c | 0x20
		}
		return c
	}
	for i := range b {
		if flat(b[i]) != flat(s[i]) {
			return false
		}
	}
	return true
}

// tell has endpoints told something. It is put into the header once what the
// client's Connection field names is gone, so that a client cannot have it
// dropped.
func (x *exchange) tell(name, value string) {
	x.to.adds = append(x.to.adds, wire.Field{ID: wire.Lookup(octets(name)), Name: octets(name), Value: octets(value)})
}

// maxVerdict bounds the body of an answer to forward_auth, in octets.
const maxVerdict = 64 << 10

// forwardAuth asks a pool whether the request may pass. It is asked with the
// client's own header, and what was asked; it answers 2xx for yes.
func (x *exchange) forwardAuth() bool {
	spec := x.way.set.Forward
	h := x.verdictHead(spec.Path)
	in := inner{room: maxVerdict}
	adds := []wire.Field{
		{Name: octets("X-Forwarded-Method"), Value: octets(x.method)},
		{Name: octets("X-Forwarded-Uri"), Value: x.h.Target},
	}
	until := sooner(x.g.now().add(spec.Timeout.D()), x.deadline)
	flag := x.inquire(&in, h, x.way.forward, spec.Path, until, adds, x.sess)
	for _, name := range spec.Copy {
		x.strike(name)
	}
	if in.cut && in.ans.Status >= http.StatusMultipleChoices {
		flag = flagNone // it said no, though not all that it had to say of it came
	}
	switch {
	case flag == flagClientGone && in.ans.Status == 0:
		x.flag = flag
		x.f.Break()
		return false
	case flag != flagNone && x.deadline.passed(x.g.now()):
		x.refuse(http.StatusGatewayTimeout, flagTimeout, "no answer in time")
		return false
	case flag != flagNone && spec.FailOpen:
		x.note("forward_auth", "passed, since nobody could say: ", flag.String())
		return true
	case flag != flagNone:
		return x.deny("forward_auth", http.StatusServiceUnavailable, "nobody can say whether the request may pass")
	case in.ans.Status/100 == 2:
		for _, name := range spec.Copy {
			for i := in.ans.Find(name, 0); i >= 0; i = in.ans.Find(name, i+1) {
				x.tell(name, string(in.ans.Fields[i].Value))
			}
		}
		x.noteStatus("forward_auth", "passed: ", in.ans.Status)
		return true
	}
	x.denied("forward_auth", strconv.Itoa(in.ans.Status))
	for _, f := range in.ans.Fields {
		switch f.ID {
		case wire.ContentLength, wire.ContentType, wire.Date, wire.XRequestID, wire.Trailer, wire.AltSvc, wire.ServerTiming:
		default:
			x.ans.Add(view(f.Name), view(f.Value))
		}
	}
	x.sayAs(in.ans.Status, view(in.ans.Get(wire.ContentType)), view(in.out))
	return false
}

// verdictHead is the client's header without what is about its body, parts or
// copies that it has.
func (x *exchange) verdictHead(path string) *wire.Head {
	h := &wire.Head{Version: wire.HTTP11, Method: octets(http.MethodGet), Target: octets(path), Authority: x.h.Authority}
	for _, f := range x.h.Fields {
		switch {
		case f.ID == wire.ContentType, f.ID == wire.ContentEncoding, wire.SecWebSocketKey <= f.ID && f.ID <= wire.SecWebSocketExtensions, f.ID.HopByHop():
		case len(f.Name) > 3 && wire.EqualFold(f.Name[:3], "if-"), wire.EqualFold(f.Name, "range"):
		default:
			h.Fields = append(h.Fields, f)
		}
	}
	return h
}
