package l7

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	"meridian/edge/l7/balance"
	"meridian/edge/l7/wire"
)

// retryRules are the Spec's retries, compiled.
type retryRules struct {
	attempts int // after the first
	perTry   time.Duration
	connect  bool
	reset    bool
	timeout  bool
	turned   bool // calls of gRPC that are answered UNAVAILABLE
	status   [600]bool
}

// again says whether the request may be sent again although an endpoint may
// have acted on it: its method is idempotent (RFC 9110 section 9.2.2), or the
// client says so by an Idempotency-Key.
func (rr *retryRules) again(h *wire.Head) bool { return rr.attempts > 0 && repeatable(h) }

func repeatable(h *wire.Head) bool {
	if h.PlainConnect() { // what it has begun lasts, and no key can tell that
		return false
	}
	switch string(h.Method) {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace, http.MethodPut, http.MethodDelete:
		return true
	}
	return h.Get(wire.IdempotencyKey) != nil
}

// Why an exchange ends early.
var (
	errPerTry   = errors.New("the try took too long")
	errDeadline = errors.New("the request took too long")
	errGone     = errors.New("the client has gone")
	errStale    = errors.New("the connection was closed before it was used")
	errFlood    = errors.New("too many interim answers")
)

// failure is what went wrong with one try.
type failure struct {
	flag   flag
	status int // to tell the client
	text   string
	retry  bool // the rules allow another try
	paid   bool // and the budget has given it
}

// ask tries endpoints until one answers: its answer's head is then in x.ans,
// and x.up holds the rest of it. Where none does the client was told already.
// All tries share one deadline.
func (x *exchange) ask() bool {
	x.service.budget.request()
	if len(x.pool.next) > 0 && !x.pool.hopeful(x.g.now(), &x.tried) && x.mayHop() {
		f, ok := x.elsewhere()
		if ok {
			return true
		}
		if x.hopped && !x.mayRetry(&f) {
			x.giveUp(&f)
			return false
		}
	}
	a := balance.Ask{Key: x.key(), Held: x.pool.held(x.h)}
	for last := -1; ; {
		a.Draw, a.Now = rand.Uint64(), time.Duration(x.g.now())
		if x.report != nil {
			x.candidates(a)
		}
		i := x.pool.pick(a, &x.tried)
		if i == allFull {
			x.refuse(http.StatusServiceUnavailable, flagOverload, "all endpoints are busy")
			return false
		}
		if i == nobody {
			x.refuse(http.StatusServiceUnavailable, flagNoEndpoint, "no endpoint")
			return false
		}
		x.vital = x.pool.endpoints[i].vital
		if i == last && !x.pause() {
			x.refuse(http.StatusGatewayTimeout, flagTimeout, "no answer in time")
			return false
		}
		last = i
		x.tried.Add(i)
		x.tries++
		x.nextSpan()
		f, ok := x.try(x.pool.endpoints[i])
		if ok {
			if x.pool.affinity != nil && i+1 != a.Held && !x.own() {
				x.cookie = x.pool.hold(i, x.sess.s.secure())
			}
			return true
		}
		x.release()
		if again, answered := x.after(f); !again {
			return answered
		}
	}
}

// after says what follows a try that failed: another one here, or the next region's
// answer, or neither, of which the client is told. Where who is left here was tried
// already or is away, the next region goes first.
func (x *exchange) after(f failure) (again, answered bool) {
	here := f.paid || x.pool.hopeful(x.g.now(), &x.tried)
	again = here && x.mayRetry(&f)
	if !again && x.mayHopAfter(&f) {
		if f, answered = x.elsewhere(); answered {
			return false, true
		}
	}
	if !again && (here || !x.mayRetry(&f)) {
		x.note("retry", "no: ", f.flag.String())
		x.giveUp(&f)
		return false, false
	}
	x.service.stats.retries.Inc()
	return true, false
}

// mayRetry says whether another try follows the failed one, and takes it out
// of the budget.
func (x *exchange) mayRetry(f *failure) bool {
	rules := x.way.retry
	switch {
	case f.paid:
		return true
	case !f.retry || x.deadline.passed(x.g.now()) || x.abort.Gone() || rules.attempts == 0 || !x.recoverBody():
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

// giveUp tells the client; one that has gone is told nothing.
func (x *exchange) giveUp(f *failure) {
	if f.status == 0 {
		x.flag = f.flag
		x.f.Break()
		return
	}
	x.refuse(f.status, f.flag, f.text)
}

// pause waits a little before an endpoint is tried a second time, since there
// is no other.
func (x *exchange) pause() bool {
	ctx := x.g.base
	if x.deadline != 0 {
		c, cancel := context.WithDeadline(ctx, x.g.time(x.deadline))
		defer cancel()
		ctx = c
	}
	return pause(ctx, x.tries)
}

// pause waits 25 ms, doubled with each try, less a random half.
func pause(ctx context.Context, tries int) bool {
	d := 25 * time.Millisecond << min(tries-1, 6)
	return pauseFor(ctx, d/2+rand.N(d/2))
}

// try asks one endpoint. A connection that had been closed meanwhile is
// replaced by a new one at no cost, since nobody has acted on the request.
func (x *exchange) try(ep *endpoint) (failure, bool) {
	x.endpoint = ep.address
	x.perTry = 0
	if limit := x.way.retry.perTry; limit > 0 {
		x.perTry = x.g.now().add(limit)
	}
	x.began, x.connected, x.first = x.g.now(), 0, 0
	err := x.call(ep, false)
	if err == errStale {
		err = x.call(ep, true)
	}
	x.observe(ep, err)
	f, ok := failure{}, false
	switch {
	case err != nil:
		f = x.classify(ep, err)
	case x.retryStatus():
		x.up.discard()
		f = failure{flag: flagUpstreamStatus, paid: true}
	default:
		x.perTry, ok = 0, true // it ends with the head
	}
	if x.report != nil {
		x.tellTry(&f, ok, ep.region)
	}
	if x.span.each() {
		x.seeTry(&f, ok, ep.region)
	}
	return f, ok
}

// call sends the request to the endpoint and waits for its answer's head.
func (x *exchange) call(ep *endpoint, fresh bool) error {
	up, used, err := ep.upstream.connect(x, fresh)
	if err != nil {
		return err
	}
	x.up, x.reused = up, used
	if !x.abort.during(up) {
		return errGone
	}
	if err = x.send(); err == nil {
		err = x.await()
	}
	if err != nil && used && x.stale(err) {
		x.drop()
		return errStale
	}
	return err
}

// stale says whether a try on a used connection failed because the endpoint
// had closed it.
func (x *exchange) stale(err error) bool {
	switch err {
	case errClosed:
		return !x.abort.Gone()
	case ErrRefused:
		return !x.abort.Gone() && x.recoverBody()
	case errPerTry, errDeadline, errGone, errFlood:
		return false
	}
	return x.up.silent() && x.body.fresh() && repeatable(x.h) && !x.abort.Gone()
}

// send writes the head, and the body where all of it is here; else it has the
// body sent while the answer comes.
func (x *exchange) send() error {
	if x.body.kept != nil {
		return x.up.send(x.request, x.body.kept)
	}
	if err := x.up.send(x.request, nil); err != nil || x.body.whole {
		return err
	}
	if x.h.Expect {
		x.expect = x.g.now().add(expectTimeout)
		return nil
	}
	x.upload()
	return nil
}

const (
	// expectTimeout is how long a client that waits to be asked for its body
	// waits for the endpoint to do so.
	expectTimeout = time.Second
	// maxInterim bounds the 1xx answers before the final one.
	maxInterim = 32
)

// await reads heads up to the final one, and passes on 1xx answers (RFC 9110
// section 15.2).
func (x *exchange) await() error {
	for n := 0; ; n++ {
		if err := x.up.head(&x.ans); err != nil {
			return err
		}
		x.first = x.g.now()
		switch st := x.ans.Status; {
		case st >= 200 || st == http.StatusSwitchingProtocols:
			x.expect = 0
			x.body.early = x.body.uploading != nil && !x.body.ended.Load()
			return nil
		case n == maxInterim:
			return errFlood
		case st == http.StatusContinue:
			if x.expect != 0 {
				x.goOn()
			}
		default:
			x.present()
			if x.f.Interim(&x.ans) != nil {
				return errGone
			}
		}
	}
}

// goOn asks the client for its body and passes it on.
func (x *exchange) goOn() {
	x.expect = 0
	x.ans.Reset()
	x.ans.Status = http.StatusContinue
	if x.f.Interim(&x.ans) == nil {
		x.upload()
	}
}

// retryStatus says whether an answer is to be dropped and the request tried
// again, for which it takes the budget's token. The last answer is never
// dropped: the client gets what the endpoint had to say.
func (x *exchange) retryStatus() bool {
	rules := x.way.retry
	wanted := x.again && rules.status[x.ans.Status] || x.grpc && rules.turned && x.unavailable()
	if x.hopped || !wanted || x.tries > rules.attempts || x.deadline.passed(x.g.now()) || !x.recoverBody() {
		return false
	}
	if !x.service.budget.take(time.Now()) {
		x.service.stats.overflow.Inc()
		return false
	}
	return x.mayBeAgain()
}

// classify says what the error of a try means.
func (x *exchange) classify(ep *endpoint, err error) failure {
	rules := x.way.retry
	var connect *connectError
	var fault wire.Fault
	switch {
	case err == errDeadline || x.deadline.passed(x.g.now()):
		return failure{flag: flagTimeout, status: http.StatusGatewayTimeout, text: "no answer in time"}
	case err == errGone || x.abort.Gone():
		return failure{flag: flagClientGone}
	case err == errPerTry:
		return failure{flag: flagTimeout, status: http.StatusGatewayTimeout, text: "no answer in time", retry: rules.timeout && x.again}
	case err == ErrNoWebSocket: // of another endpoint it may be otherwise
		return failure{flag: flagBadRequest, status: http.StatusNotImplemented, text: err.Error(), retry: rules.connect && x.tries < len(x.pool.endpoints)}
	case errors.Is(err, errFull):
		return failure{flag: flagOverload, status: http.StatusServiceUnavailable, text: errFull.Error(), retry: rules.connect}
	case errors.As(err, &connect):
		ep.vital.doubt()
		// Nothing was sent: any method may be tried elsewhere.
		return failure{flag: flagConnect, status: http.StatusServiceUnavailable, text: "the endpoint cannot be reached", retry: rules.connect}
	case x.body.failure() != nil:
		return x.bodyFailure()
	case err == ErrRefused:
		// Nobody has acted on it: any method may be tried elsewhere.
		return failure{flag: flagReset, status: http.StatusServiceUnavailable, text: "the endpoint refuses requests", retry: rules.connect || rules.reset}
	case errors.As(err, &fault):
		x.g.metrics.answers.WithLabelValues(x.service.spec.Service, fault.String()).Inc()
		return failure{flag: flagReset, status: http.StatusBadGateway, text: "the endpoint's answer is malformed", retry: rules.reset && x.again}
	}
	return failure{flag: flagReset, status: http.StatusBadGateway, text: "the endpoint broke off", retry: rules.reset && x.again}
}

// newRetryRules reads the Spec.
func newRetryRules(on []string, attempts int, perTry time.Duration) *retryRules {
	r := &retryRules{attempts: attempts, perTry: perTry}
	for _, on := range on {
		switch on {
		case "connect_failure":
			r.connect = true
		case "reset":
			r.reset = true
		case "timeout":
			r.timeout = true
		case "unavailable":
			r.turned = true
		default:
			if code, err := strconv.Atoi(on); err == nil && code < len(r.status) {
				r.status[code] = true
			}
		}
	}
	return r
}
