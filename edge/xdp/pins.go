package xdp

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// pins is a folder on a BPF file system where the tables and the program's place
// at the device outlive the process: so that one that is started again, or is
// another version, goes on with the flows, and no packet falls between the two.
// Empty, nothing outlives.
//
//	<folder>/link            the program at the device
//	<folder>/<layout>/flows  and the other tables, by what their contents look like
type pins string

// kept are the tables that outlive the process.
var kept = []string{edgeMapSelf, edgeMapVips, edgeMapBalancers, edgeMapEndpoints, edgeMapRings, edgeMapBigRings,
	edgeMapOwners, edgeMapBigOwners, edgeMapServers, edgeMapNetworks, edgeMapFlows, edgeMapCounters, edgeMapVipStats, edgeMapGates}

const bpfFSMagic = 0xcafe4a11

// usable gives p, or where the folder cannot be used none, and says what follows
// of that.
func (p pins) usable(log *slog.Logger) pins {
	if p == "" {
		return ""
	}
	err := p.check(string(p))
	if err == nil {
		return p
	}
	log.Warn("layer 4 ends with this process: a restart loses packets meanwhile, and flows that only its tables have", "reason", err)
	return ""
}

// check makes a folder and says why it cannot be used. Where there is no BPF file
// system it leaves nothing behind.
func (p pins) check(dir string) error {
	if err := onBPF(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("layer 4: tables that outlive the process: %w", err)
	}
	if err := unix.Access(dir, unix.W_OK); err != nil {
		return fmt.Errorf("layer 4: %s: %w", dir, err)
	}
	return nil
}

// onBPF says why a folder is not, or would not be, on a BPF file system.
func onBPF(dir string) error {
	var fs unix.Statfs_t
	for at := dir; ; at = filepath.Dir(at) {
		err := unix.Statfs(at, &fs)
		switch {
		case errors.Is(err, unix.ENOENT) && at != filepath.Dir(at):
			continue
		case err != nil:
			return fmt.Errorf("layer 4: %s: %w", at, err)
		case fs.Type != bpfFSMagic:
			return fmt.Errorf("layer 4: %s is not on a BPF file system (mount -t bpf bpf /sys/fs/bpf)", dir)
		}
		return nil
	}
}

// prepare has the tables of spec kept, and gives the options to load it by, and
// whether there are none of that layout yet. Errors say why the folder cannot be used.
func (p pins) prepare(spec *ebpf.CollectionSpec) (opts *ebpf.CollectionOptions, fresh bool, err error) {
	if p == "" {
		return nil, false, nil
	}
	dir := filepath.Join(string(p), layout(spec))
	_, err = os.Stat(dir)
	fresh = errors.Is(err, os.ErrNotExist)
	if err := p.check(dir); err != nil {
		return nil, false, err
	}
	for _, name := range kept {
		spec.Maps[name].Pinning = ebpf.PinByName
	}
	return &ebpf.CollectionOptions{Maps: ebpf.MapOptions{PinPath: dir}}, fresh, nil
}

// layout is a digest of what the kept tables look like, but for the number of
// flows: a program that has them otherwise begins with tables of its own.
func layout(spec *ebpf.CollectionSpec) string {
	h := sha256.New()
	for _, name := range kept {
		m := spec.Maps[name]
		size := m.MaxEntries
		if name == edgeMapFlows {
			size = 0
		}
		fmt.Fprintf(h, "%s %s %d %d %d %#v\n", name, m.Type, m.KeySize, m.ValueSize, size, m.Flags)
		describe(h, m.Key, 0)
		describe(h, m.Value, 0)
		if m.InnerMap != nil {
			fmt.Fprintf(h, "%d\n", m.InnerMap.ValueSize)
			describe(h, m.InnerMap.Value, 0)
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// describe writes what a type looks like in memory: names, places and sizes of
// its members. (Printed as it is, a btf.Type gives its address in this process.)
func describe(w io.Writer, t btf.Type, depth int) {
	t = btf.UnderlyingType(t)
	if t == nil || depth > 8 {
		return
	}
	size, _ := btf.Sizeof(t)
	fmt.Fprintf(w, "%T %s %d\n", t, t.TypeName(), size)
	switch t := t.(type) {
	case *btf.Array:
		fmt.Fprintf(w, "%d of\n", t.Nelems)
		describe(w, t.Type, depth+1)
	case *btf.Struct:
		describeMembers(w, t.Members, depth)
	case *btf.Union:
		describeMembers(w, t.Members, depth)
	}
}

func describeMembers(w io.Writer, members []btf.Member, depth int) {
	for _, m := range members {
		fmt.Fprintf(w, "%s %d %d\n", m.Name, m.Offset, m.BitfieldSize)
		describe(w, m.Type, depth+1)
	}
}

// forgetFlows lets go of a flow table of another size.
func (p pins) forgetFlows(spec *ebpf.CollectionSpec) error {
	return os.Remove(filepath.Join(string(p), layout(spec), edgeMapFlows))
}

func (p pins) link() string { return filepath.Join(string(p), "link") }

// attached gives the link that an earlier process left at this device; nil:
// there is none, or one at another device, which stays until keep.
func (p pins) attached(device int) (link.Link, error) {
	if p == "" {
		return nil, nil
	}
	l, err := link.LoadPinnedLink(p.link(), nil)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.link(), err)
	}
	info, err := l.Info()
	if err == nil && info.XDP() != nil && int(info.XDP().Ifindex) == device {
		return l, nil
	}
	return nil, errors.Join(err, l.Close())
}

// keep has the link outlive the process, in place of one at another device, and
// lets go of tables of other layouts. fresh says that it was not kept before.
func (p pins) keep(l link.Link, spec string, fresh bool) error {
	if p == "" {
		return nil
	}
	if fresh {
		if err := os.Remove(p.link()); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("let go of the program at another device: %w", err)
		}
	}
	if err := l.Pin(p.link()); err != nil {
		return fmt.Errorf("keep the program at its device: %w", err)
	}
	return p.forget(func(layout string) bool { return layout != spec })
}

// abandon lets go of tables that were first kept for a session that did not come
// to be.
func (p pins) abandon(k *kernel) error {
	if !k.fresh {
		return nil
	}
	return p.forget(func(layout string) bool { return layout == k.layout })
}

// layoutForm is what the folders of tables are called.
var layoutForm = regexp.MustCompile(`^[0-9a-f]{16}$`)

// forget lets go of the tables of some layouts.
func (p pins) forget(which func(layout string) bool) error {
	entries, err := os.ReadDir(string(p))
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		if e.IsDir() && layoutForm.MatchString(e.Name()) && which(e.Name()) {
			errs = append(errs, os.RemoveAll(filepath.Join(string(p), e.Name())))
		}
	}
	return errors.Join(errs...)
}

// Detach takes the program off its device and lets go of the tables that were
// kept in the folder, and of the neighbours that the kernel was to keep resolved in
// the caller's network namespace; it gives the device's number; 0: no program was there.
// Nothing there is no error. Errors: the folder is on no BPF file system; a process
// that runs has it (ErrClaimed).
func Detach(folder string) (device int, err error) {
	if _, err := os.Stat(folder); errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err := onBPF(folder); err != nil {
		return 0, err
	}
	release, err := Claim(folder)
	if err != nil {
		return 0, err
	}
	defer release()
	p := pins(folder)
	l, err := link.LoadPinnedLink(p.link(), nil)
	if err == nil {
		if info, ierr := l.Info(); ierr == nil && info.XDP() != nil {
			device = int(info.XDP().Ifindex)
		}
		err = errors.Join(l.Unpin(), l.Detach(), l.Close(), releaseNeighbours()) // off, whoever else holds the link
	} else if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	if err = errors.Join(err, p.forget(func(string) bool { return true })); err != nil {
		return device, fmt.Errorf("detach: %w", err)
	}
	if err := os.Remove(folder); err != nil && !errors.Is(err, unix.ENOTEMPTY) { // what is not ours stays
		return device, fmt.Errorf("detach: %w", err)
	}
	return device, nil
}
