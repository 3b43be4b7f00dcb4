package geo

import (
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"slices"
)

// Compile builds the table from a database's networks, in ascending order
// within each family. classify is called once for each distinct Place, and
// with the zero Place for the space without data.
func Compile(networks iter.Seq2[netip.Prefix, Place], classify func(Place) Class) (*Table, error) {
	return CompileMarked(networks, nil, classify)
}

// CompileMarked is Compile with marks, which classify finds in the Places.
func CompileMarked(networks iter.Seq2[netip.Prefix, Place], marks *Marks, classify func(Place) Class) (*Table, error) {
	return build(networks, marks, classify, carried())
}

// CompilePlain is CompileMarked for what goes by addresses as they are: an IPv6
// address that carries an IPv4 one has the class of the IPv6 address. In its
// table Find gives no Carrier.
func CompilePlain(networks iter.Seq2[netip.Prefix, Place], marks *Marks, classify func(Place) Class) (*Table, error) {
	return build(networks, marks, classify, nil)
}

// build lays carriers over the blocks of IPv6.
func build(networks iter.Seq2[netip.Prefix, Place], marks *Marks, classify func(Place) Class, carriers []span) (*Table, error) {
	if marks == nil {
		marks = &Marks{}
	}
	classes := newMemo(classify)
	v4 := stretches{end: u128{0, 1<<32 - 1}, marks: &marks.v4, classes: classes, out: overlay{to: &writer{width: 32}}}
	v6 := stretches{end: u128{^uint64(0), ^uint64(0)}, marks: &marks.v6, classes: classes, out: overlay{to: &writer{width: 128}, spans: carriers}}
	for p, place := range networks {
		to := &v6
		if p = p.Masked(); p.Addr().Is4() {
			to = &v4
		} else if carriers != nil && isCarried(p) {
			continue // what a database says there is not of the client
		}
		if first, last := span4or6(p); !to.add(first, last, &place) {
			return nil, fmt.Errorf("geo table: network %s overlaps the one before it or is out of order", p)
		}
	}
	blocks4, blocks6 := v4.finish(), v6.finish()
	if len(blocks4) == 1 && carriers != nil {
		blocks6 = join(blocks6, blocks4[0].Class())
	}
	if classes.over {
		return nil, errors.New("geo table: the fleet and the database make too many classes of clients")
	}
	return newTable(blocks4, blocks6), nil
}

// newTable makes the table of the blocks of both families.
func newTable(blocks4, blocks6 []Block) *Table {
	n := len(blocks4)
	t := &Table{blocks: slices.Concat(blocks4, blocks6), first6: n}
	t.borders = make([]uint8, len(t.blocks)+1)
	borders(t.borders[:n], t.blocks[:n], 32)
	borders(t.borders[n:len(t.blocks)], t.blocks[n:], 128)
	t.v4 = newIndex(t.blocks[:n], 0, rootBits(n, false))
	t.v6 = newIndex(t.blocks[n:], n, rootBits(len(t.blocks)-n, true))
	return t
}

// borders fills in the borders of one family.
func borders(out []uint8, blocks []Block, width int) {
	var at u128
	for i, b := range blocks {
		if i > 0 {
			out[i] = uint8(width - at.zeros())
		}
		at = at.after(128 - width + b.Bits())
	}
}

// stretches covers the space of one family from its first address on. An IPv4
// address is the number's last 32 bits.
type stretches struct {
	at      u128 // the first address not covered yet
	full    bool // the whole space is covered
	end     u128 // the last address of the space
	marks   *marked
	classes *memo
	out     overlay
}

// add covers first to last with a place, and what lies before it with none.
func (s *stretches) add(first, last u128, place *Place) bool {
	if s.full || first.less(s.at) {
		return false
	}
	if s.at != first {
		s.cover(s.at, first.prev(), &Place{})
	}
	s.cover(first, last, place)
	s.full = last == s.end
	s.at, _ = last.next()
	return true
}

// finish covers the rest of the space and gives its blocks.
func (s *stretches) finish() []Block {
	if !s.full {
		s.cover(s.at, s.end, &Place{})
	}
	s.out.finish()
	behind, _ := s.end.next()
	s.out.to.end(behind)
	return s.out.to.blocks
}

// cover splits a stretch where marks begin and end.
func (s *stretches) cover(first, last u128, place *Place) {
	for {
		mark, next, more := s.marks.at(first)
		place.Mark = mark
		s.out.start(first, s.classes.class(place))
		if !more || last.less(next) {
			return
		}
		first = next
	}
}

// span is a stretch of addresses of one class, both ends included.
type span struct {
	first, last u128
	class       Class
}

// overlay lays spans, in order and disjoint, over the runs of classes that
// pass through it. A run begins at one address and goes on to the next run.
type overlay struct {
	to    *writer
	spans []span
	under Class // of the run that passed last
}

func (o *overlay) start(first u128, k Class) {
	for len(o.spans) > 0 && !first.less(o.spans[0].first) {
		s := o.spans[0]
		o.to.start(s.first, s.class)
		if !s.last.less(first) { // it begins within the span, and shows behind it
			o.under = k
			return
		}
		if after, _ := s.last.next(); after != first {
			o.to.start(after, o.under)
		}
		o.spans = o.spans[1:]
	}
	o.under = k
	o.to.start(first, k)
}

// finish lays the spans behind the last run's beginning.
func (o *overlay) finish() {
	for _, s := range o.spans {
		o.to.start(s.first, s.class)
		if after, more := s.last.next(); more {
			o.to.start(after, o.under)
		}
	}
}

// writer makes blocks of runs; neighbours of one class are one run.
type writer struct {
	width  int // bits of an address
	blocks []Block
	begun  bool
	at     u128 // where the run began that is not written yet
	class  Class
}

func (w *writer) start(first u128, k Class) {
	if w.begun && w.class == k {
		return
	}
	if w.begun {
		w.end(first)
	}
	w.begun, w.at, w.class = true, first, k
}

// end writes the run, which goes on to behind; 0 stands for the end of a space
// of 128 bits.
func (w *writer) end(behind u128) {
	for {
		size := min(w.at.zeros(), behind.minus(w.at).log2(), w.width)
		w.blocks = append(w.blocks, Block(w.class)<<lengthBits|Block(w.width-size))
		if w.at = w.at.after(128 - size); w.at == behind {
			return
		}
	}
}
