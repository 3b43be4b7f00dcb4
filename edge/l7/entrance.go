package l7

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"meridian/edge/l7/balance"
	"meridian/fleet"
)

// enter says whether the limits let the request through; where they do not it
// answers. Else over must follow.
func (x *exchange) enter() bool {
	if r, wait := x.overRate(); r != nil {
		x.flag = flagRate
		x.note("rates", "over ", r.spec.Name)
		x.ans.Reset()
		x.ans.Add("Retry-After", strconv.FormatInt(int64((wait+time.Second-1)/time.Second), 10))
		x.say(http.StatusTooManyRequests, "429 over the limit "+r.spec.Name+"\n")
		return false
	}
	if len(x.service.rates) > 0 {
		x.note("rates", "within", "")
	}
	if !x.pool.enter() {
		x.note("limits", "full", "")
		x.refuse(http.StatusServiceUnavailable, flagOverload, "too many requests under way")
		return false
	}
	x.note("limits", "within", "")
	x.home = x.pool
	return true
}

func (x *exchange) overRate() (*rate, time.Duration) {
	if len(x.service.rates) == 0 || x.foreign { // whose own region has counted it
		return nil, 0
	}
	return x.g.overRate(x.service, x.client, x.text)
}

// over gives back what enter took; x.pool may be another region's by then.
func (x *exchange) over() {
	x.home.leave(x.took)
	x.retried()
}

// retried gives back what mayBeAgain took.
func (x *exchange) retried() {
	if x.retrying != nil {
		x.retrying.Leave()
	}
}

// mayBeAgain counts the request among the pool's retries under way, until it
// is over.
func (x *exchange) mayBeAgain() bool {
	if gate := &x.pool.circuit.Retries; x.retrying == nil && gate.Enter() {
		x.retrying = gate
	}
	return x.retrying != nil
}

// observe notes what became of a try. A client that goes, or leaves no time, says
// nothing of the endpoint.
func (x *exchange) observe(ep *endpoint, err error) {
	if err != nil && (errors.Is(err, errFull) || err == errGone || err == ErrNoWebSocket || x.abort.Gone() || x.body.failure() != nil || x.hurried()) {
		return
	}
	x.took = time.Duration(x.g.now() - x.began)
	status, shard := 0, x.sess.shard(spread)
	if err == nil {
		status = x.ans.Status
		x.pool.stats.answers.observe(shard, x.first.since(x.connected))
	}
	ep.vital.answers.add(shard, status)
	ep.vital.met(x.g.now(), err)
	if x.connected != 0 && x.h.PlainConnect() {
		return // what a proxy says, and when, hangs on the target: a caller could have it ejected at will
	}
	x.g.outcome(x.pool, ep.vital, outcomeOf(status, err), x.took, x.service.spec.Timeouts.Connect.D())
}

// hurried says whether the request's time was over before the try had a fair part of
// it: other tries have used it, or the caller has given so little. Else a caller could
// have endpoints ejected at will.
func (x *exchange) hurried() bool {
	fair := x.service.spec.Timeouts.Connect.D()
	if d := x.way.timeout; d > 0 {
		fair = min(fair, d)
	}
	return x.deadline.passed(x.g.now()) && x.deadline.since(x.began) < fair/2
}

// key steers consistent hash: by what hash_on says, or the client's address.
func (x *exchange) key() uint64 {
	s := x.service
	if s.spec.RoutingPolicy != fleet.ConsistentHash {
		return 0
	}
	if v, ok := x.text(s.hashOn, s.hashName); ok {
		return balance.KeyOf(v)
	}
	if !x.client.IsValid() {
		return 0
	}
	return balance.Key(x.client)
}

// text gives what of the request a key goes by.
func (x *exchange) text(kind fleet.KeyKind, name string) (string, bool) {
	var v []byte
	switch kind {
	case fleet.KeyPath:
		return x.path, true
	case fleet.KeyHeader:
		if i := x.h.Find(name, 0); i >= 0 {
			v = x.h.Fields[i].Value
		}
	case fleet.KeyCookie:
		v = x.h.Cookie(name)
	}
	return string(v), len(v) > 0
}
