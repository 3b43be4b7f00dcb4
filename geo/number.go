package geo

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
)

// u128 is an IPv6 address as a number.
type u128 struct{ hi, lo uint64 }

func (a u128) less(b u128) bool { return a.hi < b.hi || a.hi == b.hi && a.lo < b.lo }

func (a u128) compare(b u128) int {
	switch {
	case a.less(b):
		return -1
	case b.less(a):
		return 1
	}
	return 0
}

// next gives a+1, and false past the end of the space.
func (a u128) next() (u128, bool) {
	lo, carry := bits.Add64(a.lo, 1, 0)
	hi, over := bits.Add64(a.hi, 0, carry)
	return u128{hi, lo}, over == 0
}

func (a u128) prev() u128 {
	lo, borrow := bits.Sub64(a.lo, 1, 0)
	return u128{a.hi - borrow, lo}
}

// zeros is the number of trailing bits that are zero; 128 of zero.
func (a u128) zeros() int {
	if a.lo != 0 {
		return bits.TrailingZeros64(a.lo)
	}
	return 64 + bits.TrailingZeros64(a.hi)
}

// shift gives the number without its first n bits, n below 64.
func (a u128) shift(n int) u128 {
	return u128{a.hi<<n | a.lo>>1>>(63-n), a.lo << n}
}

// after gives the first address behind the block of that length that begins
// at a; zero past the end of the space.
func (a u128) after(length int) u128 {
	var carry uint64
	if length > 64 {
		a.lo, carry = bits.Add64(a.lo, 1<<(128-length), 0)
		a.hi += carry
	} else {
		a.hi += 1 << (64 - length) // nothing for length 0: past the end
	}
	return a
}

func (a u128) addr() netip.Addr {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], a.hi)
	binary.BigEndian.PutUint64(b[8:], a.lo)
	return netip.AddrFrom16(b)
}

func number(a netip.Addr) u128 {
	b := a.As16()
	return u128{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}

func number4(a netip.Addr) uint32 {
	b := a.As4()
	return binary.BigEndian.Uint32(b[:])
}

func addr4(n uint32) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], n)
	return netip.AddrFrom4(b)
}

// lastOf gives the last address of an IPv6 prefix.
func lastOf(p netip.Prefix) u128 {
	a := number(p.Addr())
	if n := 128 - p.Bits(); n > 64 {
		return u128{a.hi | (uint64(1)<<(n-64) - 1), ^uint64(0)}
	} else if n == 64 {
		return u128{a.hi, ^uint64(0)}
	} else {
		return u128{a.hi, a.lo | (uint64(1)<<n - 1)}
	}
}

// upper64 gives the 64 bits behind the first n, n up to 127.
func (a u128) upper64(n int) uint64 {
	if n >= 64 {
		return a.lo << (n - 64)
	}
	return a.shift(n).hi
}

func (a u128) minus(b u128) u128 {
	lo, borrow := bits.Sub64(a.lo, b.lo, 0)
	return u128{a.hi - b.hi - borrow, lo}
}

// log2 is rounded down; that of 0 is 128, as for 2^128.
func (a u128) log2() int {
	switch {
	case a.hi != 0:
		return 127 - bits.LeadingZeros64(a.hi)
	case a.lo != 0:
		return 63 - bits.LeadingZeros64(a.lo)
	}
	return 128
}
