package l7

import (
	"sync/atomic"
	"time"
)

// budget bounds the retries of one service (after Finagle): each request adds
// a share of a token, each second ten, and a retry takes one. So an endpoint
// that fails costs its service at most that share more requests, and retries
// cannot multiply an overload. It is safe for concurrent use and takes no lock.
type budget struct {
	percent  int64
	tokens   atomic.Int64 // thousandths
	saved    atomic.Int64 // what of requests' shares may be saved up, in thousandths
	refilled atomic.Int64 // UnixNano

	seen, recent uint64 // requests: in all, and in about the last ten seconds; of settle alone
}

const (
	thousandths = 1000
	perSecond   = 10 * thousandths
	// budgetCap is what the bucket holds, ten seconds of the fixed part, beside what
	// the requests of about as long have added: so all of those under way when an
	// endpoint dies may be tried again, at any rate of requests.
	budgetCap = 10 * perSecond
)

// newBudget gives one of a service that had so many requests before.
func newBudget(percent int, before uint64) *budget {
	return &budget{percent: int64(percent), seen: before}
}

// request notes a request, which adds its share.
func (b *budget) request() {
	if b.tokens.Load() < budgetCap+b.saved.Load() {
		b.tokens.Add(b.percent * thousandths / 100)
	}
}

// take takes a token for a retry, if there is one.
func (b *budget) take(now time.Time) bool {
	if b.percent == 0 {
		return false
	}
	b.refill(now.UnixNano())
	for {
		have := b.tokens.Load()
		if have < thousandths {
			return false
		}
		if b.tokens.CompareAndSwap(have, have-thousandths) {
			return true
		}
	}
}

// refill adds what the time since the last refill gives. The first fills the
// bucket.
func (b *budget) refill(now int64) {
	last := b.refilled.Load()
	if now-last < int64(time.Millisecond) || !b.refilled.CompareAndSwap(last, now) {
		return
	}
	passed := min(time.Duration(now-last), 10*time.Second)
	have := b.tokens.Add(int64(passed) * perSecond / int64(time.Second))
	if over := have - budgetCap - b.saved.Load(); over > 0 {
		b.tokens.Add(-over)
	}
}

// settle is told each stepEvery how many requests there were in all.
func (b *budget) settle(requests uint64) {
	const steps = uint64(10 * time.Second / stepEvery)
	b.recent -= b.recent / steps
	b.recent += requests - b.seen
	b.seen = requests
	b.saved.Store(int64(b.recent) * b.percent * thousandths / 100)
}
