// Package limit bounds what a gateway lets through: things under way at a time
// (Gate), concurrency by latency (Adaptive), requests over time by key (Table),
// and the shares that gateways have of a limit they hold together (Portion,
// Shares, Steady).
//
// What requests call takes no lock and does not allocate. Times are durations
// since any one moment, the same for all calls of a process, by a clock that
// does not go back.
//
// Pure floor: it imports fleet. No I/O, clock, goroutine or logger. Imported by
// edge/l7.
package limit
