package fleet

import "time"

// MaxHoldings is how many limits a gateway tells of.
const MaxHoldings = 64

// Holding is one gateway's word on a limit that several hold together.
type Holding struct {
	Limit  uint64 // a name for the limit and its numbers, the same at all gateways
	Demand uint32 // requests that came for it, in the limit's time
	Held   uint32 // requests of the limit that this gateway takes as its own
}

// Holdings is the last that was heard of one gateway.
type Holdings struct {
	Age  time.Duration // since then
	List []Holding     // at most MaxHoldings
}
