package l7

import (
	"sync"
	"testing"
	"time"
	"unsafe"
)

// However many add at a time, nothing is lost, and bounds are inclusive.
func TestTalliesLoseNothing(t *testing.T) {
	var h histogram
	var c classes
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for range 1000 {
				h.observe(i%spread, time.Millisecond)
				h.observe(i%spread, time.Minute)
				c.add(i%spread, 204)
				c.add(i%spread, 0)
			}
		})
	}
	wg.Wait()
	count, sum, buckets := h.read()
	if count != 32000 || buckets[.001] != 16000 || buckets[30] != 16000 || sum < 16*60000+15.9 || sum > 16*60000+16.1 {
		t.Errorf("%d, %f s, %v", count, sum, buckets)
	}
	if got := c.read(); got != [6]uint64{16000, 0, 16000} {
		t.Errorf("%v", got)
	}
	if n := testing.AllocsPerRun(100, func() { h.observe(1, time.Second); c.add(1, 200) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if unsafe.Sizeof(histogramShard{})%64 != 0 || unsafe.Sizeof(classShard{})%64 != 0 {
		t.Error("shards share cache lines")
	}
}
