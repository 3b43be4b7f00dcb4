package geo

// Scopes are the widest scopes that answers of one decision may claim: by
// block, the length of the largest block of addresses that get the same answer.
// It is immutable.
//
// Where an IPv6 address carries an IPv4 one, its scope is that of the IPv4
// block and as many bits more as stand before it; but where that is 0, the
// scope of the IPv6 block.
type Scopes []uint8

// noAnswer is what Widen's to never holds.
const noAnswer = 1<<32 - 1

// Widen gives the scopes of a decision that makes one answer of all addresses
// whose classes have the same value in to, which is by class.
func (t *Table) Widen(to []uint32) Scopes {
	out := make(Scopes, len(t.blocks))
	n := t.first6
	widen(t.blocks[:n], t.borders[:n+1], out[:n], to, noAnswer)
	carried := uint32(noAnswer) // IPv6 addresses that carry IPv4 ones have no answer in common …
	if out[0] == 0 {
		carried = to[t.blocks[0].Class()] // … unless all of IPv4 has
	}
	widen(t.blocks[n:], t.borders[n:], out[n:], to, carried)
	return out
}

// widen fills in the scopes of one family. The largest block of one answer
// around an address holds neither the address before the run of blocks with
// that answer nor the one behind: it is one bit longer than what it shares with
// the nearer of them. What two addresses share is the least that is shared
// across the borders between them. Two passes without a branch that depends on
// the data are faster than one from run to run.
func widen(blocks []Block, borders, out []uint8, to []uint32, carried uint32) {
	answer := func(b Block) uint32 {
		if k := b.Class(); k <= maxClass {
			return to[k]
		}
		return carried
	}
	shared, had := uint32(0), uint32(noAnswer)
	for i, b := range blocks {
		k, border := answer(b), uint32(borders[i])
		least := min(shared, border)
		if k != had {
			least = border
		}
		shared, had = least, k
		out[i] = uint8(shared)
	}
	had = noAnswer
	for i := len(blocks) - 1; i >= 0; i-- {
		k, border := answer(blocks[i]), uint32(borders[i+1])
		least := min(shared, border)
		if k != had {
			least = border
		}
		shared, had = least, k
		out[i] = uint8(max(uint32(out[i]), shared))
	}
}

// Scope gives the length of the block around an address in which every address
// gets the same answer, counted in the family of the address as given.
func (s Scopes) Scope(at Spot) int {
	scope := int(s[at.Block])
	switch {
	case at.Before == 0:
		return scope
	case scope == 0:
		return int(s[at.Carrier])
	}
	return scope + int(at.Before)
}
