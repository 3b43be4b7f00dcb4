// Package outlier finds the endpoints of a pool that answer worse than the
// others: with failures in a row, with a high share of failures, or slowly. It
// says for how long each gets no requests; balance then leaves it out.
//
// Requests Record their outcomes by atomic additions, without a lock or an
// allocation. One goroutine a gateway calls Judge each second; what it decides
// depends on the samples and the time alone. Times are durations since any one
// moment, by a clock that does not go back.
//
// Pure floor: it imports fleet. No I/O, clock, goroutine or logger. Imported by
// edge/l7.
package outlier
