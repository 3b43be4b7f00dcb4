package xdp

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"meridian/dns/limit"
)

// debtSets is DEBT_SETS of the program.
const debtSets = 32768

// debtTable gives the kernel's debts as a table for dns/limit. The memory stays
// mapped for good, since a limiter may go by it as long as it likes.
func (k *kernel) debtTable() (*limit.Table, error) {
	mem, err := unix.Mmap(k.Debts.FD(), 0, debtSets*int(unsafe.Sizeof(limit.Set{})), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("dns xdp: map the debts: %w", err)
	}
	var up unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &up); err != nil {
		return nil, fmt.Errorf("dns xdp: monotonic clock: %w", err)
	}
	return &limit.Table{Sets: unsafe.Slice((*limit.Set)(unsafe.Pointer(&mem[0])), debtSets), Key: limit.Key(),
		Start: time.Now().Add(-time.Duration(up.Nano()))}, nil
}

var _ = [1]struct{}{}[unsafe.Sizeof(atomic.Uint64{})-8] // as the program has it

// setLimit tells the program the rate limit; nil for none. It goes by the
// kernel's debts with the table's key.
func (k *kernel) setLimit(l *limit.Limiter, t *limit.Table) error {
	var r dnsLimits
	if l != nil {
		cfg := l.Config()
		r.On, r.Slip, r.Mask, r.Key = 1, uint32(max(0, cfg.Slip)), debtSets-1, t.Key
		var err error
		if r.Exempt, err = k.setNetworks(exemptNetworks, cfg.Exempt); err != nil {
			return fmt.Errorf("dns xdp: networks without rate limit: %w", err)
		}
		v4, v6 := l.Costs()
		for family, costs := range [][]limit.Cost{v4, v6} {
			for i, c := range costs {
				if family == 0 {
					c.Bits += 96
				}
				n := &r.Network[family][i]
				n.MaskHi, n.MaskLo = mask(c.Bits)
				n.Bits, n.Cost = uint64(c.Bits), c.Ticks
			}
		}
	}
	if err := k.Rate.Put(uint32(0), &r); err != nil {
		return fmt.Errorf("dns xdp: rate limit: %w", err)
	}
	return k.grace() // networks of before may be written over
}

// setProxies tells the program from where it passes on all.
func (k *kernel) setProxies(list []netip.Prefix) error {
	span, err := k.setNetworks(proxyNetworks, list)
	if err != nil {
		return fmt.Errorf("dns xdp: networks of proxies: %w", err)
	}
	if span == k.settings.Proxies {
		return nil
	}
	k.settings.Proxies = span
	if err := k.Self.Put(uint32(0), &k.settings); err != nil {
		return fmt.Errorf("dns xdp: settings: %w", err)
	}
	return k.grace()
}

// halves gives an address as two numbers, IPv4 mapped into IPv6.
func halves(a netip.Addr) (hi, lo uint64) {
	b := a.As16()
	return binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])
}

// mask gives that of a prefix of so many bits.
func mask(bits int) (hi, lo uint64) {
	if bits < 64 {
		return ^(^uint64(0) >> bits), 0
	}
	return ^uint64(0), ^(^uint64(0) >> (bits - 64))
}
