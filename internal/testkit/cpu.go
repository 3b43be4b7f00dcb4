package testkit

import (
	"syscall"
	"testing"
	"time"
)

// CPU reports, beside a benchmark's time, the CPU time of the whole process an
// operation, which other work on the machine changes less. The benchmark calls
// what it gives when done.
func CPU(b *testing.B) (done func()) {
	used := func() time.Duration {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	before := used()
	return func() { b.ReportMetric(float64((used()-before).Microseconds())/1e3/float64(b.N), "cpu-ms/op") }
}
