// Package balance picks an endpoint for a request: weighted round robin,
// weighted least connections, consistent hash with bounded load, peak EWMA,
// and the lesser loaded of two drawn at random.
//
// A pick narrows the members down in steps, each a function of the members'
// live states, the time and a random draw, which are arguments:
//
//  1. the member that the client's cookie holds it to, if it is usable;
//  2. panic: with too little of the pool healthy, all count as healthy, but for
//     those that are ejected;
//  3. a priority, by what those before it can bear;
//  4. a zone: this gateway's own, by what it can bear;
//  5. of what is left the members in the best state that there is;
//  6. of these one by the policy.
//
// It reads live states by atomic loads, takes no lock and does not allocate.
// Explain tells the same steps for people, by the same code.
//
// Times are durations since any one moment, the same for all Asks and Lives of
// a process, by a clock that does not go back, and greater than 0.
//
// Pure floor: it imports fleet and edge/maglev. No I/O, clock, goroutine or
// logger. Imported by edge/l7, edge/l7/why and cmd/edge, which show what it decided.
package balance
