package xdp

import (
	"encoding/binary"
	"strings"

	"meridian/dns/zone"
)

// Limits of records of gaps (bpf/consts.h).
const (
	maxGaps   = 64
	gapLevels = 4
)

// gap is where names lie that one NSEC covers: below one that exists, behind a
// label that exists there, and before the next.
type gap struct {
	label string // "" before the first
	to    ref
}

// proves says whether names of a zone that do not exist have answers with
// proofs here: those of NSEC do, which are as many as there are names.
func (c *compiler) proves(z *zone.Zone) bool {
	return z.Signed && z.Online == nil && z.Denial == zone.DenyNSEC && !c.plain
}

// lateNode is a name whose record waits until all gaps below it are known.
type lateNode struct {
	name  []byte
	below ref // without DO
	kinds []byte
}

// gaps gives what names below one get with DO that have no node, which found
// says: nothing, or what a wildcard has. Where there are names below it, their
// gaps come as they do, and the name is a late one.
func (c *compiler) gaps(z *zone.Zone, name []byte, found zone.Result) ref {
	to := c.gap(z, name, "\x00", found)
	if c.above {
		c.open[string(name)] = []gap{{"", to}}
	}
	return to
}

// behind adds the gap behind a name to those below the name above it.
func (c *compiler) behind(z *zone.Zone, n *zone.Node) {
	end := 1 + int(n.Name[0])
	list := c.open[n.Name[end:]]
	if list == nil || n == z.Apex() {
		return
	}
	above, label, to := []byte(n.Name[end:]), n.Name[1:end], refPass
	if len(label) < maxLabel {
		first := append(append([]byte{byte(end)}, label+"\x00"...), above...)
		if len(first) <= 255 && z.Node(first) == nil {
			to = c.gap(z, above, label+"\x00", z.Lookup(first))
		}
	}
	if list[len(list)-1].to != to {
		c.open[n.Name[end:]] = append(list, gap{label, to})
	}
}

// closeLate places a name that waited for the gaps below it; false where there
// is none.
func (c *compiler) closeLate() bool {
	last := len(c.late) - 1
	if last < 0 {
		return false
	}
	l := c.late[last]
	c.late = c.late[:last]
	list := c.open[string(l.name)]
	delete(c.open, string(l.name))
	to := list[0].to
	if len(list) > 1 {
		to = c.gapTree(list)
	}
	c.node(l.name, [2]ref{l.below, to}, l.kinds)
	return true
}

// gapTree places gaps so that the program can look among them.
func (c *compiler) gapTree(list []gap) ref {
	for range gapLevels {
		if list = c.gapRecords(list); len(list) == 1 {
			return list[0].to
		}
	}
	return refPass
}

// maxLabel is the longest label, in octets (RFC 1035 section 2.3.4).
const maxLabel = 63

// gap gives what names get whose label right below an existing name is such
// that a given one may stand for it.
func (c *compiler) gap(z *zone.Zone, name []byte, label string, found zone.Result) ref {
	first := append(append([]byte{byte(len(label))}, label...), name...)
	second := append([]byte("\x03\xfeno"), first...)
	if len(second) > 255 || z.Node(first) != nil {
		return refPass
	}
	q := questions{zone: z, names: [][]byte{first, second}, labels: labels(name) + maxCuts, rtype: zone.TypeA, do: true}
	if found.Kind == zone.Missing {
		return c.answer(&q)
	}
	return c.share(c.kinds(found.Node, func(rtype uint16) [2]ref {
		q.rtype = rtype
		r := c.answer(&q)
		return [2]ref{r, r}
	}))
}

// gapRecords places gaps, so many to a record, and gives those records as gaps.
func (c *compiler) gapRecords(list []gap) (above []gap) {
	ne := binary.NativeEndian
	for len(list) > 0 {
		n := min(len(list), maxGaps)
		rec := []byte{byte(dnsWhatWHAT_GAPS), byte(n), 0, 0, 0, 0, 0, 0}
		for i := range list[:n] {
			g := &list[i]
			words := labelWords(g.label)
			rec = ne.AppendUint64(ne.AppendUint64(rec, words[0]), words[1])
			rec = ne.AppendUint32(ne.AppendUint32(rec, g.to), c.restOf(g.label, words[2:]))
		}
		above = append(above, gap{list[0].label, c.put(rec)})
		list = list[n:]
	}
	return above
}

// labelWords gives a label's octets, the first foremost, then zeros.
func labelWords(label string) (words [8]uint64) {
	var b [64]byte
	copy(b[:], label)
	for i := range words {
		words[i] = binary.BigEndian.Uint64(b[8*i:])
	}
	return words
}

// restOf places what a gap does not hold of a label.
func (c *compiler) restOf(label string, words []uint64) ref {
	if len(label) <= 16 && strings.IndexByte(label, 0) < 0 {
		return refPass
	}
	rec := []byte{byte(dnsWhatWHAT_LABEL), byte(len(label)), 0, 0, 0, 0, 0, 0}
	for _, w := range words {
		rec = binary.NativeEndian.AppendUint64(rec, w)
	}
	return c.share(rec)
}
