package xdp

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// ErrUnable is a machine that cannot run layer 4: the error around it says which
// right or feature of the kernel is missing.
var ErrUnable = errors.New("this machine cannot run layer 4")

// right is one that a process may have, by the kernel's number and name.
type right struct {
	number int
	name   string
}

// loading are the rights that it takes to load the programs and attach them.
var loading = []right{{unix.CAP_BPF, "CAP_BPF"}, {unix.CAP_NET_ADMIN, "CAP_NET_ADMIN"}, {unix.CAP_PERFMON, "CAP_PERFMON"}}

// checking are those that the checks through the VIPs take.
var checking = []right{{unix.CAP_NET_RAW, "CAP_NET_RAW"}}

// unable makes an error of loading one that says what is missing.
func unable(err error) error { return fmt.Errorf("%w: %w", ErrUnable, lacking(err, loading)) }

// lacking says of an error which of the rights that were needed this process has
// not, if the kernel refused for want of rights.
func lacking(err error, needed []right) error {
	if !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EACCES) {
		return err
	}
	var names []string
	for _, r := range needed {
		if !has(r) {
			names = append(names, r.name)
		}
	}
	if len(names) == 0 && errors.As(err, new(*ebpf.VerifierError)) {
		return err // the kernel does not understand the program
	}
	if len(names) == 0 {
		return fmt.Errorf("the process has the rights, but a container, a security module or the kernel's lockdown forbids it: %w", err)
	}
	return fmt.Errorf("the process has no %s (run as root, or give them by AmbientCapabilities= of the unit): %w", strings.Join(names, ", "), err)
}

// has says whether this thread may use a right.
func has(r right) bool {
	var data [2]unix.CapUserData
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	if err := unix.Capget(&head, &data[0]); err != nil {
		return false
	}
	return data[r.number/32].Effective&(1<<(r.number%32)) != 0
}

// release gives the kernel's version, as uname -r.
func release() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "an unknown one"
	}
	return unix.ByteSliceToString(u.Release[:])
}

// withoutBTF says of an error that the kernel tells nothing of its own types, if
// it does not.
func withoutBTF(err error) error {
	if _, missing := os.Stat("/sys/kernel/btf/vmlinux"); missing != nil {
		return fmt.Errorf("the kernel has no BTF (CONFIG_DEBUG_INFO_BTF): %w", err)
	}
	return err
}
