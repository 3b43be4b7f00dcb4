package daemon

import (
	"errors"
	"fmt"
	"time"

	"meridian/handover"
)

// heldWithin is how long what one process of a node has may take to work in
// another.
const heldWithin = 20 * time.Second

// succeed takes the former process's place up to the moment in which this one
// begins to serve.
func (d *Daemon) succeed(parts []Part) error {
	demanding, err := d.cfg.Former.Applied()
	if err != nil {
		return err
	}
	d.group.start(parts, sole)
	if demanding {
		if err := d.awaitReady(parts); err != nil {
			return err
		}
	}
	return d.cfg.Former.Ready()
}

// awaitReady waits until all sole parts can do their work.
func (d *Daemon) awaitReady(parts []Part) error {
	end := time.Now().Add(heldWithin)
	for {
		err := soleReady(parts)
		if err == nil {
			return nil
		}
		select {
		case failed := <-d.group.failed:
			return failed
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(end) {
			return fmt.Errorf("not ready after %v: %w", heldWithin, err)
		}
	}
}

func soleReady(parts []Part) error {
	var errs []error
	for _, p := range parts {
		if p.Sole && p.Ready != nil {
			if err := p.Ready(); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", p.Name, err))
			}
		}
	}
	return errors.Join(errs...)
}

// notTaken ends a process that was to take another's place and cannot; err it
// gives back.
func (d *Daemon) notTaken(err error) error {
	if d.cfg.Former != nil {
		select {
		case <-d.placed: // it has
			return err
		default:
		}
		select {
		case d.failed <- fmt.Errorf("taking the place of the process before: %w", err):
		default:
		}
	}
	return err
}

// Upgrade has another process take this one's place: start starts it, and told is
// called with it when it is about to serve. When Upgrade returns without an error
// Run is ending: what is under way is finished. On an error, of which the new
// process is dead, all is as it was. No World comes in meanwhile.
func (d *Daemon) Upgrade(start func() (*handover.Next, error), told func(*handover.Next)) error {
	if !d.upgrading.TryLock() {
		return errors.New("another upgrade is under way")
	}
	defer d.upgrading.Unlock()
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.ended:
		return errors.New("the node is stopping")
	case d.parts == nil:
		return errors.New("the node has no configuration yet")
	}
	next, err := start()
	if err != nil {
		return err
	}
	if err := d.handOver(next, told); err != nil {
		return err
	}
	d.ended = true
	d.succeeded <- struct{}{}
	return nil
}

func (d *Daemon) handOver(next *handover.Next, told func(*handover.Next)) (err error) {
	if err := next.Applied(); err != nil {
		next.Kill()
		return err
	}
	ready := soleReady(d.parts) == nil
	stopped := d.group.stop(sole, errHandedOver)
	defer func() {
		if err != nil {
			next.Kill()
			d.yield(false)
			d.group.start(d.parts, sole)
		}
	}()
	if stopped != nil {
		return stopped
	}
	if err := next.Take(ready); err != nil {
		return err
	}
	d.yield(true)
	told(next)
	return next.Yours()
}

func (d *Daemon) yield(to bool) {
	for _, p := range d.parts {
		if p.Yield != nil {
			p.Yield(to)
		}
	}
}
