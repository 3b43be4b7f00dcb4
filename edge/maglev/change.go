package maglev

// Change is what becomes of a ring's slots when its members change.
type Change struct {
	Slots  int            `json:"slots"`  // of the ring
	Moved  int            `json:"moved"`  // slots that get another owner: so many flows of Slots move, were there no second chance
	Gone   int            `json:"gone"`   // of these, slots whose owner does not stay: its flows break
	Gained map[string]int `json:"gained"` // slots by the member that gets them
	Lost   map[string]int `json:"lost"`   // likewise, that loses them
}

// Share gives the moved slots' part of all, 0 to 1.
func (c *Change) Share() float64 { return float64(c.Moved) / float64(max(c.Slots, 1)) }

// Owners gives the name of each slot's member in the ring of these members; all
// "" where there are none. Errors are Build's.
func Owners(members []Member, slots int, seed uint64) ([]string, error) {
	out := make([]string, slots)
	if len(members) == 0 {
		return out, nil
	}
	members = sorted(members)
	ring, err := Build(members, slots, seed)
	if err != nil {
		return nil, err
	}
	for slot, m := range ring {
		out[slot] = members[m].Name
	}
	return out, nil
}

// Compare says what changes from one ring to another of as many slots, each
// given as its slots' owners, with stays for the names that are members still.
// Slots that had no owner do not move.
func Compare(before, after []string, stays func(name string) bool) Change {
	c := Change{Slots: len(after), Gained: map[string]int{}, Lost: map[string]int{}}
	for _, slot := range Moved(before, after) {
		c.Moved++
		c.Lost[before[slot]]++
		if after[slot] != "" {
			c.Gained[after[slot]]++
		}
		if !stays(before[slot]) {
			c.Gone++
		}
	}
	return c
}

// Moved lists the slots that had an owner and get another.
func Moved(before, after []string) []int {
	var out []int
	for slot := range after {
		if slot < len(before) && before[slot] != "" && before[slot] != after[slot] {
			out = append(out, slot)
		}
	}
	return out
}
