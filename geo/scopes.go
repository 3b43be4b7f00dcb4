package geo

// Block is one entry of a Table: a maximal CIDR block of addresses of one
// class.
type Block uint32

const lengthBits = 8

// Class is that of all addresses in the block; of the blocks of IPv6 whose
// addresses carry an IPv4 one, InSixToFour, InTeredo or InLast32.
func (b Block) Class() Class { return Class(b >> lengthBits) }

// Bits is the length of the block's prefix.
func (b Block) Bits() int { return int(b & (1<<lengthBits - 1)) }

// Scopes are the widest scopes that answers of one decision may claim: by
// block, the length of the largest block of addresses that get the same answer.
// It is immutable.
//
// Where an IPv6 address carries an IPv4 one, its scope is that of the IPv4
// block and as many bits more as stand before it; but where that is 0, the
// scope of the IPv6 block.
type Scopes []uint8

// Widen gives the scopes of a decision that makes one answer of all addresses
// whose classes have the same value of to.
func (t *Table) Widen(to func(Class) uint32) Scopes {
	out := make(Scopes, len(t.blocks))
	v4 := t.blocks[:t.first6]
	widen(v4, out, 32, to)
	if out[0] != 0 { // the carriers' answers differ
		widen(t.blocks[t.first6:], out[t.first6:], 128, func(k Class) uint32 {
			if k > maxClass {
				return ^uint32(0)
			}
			return to(k)
		})
		return out
	}
	one := to(v4[0].Class())
	widen(t.blocks[t.first6:], out[t.first6:], 128, func(k Class) uint32 {
		if k > maxClass {
			return one
		}
		return to(k)
	})
	return out
}

// widen fills in the scopes of one family. The block around an address in
// which all is of one answer holds neither the address before the run of
// blocks with that answer nor the one behind: it is one bit longer than what
// it shares with the nearer of them. What addresses share is what they share
// across each border between them, at the least.
func widen(blocks []Block, out Scopes, width int, to func(Class) uint32) {
	var at u128
	var shared uint8 // one bit more than with the address before the run; 0 at the space's beginning
	had := uint32(0)
	borders := make([]uint8, len(blocks)+1) // one bit more than what is shared across the border before a block; 0 at the ends
	for i, b := range blocks {
		if i > 0 {
			borders[i] = uint8(width - at.zeros())
		}
		k := to(b.Class())
		if i == 0 || k != had {
			shared, had = borders[i], k
		} else {
			shared = min(shared, borders[i])
		}
		out[i] = shared
		at = at.after(128 - width + b.Bits())
	}
	for i := len(blocks) - 1; i >= 0; i-- {
		k := to(blocks[i].Class())
		if i == len(blocks)-1 || k != had {
			shared, had = borders[i+1], k
		} else {
			shared = min(shared, borders[i+1])
		}
		out[i] = max(out[i], shared)
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
