//go:build linux

package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"meridian/internal/testkit/netns"
)

// A wire is a long-distance link: two TAP devices, one in each namespace, and
// a relay in this process that hands every frame over after a delay, in
// order. Loss of carrier passes along it: when one end is taken down, the
// other end loses its carrier, as on a leased line.
type wire struct {
	delay time.Duration
	ends  [2]*tap
}

// wireQueue bounds the frames in flight in one direction; more are dropped,
// as by any router with a full queue.
const wireQueue = 4096

// maxFrame holds an Ethernet frame of the largest MTU in the lab.
const maxFrame = 2048

// tap is one end of a wire.
type tap struct {
	end  netns.End
	file *os.File
}

// newWire makes the devices with their addresses; frames pass while run does.
func newWire(a, b netns.End, delay time.Duration) (*wire, error) {
	w := &wire{delay: delay}
	for i, e := range []netns.End{a, b} {
		t, err := newTap(e)
		if err != nil {
			return nil, errors.Join(err, w.close())
		}
		w.ends[i] = t
	}
	return w, nil
}

func newTap(e netns.End) (*tap, error) {
	t := &tap{end: e}
	err := e.NS.Do(func() error {
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		if err != nil {
			return err
		}
		ifr, err := unix.NewIfreq(e.Dev)
		if err == nil {
			ifr.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
			err = unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr)
		}
		if err != nil {
			unix.Close(fd)
			return err
		}
		t.file = os.NewFile(uintptr(fd), "tap "+e.Dev) // after TUNSETIFF: before it the descriptor cannot be polled
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("wire: tap %s in %s: %w", e.Dev, e.NS.Name, err)
	}
	for _, p := range e.Addrs {
		if err := e.NS.AddAddr(e.Dev, p); err != nil {
			return nil, errors.Join(err, t.file.Close())
		}
	}
	if err := e.NS.Up(e.Dev); err != nil {
		return nil, errors.Join(err, t.file.Close())
	}
	return t, nil
}

// close removes the devices.
func (w *wire) close() error {
	var errs []error
	for _, t := range w.ends {
		if t != nil {
			errs = append(errs, t.file.Close())
		}
	}
	return errors.Join(errs...)
}

// run carries frames and carrier until ctx ends, then removes the devices.
func (w *wire) run(ctx context.Context) error {
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := make(chan error, 2)
	for i := range w.ends {
		from, to := w.ends[i], w.ends[1-i]
		line := make(chan frame, wireQueue)
		wg.Go(func() { defer close(line); from.read(line, w.delay) })
		wg.Go(func() { to.write(line) })
		wg.Go(func() { errs <- from.passCarrier(ctx, to) })
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-errs:
	}
	cancel()
	err = errors.Join(err, w.close())
	wg.Wait()
	return err
}

// frame is one Ethernet frame on its way.
type frame struct {
	due  time.Time
	data []byte
}

// read takes frames off the device until it is closed.
func (t *tap) read(line chan<- frame, delay time.Duration) {
	buf := make([]byte, maxFrame)
	for {
		n, err := t.file.Read(buf)
		if errors.Is(err, os.ErrClosed) {
			return
		}
		if err != nil {
			// The device is down (EIO): wait for it to come back.
			time.Sleep(20 * time.Millisecond)
			continue
		}
		select {
		case line <- frame{time.Now().Add(delay), append([]byte(nil), buf[:n]...)}:
		default:
		}
	}
}

// write puts each frame on the device when its time has come.
func (t *tap) write(line <-chan frame) {
	for f := range line {
		if wait := time.Until(f.due); wait > 0 {
			time.Sleep(wait)
		}
		_, _ = t.file.Write(f.data) // a device that is down loses the frame, as it should
	}
}

// passCarrier watches whether t's device is up and gives the other end
// carrier or takes it, until ctx ends.
func (t *tap) passCarrier(ctx context.Context, other *tap) error {
	updates := make(chan netlink.LinkUpdate, 64)
	handle := t.end.NS.Handle()
	err := netlink.LinkSubscribeWithOptions(updates, ctx.Done(), netlink.LinkSubscribeOptions{
		Namespace: &handle, ListExisting: true,
	})
	if err != nil {
		return fmt.Errorf("wire: watch %s in %s: %w", t.end.Dev, t.end.NS.Name, err)
	}
	had := true
	for {
		select {
		case <-ctx.Done():
			return nil
		case u, ok := <-updates:
			if !ok {
				return nil
			}
			if u.Attrs().Name != t.end.Dev {
				continue
			}
			up := u.Flags&unix.IFF_UP != 0
			if up == had {
				continue
			}
			had = up
			if err := other.setCarrier(up); err != nil && !errors.Is(err, os.ErrClosed) {
				return fmt.Errorf("wire: carrier of %s in %s: %w", other.end.Dev, other.end.NS.Name, err)
			}
		}
	}
}

func (t *tap) setCarrier(on bool) error {
	value := 0
	if on {
		value = 1
	}
	raw, err := t.file.SyscallConn()
	if err != nil {
		return err
	}
	cerr := raw.Control(func(fd uintptr) { err = unix.IoctlSetPointerInt(int(fd), unix.TUNSETCARRIER, value) })
	return errors.Join(cerr, err)
}
