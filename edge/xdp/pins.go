package xdp

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"
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
	edgeMapFormers, edgeMapBigFormers, edgeMapServers, edgeMapNetworks, edgeMapFlows, edgeMapCounters, edgeMapVipStats, edgeMapGates}

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

// check makes a folder and says why it cannot be used.
func (p pins) check(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("layer 4: tables that outlive the process: %w", err)
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return fmt.Errorf("layer 4: %s: %w", dir, err)
	}
	if fs.Type != bpfFSMagic {
		return fmt.Errorf("layer 4: %s is not on a BPF file system (mount -t bpf bpf /sys/fs/bpf)", p)
	}
	return unix.Access(dir, unix.W_OK)
}

// prepare has the tables of spec kept, and gives the options to load it by.
// Errors say why the folder cannot be used.
func (p pins) prepare(spec *ebpf.CollectionSpec) (*ebpf.CollectionOptions, error) {
	if p == "" {
		return nil, nil
	}
	dir := filepath.Join(string(p), layout(spec))
	if err := p.check(dir); err != nil {
		return nil, err
	}
	for _, name := range kept {
		spec.Maps[name].Pinning = ebpf.PinByName
	}
	return &ebpf.CollectionOptions{Maps: ebpf.MapOptions{PinPath: dir}}, nil
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
		if m.Value != nil {
			fmt.Fprintf(h, "%+v\n", m.Value)
		}
		if m.InnerMap != nil {
			fmt.Fprintf(h, "%d\n", m.InnerMap.ValueSize)
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// forgetFlows lets go of a flow table of another size.
func (p pins) forgetFlows(spec *ebpf.CollectionSpec) error {
	return os.Remove(filepath.Join(string(p), layout(spec), edgeMapFlows))
}

func (p pins) link() string { return filepath.Join(string(p), "link") }

// attached gives the link that an earlier process left at this device; nil:
// there is none.
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
	// At another device, or at one that is gone.
	return nil, errors.Join(err, l.Unpin(), l.Close())
}

// keep has the link outlive the process, and lets go of tables of other layouts.
func (p pins) keep(l link.Link, spec string) error {
	if p == "" {
		return nil
	}
	if err := l.Pin(p.link()); err != nil {
		return fmt.Errorf("keep the program at its device: %w", err)
	}
	entries, err := os.ReadDir(string(p))
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		if e.IsDir() && e.Name() != spec {
			errs = append(errs, os.RemoveAll(filepath.Join(string(p), e.Name())))
		}
	}
	return errors.Join(errs...)
}

// Detach takes the program off its device and lets go of the tables that were
// kept in the folder. Nothing there is no error.
func Detach(folder string) error {
	l, err := link.LoadPinnedLink(pins(folder).link(), nil)
	if err == nil {
		err = errors.Join(l.Unpin(), l.Close())
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("detach: %w", err)
	}
	if err := os.RemoveAll(folder); err != nil {
		return fmt.Errorf("detach: %w", err)
	}
	return nil
}
