package l7

import (
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	stats "runtime/metrics"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"meridian/edge/l7/overload"
)

// What makes the processor count as at its limit: one in a hundred goroutines
// waits that long to run, in seconds, at each of so many readings in a row, of at
// least so many goroutines each. A machine that pauses for a moment is not short of
// processor time.
const (
	delayLimit    = 0.1
	delayReadings = 40 // ten seconds
	delayLeast    = 100
)

// What is read of the runtime.
const (
	metricLive   = "/gc/heap/live:bytes"
	metricStacks = "/memory/classes/heap/stacks:bytes"
	metricDelays = "/sched/latencies:seconds"
)

// gauge measures this process. It is for one goroutine.
type gauge struct {
	samples []stats.Sample
	delays  []uint64 // counts of metricDelays when it was read last
	recent  [delayReadings]float64
	turn    int
	memory  float64 // limits; 0 for none
	files   float64
}

func newGauge() *gauge {
	m := &gauge{samples: []stats.Sample{{Name: metricLive}, {Name: metricStacks}, {Name: metricDelays}}, memory: memoryLimit()}
	var r unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &r) == nil && r.Cur != unix.RLIM_INFINITY {
		m.files = float64(r.Cur)
	}
	return m
}

// read measures. What of memory counts is what the last collection found in use:
// what is garbage goes by itself.
func (m *gauge) read() (out overload.Measures) {
	stats.Read(m.samples)
	if m.memory > 0 {
		out[overload.Memory] = float64(m.samples[0].Value.Uint64()+m.samples[1].Value.Uint64()) / m.memory
	}
	if m.files > 0 {
		out[overload.Files] = openFiles() / m.files
	}
	out[overload.Processor] = m.lasting(m.delay(m.samples[2].Value.Float64Histogram())) / delayLimit
	return out
}

// lasting gives the least of the last readings.
func (m *gauge) lasting(delay float64) float64 {
	m.recent[m.turn] = delay
	m.turn = (m.turn + 1) % len(m.recent)
	return slices.Min(m.recent[:])
}

// delay gives the 99th percentile since it was read last, in seconds.
func (m *gauge) delay(h *stats.Float64Histogram) float64 {
	var total uint64
	fresh := make([]uint64, len(h.Counts))
	for i, n := range h.Counts {
		fresh[i] = n
		if m.delays != nil {
			fresh[i] -= m.delays[i]
		}
		total += fresh[i]
	}
	first := m.delays == nil
	m.delays = append(m.delays[:0], h.Counts...)
	if first || total < delayLeast {
		return 0
	}
	beyond := total / 100
	for i := len(fresh) - 1; i >= 0; i-- {
		if fresh[i] > beyond {
			return max(h.Buckets[i], 0)
		}
		beyond -= fresh[i]
	}
	return 0
}

// openFiles counts this process's descriptors. Linux tells since 6.2 by the folder's
// size; before, they are listed.
func openFiles() float64 {
	const dir = "/proc/self/fd"
	var st unix.Stat_t
	if unix.Stat(dir, &st) == nil && st.Size > 0 {
		return float64(st.Size)
	}
	list, _ := os.ReadDir(dir)
	return float64(len(list))
}

// memoryLimit is the lower of GOMEMLIMIT and what the control groups allow, in
// octets; 0 for none.
func memoryLimit() float64 {
	limit := float64(debug.SetMemoryLimit(-1))
	if limit == math.MaxInt64 {
		limit = math.Inf(1)
	}
	own, _ := os.ReadFile("/proc/self/cgroup")
	_, path, _ := strings.Cut(string(own), "0::")
	path, _, _ = strings.Cut(path, "\n")
	for dir := filepath.Clean("/" + path); ; dir = filepath.Dir(dir) {
		text, _ := os.ReadFile("/sys/fs/cgroup" + dir + "/memory.max")
		if n, err := strconv.ParseFloat(strings.TrimSpace(string(text)), 64); err == nil && n > 0 {
			limit = min(limit, n)
		}
		if dir == "/" {
			break
		}
	}
	if math.IsInf(limit, 1) {
		return 0
	}
	return limit
}
