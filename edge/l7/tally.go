package l7

import (
	"sync/atomic"
	"time"
)

// Counters that requests add to are spread over shards, which lie on cache lines
// of their own: a client's connection always adds to the same one, so that
// cores seldom meet. A scrape sums them up.
const spread = 8

// limits are the upper bounds of histograms of durations; what is above the
// last one counts only in all.
var limits = [...]time.Duration{time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond, 10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond, time.Second, 2500 * time.Millisecond, 5 * time.Second, 10 * time.Second, 30 * time.Second}

// histogram counts durations. The zero histogram is ready for use, by any
// goroutine.
type histogram struct{ shards [spread]histogramShard }

type histogramShard struct {
	counts [len(limits) + 1]atomic.Uint64
	sum    atomic.Int64 // nanoseconds
}

func (h *histogram) observe(shard int, d time.Duration) {
	i := 0
	for i < len(limits) && d > limits[i] {
		i++
	}
	s := &h.shards[shard]
	s.counts[i].Add(1)
	s.sum.Add(int64(d))
}

// read gives what was counted, in the form that Prometheus takes: by upper bound
// in seconds, each with all that is below.
func (h *histogram) read() (count uint64, sum float64, buckets map[float64]uint64) {
	buckets = make(map[float64]uint64, len(limits))
	for i := range len(limits) + 1 {
		for j := range h.shards {
			count += h.shards[j].counts[i].Load()
		}
		if i < len(limits) {
			buckets[limits[i].Seconds()] = count
		}
	}
	for j := range h.shards {
		sum += time.Duration(h.shards[j].sum.Load()).Seconds()
	}
	return count, sum, buckets
}

// classes counts answers by their status / 100; 0 is for none. The zero one is
// ready for use, by any goroutine.
type classes struct{ shards [spread]classShard }

type classShard struct {
	counts [6]atomic.Uint64
	_      [16]byte
}

func (c *classes) add(shard, status int) {
	c.shards[shard].counts[min(status/100, 5)].Add(1)
}

func (c *classes) read() (out [6]uint64) {
	for i := range c.shards {
		for j := range out {
			out[j] += c.shards[i].counts[j].Load()
		}
	}
	return out
}

func (c *classes) total() (n uint64) {
	for _, of := range c.read() {
		n += of
	}
	return n
}

// classNames are the values of the label code_class.
var classNames = [6]string{"none", "1xx", "2xx", "3xx", "4xx", "5xx"}
