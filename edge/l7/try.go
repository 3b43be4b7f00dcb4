package l7

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strconv"
	"sync"
	"time"

	"meridian/edge/l7/balance"
	"meridian/fleet"
)

// retryRules are the Spec's retries, compiled.
type retryRules struct {
	attempts int // after the first
	perTry   time.Duration
	connect  bool
	reset    bool
	timeout  bool
	status   map[int]bool
}

func newRetryRules(s *fleet.Service) retryRules {
	r := retryRules{attempts: *s.Retries.Attempts, perTry: s.Retries.PerTryTimeout.D(), status: map[int]bool{}}
	for _, on := range s.Retries.RetryOn {
		switch on {
		case "connect_failure":
			r.connect = true
		case "reset":
			r.reset = true
		case "timeout":
			r.timeout = true
		default:
			if code, err := strconv.Atoi(on); err == nil {
				r.status[code] = true
			}
		}
	}
	return r
}

// again says whether the request may be sent again although an endpoint may
// have acted on it: its method is idempotent (RFC 9110 section 9.2.2), or the
// client says so by an Idempotency-Key.
func (rr *retryRules) again(r *http.Request) bool {
	if rr.attempts == 0 {
		return false
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace, http.MethodPut, http.MethodDelete:
		return true
	}
	return len(r.Header["Idempotency-Key"]) > 0
}

var errPerTry = errors.New("the try took too long")

// failure is what went wrong with one try.
type failure struct {
	flag   flag
	status int // to tell the client
	text   string
	retry  bool // the rules allow another try
	paid   bool // and the budget has given it
}

// ask tries endpoints until one answers. It gives the answer and the endpoint's
// live part, whose done the caller owes; where it gives no answer the client was
// told already. All tries share ctx's deadline.
func (x *exchange) ask(ctx context.Context) (*http.Response, *vital) {
	x.service.budget.request()
	header := x.requestHeader()
	a := balance.Ask{Key: x.key(), Held: x.pool.held(x.r)}
	ctx = httptrace.WithClientTrace(ctx, x.hints.trace(x))
	var tried balance.Tried
	for last := -1; ; {
		a.Draw, a.Now = rand.Uint64(), x.g.now()
		i := x.pool.pick(a, &tried)
		if i == allFull {
			x.refuse(http.StatusServiceUnavailable, flagOverload, "all endpoints are busy")
			return nil, nil
		}
		if i == nobody {
			x.refuse(http.StatusServiceUnavailable, flagNoEndpoint, "no endpoint")
			return nil, nil
		}
		if i == last && !pause(ctx, x.tries) {
			x.pool.endpoints[i].vital.done()
			x.refuse(http.StatusGatewayTimeout, flagTimeout, "no answer in time")
			return nil, nil
		}
		last = i
		tried.Add(i)
		x.tries++
		res, live, f := x.try(ctx, x.pool.endpoints[i], header)
		if res != nil {
			if x.pool.affinity != nil && i+1 != a.Held {
				x.cookie = x.pool.hold(i, x.scheme == "https")
			}
			return res, live
		}
		if !x.mayRetry(ctx, &f) {
			x.giveUp(&f)
			return nil, nil
		}
		x.service.stats.retries.Inc()
	}
}

// mayRetry says whether another try follows the failed one, and takes it out
// of the budget.
func (x *exchange) mayRetry(ctx context.Context, f *failure) bool {
	rules := &x.service.retry
	switch {
	case f.paid:
		return true
	case !f.retry || ctx.Err() != nil || !x.body.fresh() || rules.attempts == 0:
		return false
	case x.tries > rules.attempts:
		f.flag = flagRetryLimit
		return false
	case !x.service.budget.take(time.Now()):
		x.service.stats.overflow.Inc()
		f.flag = flagRetryOverflow
		return false
	case !x.mayBeAgain():
		f.flag = flagOverload
		return false
	}
	return true
}

// mayBeAgain counts the request among the pool's retries under way, until it
// is over.
func (x *exchange) mayBeAgain() bool {
	x.retrying = x.retrying || x.pool.circuit.Retries.Enter()
	return x.retrying
}

// giveUp tells the client; one that has gone is told nothing.
func (x *exchange) giveUp(f *failure) {
	if f.status == 0 {
		x.flag = f.flag
		panic(http.ErrAbortHandler)
	}
	x.refuse(f.status, f.flag, f.text)
}

// pause waits a little before an endpoint is tried a second time, since there
// is no other: 25 ms, doubled with each try, less a random half.
func pause(ctx context.Context, tries int) bool {
	d := 25 * time.Millisecond << min(tries-1, 6)
	return pauseFor(ctx, d/2+rand.N(d/2))
}

// try asks one endpoint. It gives an answer to pass on, or the failure.
func (x *exchange) try(ctx context.Context, ep *endpoint, header http.Header) (*http.Response, *vital, failure) {
	x.endpoint = ep.address
	tryCtx, inTime := ctx, func() bool { return true }
	if limit := x.service.retry.perTry; limit > 0 {
		c, cancel := context.WithCancelCause(ctx)
		// The limit ends with the header; the context lives on with the body.
		tryCtx, inTime = c, time.AfterFunc(limit, func() { cancel(errPerTry) }).Stop
	}
	began := x.g.now()
	res, err := ep.transport.RoundTrip(x.request(tryCtx, ep, header))
	if !inTime() && err == nil {
		res.Body.Close()
		err = errPerTry
	}
	x.observe(ctx, ep, began, res, err)
	if err == nil && !x.retryStatus(ctx, res) {
		return res, ep.vital, failure{}
	}
	ep.vital.done()
	if err == nil {
		discard(res)
		return nil, nil, failure{flag: flagUpstreamStatus, paid: true}
	}
	return nil, nil, x.classify(ctx, tryCtx, ep, err)
}

// observe notes what became of a try. A client that goes says nothing of the
// endpoint.
func (x *exchange) observe(ctx context.Context, ep *endpoint, began time.Duration, res *http.Response, err error) {
	if err != nil && (errors.Is(err, errFull) || ctx.Err() != nil && !x.outOfTime(ctx) || x.body.err() != nil) {
		return
	}
	x.took = x.g.now() - began
	status := 0
	if err == nil {
		status = res.StatusCode
	}
	x.g.outcome(x.pool, ep.vital, outcomeOf(status, err), x.took, x.service.spec.Timeouts.Connect.D())
}

// retryStatus says whether an answer is to be dropped and the request tried
// again, for which it takes the budget's token. The last answer is never
// dropped: the client gets what the endpoint had to say.
func (x *exchange) retryStatus(ctx context.Context, res *http.Response) bool {
	rules := &x.service.retry
	if !rules.status[res.StatusCode] || !rules.again(x.r) || !x.body.fresh() || ctx.Err() != nil || x.tries > rules.attempts {
		return false
	}
	if !x.service.budget.take(time.Now()) {
		x.service.stats.overflow.Inc()
		return false
	}
	return x.mayBeAgain()
}

// discard reads a short body so that its connection can serve again.
func discard(res *http.Response) {
	if 0 <= res.ContentLength && res.ContentLength <= 4<<10 {
		io.Copy(io.Discard, res.Body)
	}
	res.Body.Close()
}

// classify says what an error of RoundTrip means.
func (x *exchange) classify(ctx, tryCtx context.Context, ep *endpoint, err error) failure {
	rules := &x.service.retry
	again := rules.again(x.r)
	var connect *connectError
	switch {
	case x.outOfTime(ctx):
		return failure{flag: flagTimeout, status: http.StatusGatewayTimeout, text: "no answer in time"}
	case ctx.Err() != nil:
		return failure{flag: flagClientGone}
	case context.Cause(tryCtx) == errPerTry:
		return failure{flag: flagTimeout, status: http.StatusGatewayTimeout, text: "no answer in time", retry: rules.timeout && again}
	case errors.Is(err, errFull):
		return failure{flag: flagOverload, status: http.StatusServiceUnavailable, text: errFull.Error(), retry: rules.connect}
	case errors.As(err, &connect):
		ep.vital.doubt()
		// Nothing was sent: any method may be tried elsewhere.
		return failure{flag: flagConnect, status: http.StatusServiceUnavailable, text: "the endpoint cannot be reached", retry: rules.connect}
	case x.body.err() != nil:
		return x.bodyFailure()
	}
	return failure{flag: flagReset, status: http.StatusBadGateway, text: "the endpoint broke off", retry: rules.reset && again}
}

// outOfTime says whether the request's own deadline has passed.
func (x *exchange) outOfTime(ctx context.Context) bool {
	return errors.Is(ctx.Err(), context.DeadlineExceeded) || !x.deadline.IsZero() && !time.Now().Before(x.deadline)
}

// bodyFailure tells a try that failed because the client's body did.
func (x *exchange) bodyFailure() failure {
	var tooLarge *http.MaxBytesError
	if errors.As(x.body.err(), &tooLarge) {
		return failure{flag: flagBadRequest, status: http.StatusRequestEntityTooLarge, text: "body too large"}
	}
	return failure{flag: flagClientGone, status: http.StatusBadRequest, text: "the body is incomplete"}
}

// hints passes on 1xx answers (RFC 9110 section 15.2) other than 100, which
// net/http sends itself when the body is first read. They arrive on another
// goroutine, and may still do so when the final answer is on its way.
type hints struct {
	mu   sync.Mutex
	over bool
}

func (h *hints) trace(x *exchange) *httptrace.ClientTrace {
	return &httptrace.ClientTrace{Got1xxResponse: func(code int, header textproto.MIMEHeader) error {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.over || code == http.StatusContinue || !x.r.ProtoAtLeast(1, 1) {
			return nil
		}
		out := x.w.Header()
		kept := out.Clone()
		for k, v := range header {
			if !hopByHop[k] {
				out[k] = v
			}
		}
		x.w.WriteHeader(code)
		clear(out)
		for k, v := range kept {
			out[k] = v
		}
		return nil
	}}
}

// end waits for a 1xx answer under way and lets no other follow.
func (h *hints) end() {
	h.mu.Lock()
	h.over = true
	h.mu.Unlock()
}
