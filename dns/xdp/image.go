package xdp

import (
	"bytes"
	"errors"
	"fmt"

	"meridian/dns/answer"
	"meridian/dns/zone"
)

// image is all that one kernel holds, and what is known of it for later.
type image struct {
	*compiler
	directory *directory
	kernel    *kernel         // that it is in; nil before load
	waiting   map[string]bool // apexes of zones that are the sockets' until they are mended
	list      []string        // of them, in order, those whose turn it is; none where they are to be ordered
	jobs      map[string]*placing
	slice     int   // names that are placed in one go
	empty     []int // blocks that were given back, and that the kernel may still have

	unsteered bool   // steered names are the sockets', until all is made anew
	off       bool   // so are all names
	worn      string // why all is to be made anew; empty where it need not be
}

// wear says why all is to be made anew.
func (im *image) wear(why string) {
	if im.worn == "" {
		im.worn = why
	}
}

// follow brings what the program answers in line with a plan: when it returns,
// no answer is given that is older than that. What has to be made anew for it
// is left to the sockets, and waits.
func (im *image) follow(p *answer.Plan) error {
	old := im.plan
	if im.off || p == old {
		return nil
	}
	d := p.Differs(old)
	im.plan = p
	marked, err := im.touch(old, p)
	switch {
	case err != nil:
	case d.Settings:
		im.wear("what holds for all answers has changed")
		return im.leaveAll()
	case d.Clients && !im.unsteered:
		im.wear("what is steered, or the clients' table, has changed")
		im.unsteered = true
		err = im.kernel.pass(im.deciding)
	case d.Decided && !im.unsteered:
		err = im.steer(p)
	case marked:
		err = im.kernel.grace()
	}
	if err != nil {
		im.wear("an error")
		return errors.Join(fmt.Errorf("dns xdp: %w", err), im.leaveAll())
	}
	return nil
}

// steer puts into force what a plan decides.
func (im *image) steer(p *answer.Plan) error {
	ok, err := im.kernel.steer(im, p)
	if ok || err != nil {
		return err
	}
	im.wear("no room for what is decided")
	im.unsteered = true
	return im.kernel.pass(im.deciding)
}

// leaveAll leaves all names to the sockets.
func (im *image) leaveAll() error {
	im.off = true
	if err := write(im.kernel.Stale, 0, bytes.Repeat([]byte{1}, row*int(im.kernel.Stale.MaxEntries()))); err != nil {
		return fmt.Errorf("dns xdp: leave all to the sockets: %w", err)
	}
	return im.kernel.grace()
}

// touch marks the zones whose answers are others in a plan than in an older
// one, so that the sockets give them: those that have changed; where one has
// come or gone, the one above; and those with answers that depend on names of
// one of these. It says whether there was one that the program answered.
func (im *image) touch(old, now *answer.Plan) (marked bool, err error) {
	mark := func(apex string) {
		m, e := im.mark(apex)
		marked, err = marked || m, errors.Join(err, e)
	}
	dependent := func(apex, below string) {
		for d := range im.dependents[apex] {
			if below == "" || zone.Below(d.name, below) {
				mark(d.part.apex)
			}
		}
	}
	for apex := range now.Altered(old) {
		mark(apex)
		dependent(apex, "")
		if has(old, apex) == has(now, apex) {
			continue
		}
		if len(apex) == 1 {
			dependent("", apex)
			continue
		}
		for _, p := range []*answer.Plan{old, now} {
			above := p.Apex([]byte(apex)[1+apex[0]:])
			if above != "" {
				mark(above)
			}
			dependent(above, apex)
		}
	}
	return marked, err
}

// has says whether a plan has a zone, with content or without.
func has(p *answer.Plan, apex string) bool { return p.Apex([]byte(apex)) == apex }

// mark leaves a zone to the sockets until it is mended. It says whether the
// program answered it.
func (im *image) mark(apex string) (marked bool, err error) {
	if job := im.jobs[apex]; job != nil { // of what was
		im.abandon(job)
	}
	if im.waiting[apex] {
		return false, nil
	}
	im.waiting[apex] = true
	p := im.parts[apex]
	if p == nil || len(im.list) < longList {
		im.list = nil
	}
	if p == nil || p.number == 0 {
		return false, nil
	}
	p.stale = true
	return true, im.setStale(p, 1)
}

func (im *image) setStale(p *part, v byte) error {
	if err := write(im.kernel.Stale, int(p.number), []byte{v}); err != nil {
		return fmt.Errorf("zones that have changed: %w", err)
	}
	return nil
}
