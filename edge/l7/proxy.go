package l7

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"meridian/edge/l7/balance"
	"meridian/edge/l7/route"
	"meridian/fleet"
)

// handler serves the requests of one port.
type handler struct {
	g      *Gateway
	server *server
	port   uint16
}

// exchange is one request and its answer.
type exchange struct {
	g       *Gateway
	gen     *generation
	service *service // nil where no service was found
	pool    *pool
	w       http.ResponseWriter
	r       *http.Request
	scheme  string
	port    uint16
	host    string // of the request, in the table's form
	client  netip.Addr
	id      string // X-Request-ID

	start    time.Time
	deadline time.Time // of all tries and the answer; zero for none
	body     body
	hints    hints

	status   int   // as sent; 0 while nothing was
	sent     int64 // octets of body
	tries    int
	flag     flag
	tunneled bool   // the connection is net/http's no more
	endpoint string // last tried
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := &exchange{g: h.g, gen: h.g.gen.Load(), w: w, r: r, port: h.port, scheme: "http", start: time.Now()}
	if h.server.secure() {
		x.scheme = "https"
	}
	defer x.finish()
	if h.g.cfg.Arrived != nil {
		x.arrived()
	}
	if h.g.draining.Load() || h.server.leaving.Load() {
		// HTTP/1.1 clients leave after this answer, HTTP/2 ones get a GOAWAY.
		w.Header().Set("Connection", "close")
	}
	host, err := route.Host(r.Host)
	if err != nil || r.URL.User != nil {
		x.refuse(http.StatusBadRequest, flagBadRequest, "malformed host")
		return
	}
	x.host = host
	if host == fleet.GatewayHost {
		x.self()
		return
	}
	x.id = requestID(r.Header)
	w.Header()["X-Request-Id"] = []string{x.id}
	if x.find() {
		x.run()
	}
}

// arrived measures how long the request was on its way from the device to here.
func (x *exchange) arrived() {
	c, ok := x.r.Context().Value(connKey{}).(*conn)
	if !ok {
		return
	}
	client, ok := c.RemoteAddr().(*net.TCPAddr)
	vip, ok2 := c.LocalAddr().(*net.TCPAddr)
	if !ok || !ok2 {
		return
	}
	if ago, ok := x.g.cfg.Arrived(client.AddrPort(), vip.AddrPort()); ok {
		x.g.metrics.arrival.Observe(ago.Seconds())
	}
}

// self answers layer 4's checks. Under any other host /health and /ready are
// the service's own.
func (x *exchange) self() {
	if takes := x.g.cfg.TakesCookies; takes != nil && takes() {
		x.w.Header()[fleet.CookiesHeader] = []string{fleet.CookiesTaken}
	}
	switch x.r.URL.Path {
	case "/health":
		x.say(http.StatusOK, "ok\n")
	case "/ready":
		if err := x.g.Ready(); err != nil {
			x.say(http.StatusServiceUnavailable, err.Error()+"\n")
			return
		}
		x.say(http.StatusOK, "ready\n")
	default:
		x.say(http.StatusNotFound, "not found\n")
	}
}

// find looks up service and pool; where there is none it answers.
func (x *exchange) find() bool {
	r := x.r
	if r.Method == http.MethodConnect {
		x.refuse(http.StatusMethodNotAllowed, flagBadRequest, "CONNECT is not served")
		return false
	}
	path, err := route.Path(r.URL.EscapedPath())
	if err != nil {
		x.refuse(http.StatusBadRequest, flagBadRequest, err.Error())
		return false
	}
	m, outcome := x.gen.table.Find(x.port, x.host, path, nil)
	if m.Service >= 0 {
		x.service = x.gen.services[m.Service]
	}
	switch {
	case outcome == route.NoHost:
		x.refuse(http.StatusNotFound, flagNoRoute, "no service has this host")
		return false
	case outcome == route.NoRoute:
		x.refuse(http.StatusNotFound, flagNoRoute, "no route")
		return false
	case r.ContentLength > x.g.cfg.MaxBody:
		x.refuse(http.StatusRequestEntityTooLarge, flagBadRequest, "body too large")
		return false
	}
	x.pool = x.service.pools[m.Pool]
	return true
}

// run asks endpoints until one answers, and passes its answer on.
func (x *exchange) run() {
	if ap, err := netip.ParseAddrPort(x.r.RemoteAddr); err == nil {
		x.client = ap.Addr().Unmap().WithZone("")
	}
	ctx := x.r.Context()
	if limit := x.service.spec.Timeouts.Request.D(); limit > 0 {
		x.deadline = x.start.Add(limit)
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, x.deadline)
		defer cancel()
	}
	x.bound()
	if !x.takeBody() {
		return
	}
	res, live := x.ask(ctx)
	x.hints.end()
	if live != nil {
		defer live.End()
	}
	if res == nil {
		return
	}
	defer res.Body.Close()
	if res.StatusCode == http.StatusSwitchingProtocols {
		x.tunnel(res)
		return
	}
	x.answer(ctx, res)
}

// slack lets the context's deadline pass first, so that a request out of time
// is told from a client that is gone.
const slack = time.Second

// bound limits what ctx cannot: reads from and writes to a slow client.
func (x *exchange) bound() {
	end := time.Time{}
	if !x.deadline.IsZero() {
		end = x.deadline.Add(slack)
	}
	rc := http.NewResponseController(x.w)
	rc.SetWriteDeadline(end)
	if x.r.ContentLength != 0 {
		rc.SetReadDeadline(end)
		// Else net/http would hold the answer back until the body has ended.
		rc.EnableFullDuplex()
	}
}

// key steers consistent hash: the client's address.
func (x *exchange) key() uint64 {
	if x.service.spec.RoutingPolicy != fleet.ConsistentHash || !x.client.IsValid() {
		return 0
	}
	return balance.Key(x.client)
}

// refuse answers in place of an endpoint, and notes why.
func (x *exchange) refuse(status int, f flag, text string) {
	x.flag = f
	x.say(status, strconv.Itoa(status)+" "+text+"\n")
}

// say sends a short answer of the gateway's own.
func (x *exchange) say(status int, text string) {
	x.hints.end()
	h := x.w.Header()
	h["Content-Type"] = plainText
	h["Content-Length"] = []string{strconv.Itoa(len(text))}
	h["Cache-Control"] = noStore
	x.status, x.sent = status, int64(len(text))
	x.w.WriteHeader(status)
	if x.r.Method != http.MethodHead {
		x.w.Write([]byte(text))
	}
}

var (
	plainText = []string{"text/plain; charset=utf-8"}
	noStore   = []string{"no-store"}
)
