//go:build linux

package netns

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// NS is one network namespace and a thread that lives in it. Its methods may
// be called from any goroutine.
type NS struct {
	Name string // for messages

	fd   netns.NsHandle
	nl   *netlink.Handle
	work chan func()
	done chan struct{}
}

// New makes an empty namespace with its loopback up, forwarding on for both
// families, reverse path filters and duplicate address detection off, ECMP by
// 5-tuple, and routes over dead links ignored.
func New(name string) (*NS, error) {
	n, err := begin(name, func() error { return unix.Unshare(unix.CLONE_NEWNET) })
	if err != nil {
		return nil, err
	}
	if err := n.prepare(); err != nil {
		return nil, errors.Join(fmt.Errorf("namespace %s: %w", name, err), n.Close())
	}
	return n, nil
}

// Here gives the namespace that the process is in, for those without the
// right to make others. Close ends what Start began and leaves it as it is.
func Here(name string) (*NS, error) { return begin(name, func() error { return nil }) }

func begin(name string, enter func() error) (*NS, error) {
	n := &NS{Name: name, work: make(chan func()), done: make(chan struct{})}
	ready := make(chan error)
	go n.live(enter, ready)
	if err := <-ready; err != nil {
		return nil, fmt.Errorf("namespace %s: %w", name, err)
	}
	return n, nil
}

// live goes into the namespace with a thread of its own and serves Do until
// Close. The thread is never unlocked, so it ends with the goroutine; with it
// end the processes that Start began on it.
func (n *NS) live(enter func() error, ready chan<- error) {
	defer close(n.done)
	runtime.LockOSThread()
	err := enter()
	if err == nil {
		n.fd, err = netns.Get()
	}
	if err == nil {
		n.nl, err = netlink.NewHandle(unix.NETLINK_ROUTE)
	}
	ready <- err
	if err != nil {
		return
	}
	for f := range n.work {
		f()
	}
}

func (n *NS) prepare() error {
	for _, kv := range [][2]string{
		{"net/ipv4/ip_forward", "1"},
		{"net/ipv4/conf/all/rp_filter", "0"},
		{"net/ipv4/conf/default/rp_filter", "0"},
		{"net/ipv4/conf/all/ignore_routes_with_linkdown", "1"},
		{"net/ipv4/conf/default/ignore_routes_with_linkdown", "1"},
		{"net/ipv4/fib_multipath_hash_policy", "1"},
		{"net/ipv6/conf/all/forwarding", "1"},
		{"net/ipv6/conf/default/forwarding", "1"},
		{"net/ipv6/conf/all/accept_dad", "0"},
		{"net/ipv6/conf/default/accept_dad", "0"},
		{"net/ipv6/conf/all/ignore_routes_with_linkdown", "1"},
		{"net/ipv6/conf/default/ignore_routes_with_linkdown", "1"},
		{"net/ipv6/conf/all/keep_addr_on_down", "1"},
		{"net/ipv6/conf/default/keep_addr_on_down", "1"},
		{"net/ipv6/fib_multipath_hash_policy", "1"},
	} {
		if err := n.Sysctl(kv[0], kv[1]); err != nil {
			return err
		}
	}
	return n.Up("lo")
}

// Close ends the namespace's thread and, with it, the processes begun by
// Start. The kernel frees the namespace when its last process is gone.
func (n *NS) Close() error {
	close(n.work)
	<-n.done
	n.nl.Close()
	return n.fd.Close()
}

// Do runs f on the namespace's own thread. Meant for short work that does not
// wait; goroutines that f starts run elsewhere.
func (n *NS) Do(f func() error) error {
	err := make(chan error, 1)
	n.work <- func() { err <- f() }
	return <-err
}

// Enter runs f on the caller's goroutine, with its thread inside the
// namespace, and may wait. Sockets that f itself opens belong to the
// namespace for good.
func (n *NS) Enter(f func() error) error {
	runtime.LockOSThread()
	home, err := netns.Get()
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("namespace %s: own namespace: %w", n.Name, err)
	}
	defer home.Close()
	if err := netns.Set(n.fd); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("namespace %s: enter: %w", n.Name, err)
	}
	ferr := f()
	if err := netns.Set(home); err != nil {
		// The thread stays locked, so that it dies with the goroutine and
		// nothing else ever runs in the wrong namespace.
		return errors.Join(ferr, fmt.Errorf("namespace %s: leave: %w", n.Name, err))
	}
	runtime.UnlockOSThread()
	return ferr
}

// Netlink gives a route netlink handle inside the namespace.
func (n *NS) Netlink() *netlink.Handle { return n.nl }

// Handle gives the namespace's descriptor, valid until Close.
func (n *NS) Handle() netns.NsHandle { return n.fd }

// Sysctl writes one setting, as net/ipv4/ip_forward.
func (n *NS) Sysctl(key, value string) error {
	return n.Do(func() error {
		if err := os.WriteFile(filepath.Join("/proc/sys", key), []byte(value), 0); err != nil {
			return fmt.Errorf("sysctl %s: %w", strings.ReplaceAll(key, "/", "."), err)
		}
		return nil
	})
}
