package xdp

import (
	"bytes"
	"cmp"
	"errors"
	"maps"
	"slices"
	"strings"
)

// mendNames is how many names are placed, about, before the next look at what
// else has changed: what health decides waits no longer than for them.
const mendNames = 512

// longList is how long a list of zones that wait is gone through before those
// that come behind it: ordering it takes its time.
const longList = 1000

// An image is made anew when more than half as much as its answers take is of
// no use, and more than these octets.
const leastGarbage = 4 << 20

// Why an image is made anew rather than mended.
const (
	wornRoom    = "no room for zones that have changed"
	wornGarbage = "too much of what was replaced is between what is in use"
)

// mended is a zone whose part takes the place of another; either may be nil.
type mended struct {
	apex    string
	was, is *part
}

// mend places some of what waits anew, as the plan that was followed last has
// it, and brings it into force: until then, and while the program's view of it
// changes, it is the sockets'. It gives how many zones that were.
func (im *image) mend() (zones int, err error) {
	if im.worn != "" {
		return 0, nil
	}
	if len(im.list) == 0 {
		im.list = im.order()
	}
	var list []mended
	budget := im.slice
	for _, apex := range im.list {
		m, done, ok := im.remake(apex, &budget)
		if !ok {
			im.wear(wornRoom)
			return 0, nil
		}
		if !done {
			break
		}
		list = append(list, m)
	}
	if len(list) == 0 {
		return 0, nil
	}
	if err := im.publish(list); err != nil {
		im.wear(err.Error())
		if errors.Is(err, errClash) || errors.Is(err, errFull) {
			err = nil
		}
		return 0, err
	}
	im.list = im.list[len(list):]
	if g := im.arena.garbage(); g > leastGarbage && g > im.arena.total/2 {
		im.wear(wornGarbage)
	}
	return len(list), nil
}

// order gives what waits, small zones first, so that one which is large and
// changes time and again holds up no other; but those above a zone that is not
// there yet after that, since names below it would not be the sockets'.
func (im *image) order() []string {
	after, records := map[string]bool{}, map[string]int{}
	for apex := range im.waiting {
		records[apex] = 0
		if z := im.plan.Deepest([]byte(apex)); z != nil && has(im.plan, apex) {
			records[apex] = z.Records()
		}
		if im.parts[apex] != nil {
			continue
		}
		for above := apex; len(above) > 1; {
			above = above[1+above[0]:]
			after[above] = true
		}
	}
	maps.DeleteFunc(records, func(apex string, _ int) bool { return after[apex] })
	return slices.SortedFunc(maps.Keys(records), func(a, b string) int { return cmp.Or(records[a]-records[b], strings.Compare(a, b)) })
}

// remake places a zone anew, as far as the budget of names goes. It is not ok
// where there is no room.
func (im *image) remake(apex string, budget *int) (m mended, done, ok bool) {
	m.apex, m.was = apex, im.parts[apex]
	z := im.plan.Deepest([]byte(apex))
	switch {
	case !has(im.plan, apex):
		return m, true, true
	case z == nil || m.was != nil && m.was.left > 0 && m.was.left <= z.Records():
		m.is = im.stub(apex, []byte(apex))
		if z != nil {
			m.is.left = m.was.left
		}
		return m, true, true
	}
	if *budget <= 0 {
		return m, false, true
	}
	job := im.jobs[apex]
	if job == nil {
		var number uint32
		if m.was != nil {
			number = m.was.number
		}
		if number == 0 {
			number = im.numbers.take()
		}
		if int(number) >= im.kernel.room.parts {
			return m, false, false
		}
		im.begin(z, number)
		im.jobs[apex] = im.placing
	} else {
		im.placing = job
	}
	if done, ok = im.place(budget); done {
		m.is = im.part
		delete(im.jobs, apex)
	}
	return m, done, ok
}

// abandon gives up what is being placed of a zone.
func (im *image) abandon(job *placing) {
	delete(im.jobs, job.apex)
	if was := im.parts[job.apex]; was == nil || was.number != job.number {
		im.numbers.give(job.number)
	}
	im.release(job.part)
}

// publish brings parts into force in place of others. They are stale when it
// begins, or their names are not there.
func (im *image) publish(list []mended) error {
	for _, m := range list {
		if m.is != nil && m.is.number > 0 {
			if err := im.setStale(m.is, 1); err != nil {
				return err
			}
		}
	}
	if ok, err := im.kernel.bring(im.compiler); err != nil {
		return err
	} else if !ok {
		return errFull
	}
	for _, m := range list {
		if err := im.enter(m); err != nil {
			return err
		}
	}
	used := func(block int) bool { return im.arena.blocks[block] != nil }         // again
	if err := im.kernel.grace(slices.DeleteFunc(im.empty, used)...); err != nil { // no query has seen both
		return err
	}
	for _, m := range list {
		if err := im.retire(m); err != nil {
			return err
		}
	}
	im.empty = im.arena.reclaim()
	return nil
}

// enter has the program find the names of a part in place of those of another.
func (im *image) enter(m mended) error {
	if m.is != nil {
		for _, n := range m.is.nodes {
			at, err := im.enterNode(n)
			if err != nil {
				return err
			}
			im.nodes[n.hash] = n.at
			im.kernel.enter(at, *im.directory.entry(at))
		}
	}
	if m.was != nil {
		for _, n := range m.was.nodes {
			if im.nodes[n.hash] == n.at { // no other part has the name now
				delete(im.nodes, n.hash)
				at := im.directory.remove(n.hash, n.at)
				im.kernel.enter(at, *im.directory.entry(at))
			}
		}
	}
	return nil
}

func (im *image) enterNode(n node) (at int, err error) {
	had, ok := im.nodes[n.hash]
	switch {
	case !ok:
		return im.directory.add(n.hash, n.at)
	case bytes.Equal(im.arena.name(had), im.arena.name(n.at)):
		return im.directory.move(n.hash, had, n.at), nil
	}
	return 0, errClash
}

// retire lets the program answer from a part, and gives up the one that was.
func (im *image) retire(m mended) error {
	number := uint32(0)
	if m.is != nil {
		if number = m.is.number; number > 0 {
			if err := im.setStale(m.is, 0); err != nil {
				return err
			}
		}
	}
	if m.was != nil {
		delete(im.parts, m.apex)
		if m.was.left > 0 {
			im.without--
		}
		if m.was.number != number {
			im.numbers.give(m.was.number)
		}
		im.release(m.was)
	}
	if m.is != nil {
		im.settle(m.is)
	}
	delete(im.waiting, m.apex)
	return nil
}
