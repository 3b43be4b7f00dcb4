package xdp

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
)

// maxBounds is MAX_BOUNDS of the program.
const maxBounds = 16384

// The sets of networks that the program knows.
const (
	exemptNetworks = iota
	proxyNetworks
	networkSets
)

// networks is where the bounds of the sets of networks lie.
type networks [networkSets]struct {
	list []netip.Prefix
	half uint64 // of the set's room, that is in use
	span uint64 // as the program has it
}

// setNetworks gives a set its networks, beside those that it has now, and how
// the program is told of them: nothing changes before it is.
func (k *kernel) setNetworks(set int, list []netip.Prefix) (span uint64, err error) {
	n := &k.networks[set]
	if slices.Equal(n.list, list) {
		return n.span, nil
	}
	b := bounds(list)
	if len(b) > maxBounds {
		return 0, fmt.Errorf("more than %d networks that lie apart", maxBounds/2)
	}
	var buf []byte
	for _, at := range b {
		buf = binary.NativeEndian.AppendUint64(binary.NativeEndian.AppendUint64(buf, at[0]), at[1])
	}
	half := 1 - n.half
	first := (2*uint64(set) + half) * maxBounds
	if err := write(k.Bounds, 16*int(first), buf); err != nil {
		return 0, err
	}
	n.list, n.half, n.span = slices.Clone(list), half, 0
	if len(b) > 0 {
		n.span = first<<32 | uint64(len(b))
	}
	return n.span, nil
}

// fitNetworks says whether the program can know so many networks.
func fitNetworks(list []netip.Prefix) bool {
	return len(list) <= maxBounds/2 || len(bounds(list)) <= maxBounds
}

// bounds gives where the networks of a list begin and end, in order, IPv4
// mapped into IPv6, with those joined that meet. No IPv6 network is said to hold
// addresses of IPv4 (net/netip has it so): what begins with 64 zeros is left
// out, and no client has it that the program answers.
func bounds(list []netip.Prefix) [][2]uint64 {
	var spans [][2][2]uint64
	for _, p := range list {
		p = p.Masked()
		hi, lo := halves(p.Addr())
		from := [2]uint64{hi, lo}
		hi, lo = mask(p.Bits() + 128 - p.Addr().BitLen())
		to := [2]uint64{from[0] | ^hi, from[1] | ^lo} // the last address
		if p.Addr().Is6() && from[0] == 0 {
			if to[0] == 0 {
				continue
			}
			from = [2]uint64{1, 0}
		}
		spans = append(spans, [2][2]uint64{from, to})
	}
	slices.SortFunc(spans, func(a, b [2][2]uint64) int { return slices.Compare(a[0][:], b[0][:]) })
	var out [][2]uint64
	for _, s := range spans {
		end := [2]uint64{s[1][0], s[1][1] + 1}
		if end[1] == 0 {
			end[0]++ // 0 behind the last address of all
		}
		last := len(out) - 1
		behind := func(a, b [2]uint64) bool {
			return a != [2]uint64{} && (b == [2]uint64{} || slices.Compare(a[:], b[:]) < 0)
		}
		switch {
		case last < 0 || behind(out[last], s[0]):
			out = append(out, s[0], end)
		case behind(out[last], end):
			out[last] = end
		}
	}
	if last := len(out) - 1; last >= 0 && out[last] == [2]uint64{} {
		out = out[:last]
	}
	return out
}
