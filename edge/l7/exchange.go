package l7

import (
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"meridian/edge/l7/balance"
	"meridian/edge/l7/limit"
	"meridian/edge/l7/why"
	"meridian/edge/l7/wire"
	"meridian/fleet"
)

// exchange is one request and its answer, whatever the versions of HTTP on
// either side. It is used again for other requests.
type exchange struct {
	g       *Gateway
	gen     *generation
	sess    *session
	service *service // nil where no service was found
	index   int      // of the service in the Spec
	pool    *pool
	way     *way // nil: no route was found
	f       Front
	h1      *clientFront // f, where it is HTTP/1.1's
	fast    *clientFront // the same, where short cuts may be taken
	h       *wire.Head   // the request; after prepare its fields are those that endpoints get
	ans     wire.Head    // the answer; after present as the client gets it
	abort   *Abort
	unused  Abort // in the place of none

	method string // as the client sent it; these hold as long as h
	host   string // of the request, in the table's form
	path   string
	id     []byte // X-Request-ID
	idRoom [128]byte
	again  bool // the request may be repeated
	grpc   bool // it is a call of gRPC

	client     netip.Addr // as trusted proxies tell, else the connection's
	clientText []byte     // the same as text; nil: the session's
	told       string     // scheme that a trusted proxy tells; "": none
	to         ask        // what of the request endpoints are asked otherwise
	shaped     shaping    // what the answer gets on its way

	start    moment
	deadline moment // of all tries and the answer; 0 for none
	body     body
	request  []byte // the request's head as HTTP/1.1 sends it

	muxed    muxed
	up       asked         // the endpoint's side of the try under way
	vital    *vital        // of the endpoint under way
	began    moment        // when its try began
	took     time.Duration // of the last try, up to its answer's head
	cookie   string        // Set-Cookie of the gateway's own; may be empty
	reused   bool          // the try under way has a connection that was there
	report   *why.Report   // nil: the caller does not ask
	home     *pool         // whose gates have let the request in
	retrying *limit.Gate   // where it counts among the retries; nil: it is none
	perTry   moment        // when the try under way has taken too long; 0 for never
	expect   moment        // when the body is sent though the endpoint did not ask for it; 0 for never
	glances  int
	tried    balance.Tried
	wsKey    [24]byte // of the side that has RFC 6455's handshake
	websock  bool     // a WebSocket, on one side at least by extended CONNECT
	hopped   bool     // another region's gateways were asked
	foreign  bool     // they have asked
	drawn    uint64   // by which a split has picked the pool
	answered bool     // the head of the final answer was given to f

	span span // where the generation has tracing

	status    int   // as sent; 0 while nothing was
	sent      int64 // octets of body
	tries     int
	flag      flag
	endpoint  string // last tried
	connected moment // when the last try had its connection
	first     moment // when the final answer's head had come
}

var exchanges = sync.Pool{New: func() any { return new(exchange) }}

func (x *exchange) begin(s *session, f Front, h *wire.Head, a *Abort) {
	x.g, x.sess, x.f, x.h, x.abort = s.s.g, s, f, h, a
	if x.h1, _ = f.(*clientFront); !x.g.cfg.slow {
		x.fast = x.h1
	}
	if a == nil {
		x.unused.Reset()
		x.abort = &x.unused
	}
	x.gen = x.g.gen.Load()
	x.method = view(h.Method)
	x.grpc = isGRPC(h)
	x.client = s.client.Addr()
	x.start = x.g.now()
}

// free forgets everything, but for memory that serves again.
func (x *exchange) free() {
	x.ans.Reset()
	kept := x.body.kept[:0]
	if x.body.lent || cap(kept) > replayed {
		kept = nil
	}
	ans, request := x.ans, x.request[:0]
	x.shaped.vars.Reset()
	vars := x.shaped.vars
	*x = exchange{} // in place: a composite would take the stack of an idle connection
	x.ans, x.request, x.body.kept, x.shaped.vars = ans, request, kept, vars
	exchanges.Put(x)
}

// serve answers the request.
func (x *exchange) serve() {
	if x.g.cfg.Arrived != nil {
		x.arrived()
	}
	if !x.named() {
		return
	}
	if x.host == fleet.GatewayHost {
		x.self()
		return
	}
	if x.sess.s.port == 80 && x.challenged() {
		return
	}
	x.identify()
	if !x.find() {
		return
	}
	if !x.enter() {
		return
	}
	defer x.over()
	if !x.takeBody() {
		return
	}
	x.prepare()
	if x.way.mirror != nil && !x.foreign { // whose own region has copied it
		x.mirror()
	}
	if x.ask() {
		x.relay()
	}
	x.release()
}

// slack lets the request's own deadline pass first, so that a request out of
// time is told from a client that is gone.
const slack = time.Second

// limit sets the request's deadline: its route's, the caller's, and the one that
// another region's gateway has told.
func (x *exchange) limit() {
	if d := x.way.timeout; d > 0 {
		x.deadline = sooner(x.deadline, x.start.add(d))
	}
	if x.grpc {
		if d := grpcTimeout(x.h.Get(wire.GRPCTimeout)); d > 0 {
			x.deadline = sooner(x.deadline, x.start.add(d))
		}
	}
	x.bound()
}

// bound limits reads from and writes to a slow client.
func (x *exchange) bound() {
	var end time.Time
	if x.deadline != 0 {
		end = x.g.time(x.deadline.add(slack))
	}
	x.f.Deadlines(end, end)
}

// arrived measures how long the request was on its way from the device to here.
func (x *exchange) arrived() {
	if ago, ok := x.g.cfg.Arrived(x.sess.ends()); ok {
		x.g.metrics.arrival.Observe(ago.Seconds())
	}
}

// self answers layer 4's checks. Under any other host /health and /ready are
// the service's own.
func (x *exchange) self() {
	status, text := http.StatusOK, ""
	switch string(x.h.Path()) {
	case "/health":
		text = "ok\n"
	case "/ready":
		text = "ready\n"
		if err := x.g.Ready(); err != nil {
			status, text = http.StatusServiceUnavailable, err.Error()+"\n"
		}
	default:
		status, text = http.StatusNotFound, "not found\n"
	}
	x.ans.Reset()
	if takes := x.g.cfg.TakesCookies; takes != nil && takes() {
		x.ans.Add(fleet.CookiesHeader, fleet.CookiesTaken)
	}
	x.say(status, text)
}

// refuse answers in place of an endpoint, and notes why.
func (x *exchange) refuse(status int, f flag, text string) {
	x.flag = f
	x.ans.Reset()
	if f.endpoints() && x.answerStale() {
		return
	}
	x.note("answer", "of the gateway's own: ", text)
	x.say(status, strconv.Itoa(status)+" "+text+"\n")
}

// ownLimit is how long a client may take over an answer of the gateway's own,
// where no service says.
const ownLimit = 30 * time.Second

// say sends a short answer of the gateway's own, with the fields that are in
// x.ans already.
func (x *exchange) say(status int, text string) {
	if x.grpc {
		x.sayGRPC(status, strings.TrimSuffix(text, "\n"))
		return
	}
	kind := "text/plain; charset=utf-8"
	if p := x.set().Page(status, false); p != nil {
		kind, text = p.Type, string(p.Body(nil, x.vars(status)))
	}
	x.sayAs(status, kind, text)
}

// sayAs is say of a body of some type; without one where that is empty.
func (x *exchange) sayAs(status int, kind, text string) {
	if status < http.StatusMultipleChoices && x.h.PlainConnect() {
		status = http.StatusServiceUnavailable // the client would take it for a tunnel
	}
	a := &x.ans
	a.Status, a.Reason, a.Length = status, nil, int64(len(text))
	if kind != "" {
		a.AddID(wire.ContentType, kind)
	}
	if status != http.StatusNoContent && status != http.StatusNotModified {
		a.AddID(wire.ContentLength, strconv.Itoa(len(text)))
	}
	if a.Get(wire.CacheControl) == nil {
		a.AddID(wire.CacheControl, "no-store")
	}
	if status == http.StatusMethodNotAllowed && a.Find("Allow", 0) < 0 {
		a.Add("Allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, TRACE")
	}
	x.give(status, text)
}

// give sends the answer in x.ans, which is the gateway's own, with what all of them
// have. status is for the log and the metrics: calls of gRPC are told another.
func (x *exchange) give(status int, body string) {
	a := &x.ans
	if a.Get(wire.Date) == nil {
		a.AddID(wire.Date, time.Now().UTC().Format(http.TimeFormat))
	}
	if len(x.id) > 0 {
		a.AddBytes(wire.XRequestID, x.id)
	}
	x.footnotes(status)
	x.dress()
	x.status = status
	if x.deadline == 0 {
		end := time.Now().Add(ownLimit)
		x.f.Deadlines(end, end)
	}
	bare := x.method == http.MethodHead || body == ""
	x.answered = true
	err := x.f.Answer(a, bare)
	if err == nil && !bare {
		x.sent = int64(len(body))
		err = x.f.Write(octets(body))
	}
	if err == nil {
		err = x.f.End(nil)
	}
	if err != nil {
		x.f.Break()
	}
}
