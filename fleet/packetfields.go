package fleet

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Addresses is one address or a network of them; zero: none given.
type Addresses struct{ netip.Prefix }

// String writes an address as such.
func (a Addresses) String() string {
	if a.IsValid() && a.IsSingleIP() {
		return a.Addr().String()
	}
	return a.Prefix.String()
}

// MarshalText writes it as the Spec does.
func (a Addresses) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText reads an address or a network.
func (a *Addresses) UnmarshalText(b []byte) error {
	if addr, err := netip.ParseAddr(string(b)); err == nil && addr.Zone() == "" {
		a.Prefix = netip.PrefixFrom(addr, addr.BitLen())
		return nil
	}
	p, err := netip.ParsePrefix(string(b))
	if err != nil {
		return fmt.Errorf("%q is not an address or a network such as 192.0.2.0/28", b)
	}
	a.Prefix = p
	return nil
}

// ValueRange is a range of values of a field of 16 bits, both ends included.
type ValueRange struct {
	First, Last uint16
	Given       bool // else all values
}

// String writes it as the Spec does.
func (r ValueRange) String() string { return NumberRange{r.First, r.Last}.String() }

// MarshalText writes it as the Spec does.
func (r ValueRange) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads a number or two with a hyphen between them.
func (r *ValueRange) UnmarshalText(b []byte) error {
	first, last, two := strings.Cut(string(b), "-")
	if !two {
		last = first
	}
	lo, err1 := strconv.ParseUint(first, 10, 16)
	hi, err2 := strconv.ParseUint(last, 10, 16)
	if err1 != nil || err2 != nil || hi < lo {
		return fmt.Errorf("%q is not a number from 0 to 65535 or a range such as 0-1023", b)
	}
	*r = ValueRange{uint16(lo), uint16(hi), true}
	return nil
}

// ASNumber is the number of an AS; 0: none given.
type ASNumber uint32

// MarshalText writes it as the Spec does.
func (n ASNumber) MarshalText() ([]byte, error) {
	return strconv.AppendUint(nil, uint64(n), 10), nil
}

// UnmarshalText reads a number from 1 on.
func (n *ASNumber) UnmarshalText(b []byte) error {
	v, err := strconv.ParseUint(string(b), 10, 32)
	if err != nil || v == 0 {
		return fmt.Errorf("%q is not an AS number", b)
	}
	*n = ASNumber(v)
	return nil
}

// TCPOptions is the order of the options of a TCP header: a 1, and behind it four
// bits for the kind of each, the first one's the highest; kinds from 15 on are 15
// all. 0: none given.
type TCPOptions uint64

// tcpOptions are the names of the kinds (IANA); those without one are written as
// numbers.
var tcpOptions = [...]string{"end", "nop", "mss", "scale", "sack", "5", "6", "7", "timestamp", "9", "10", "11", "12", "13", "14", "other"}

// maxTCPOptions is how many a TCPOptions holds.
const maxTCPOptions = 15

// String writes them as the Spec does.
func (o TCPOptions) String() string {
	var words []string
	for ; o > 1; o >>= 4 {
		words = append(words, tcpOptions[o&15])
	}
	if len(words) == 0 {
		return "none"
	}
	slices.Reverse(words)
	return strings.Join(words, ",")
}

// MarshalText writes them as the Spec does.
func (o TCPOptions) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// UnmarshalText reads names and numbers of options with commas between them, or
// none.
func (o *TCPOptions) UnmarshalText(b []byte) error {
	out := TCPOptions(1)
	if string(b) == "none" {
		*o = out
		return nil
	}
	words := strings.Split(string(b), ",")
	if len(words) > maxTCPOptions {
		return fmt.Errorf("%q has more than %d options", b, maxTCPOptions)
	}
	for _, w := range words {
		kind := slices.Index(tcpOptions[:], w)
		if kind < 0 {
			return fmt.Errorf("%q is not none or a list such as mss,sack,timestamp,nop,scale, out of %s", b, strings.Join(tcpOptions[:], ", "))
		}
		out = out<<4 | TCPOptions(kind)
	}
	*o = out
	return nil
}

// Payload is some octets behind the header of TCP or UDP; zero: none given.
type Payload struct {
	Offset      uint16 // of the first, behind the header
	Octets      uint8  // how many, up to 8
	Value, Mask [8]byte
}

// maxPayloadOffset is how far behind the header a rule looks, octets.
const maxPayloadOffset = 1400

// String writes it as the Spec does.
func (p Payload) String() string {
	n := min(int(p.Octets), len(p.Value))
	out := fmt.Sprintf("%d:%x", p.Offset, p.Value[:n])
	for _, m := range p.Mask[:n] {
		if m != 0xff {
			return out + fmt.Sprintf("/%x", p.Mask[:n])
		}
	}
	return out
}

// MarshalText writes it as the Spec does.
func (p Payload) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads an offset, octets in hexadecimal digits, and a mask of as
// many.
func (p *Payload) UnmarshalText(b []byte) error {
	wrong := fmt.Errorf("%q is not an offset up to %d and up to 8 octets such as 0:16030100 or 4:20000000/f0000000", b, maxPayloadOffset)
	offset, rest, ok := strings.Cut(string(b), ":")
	octets, mask, masked := strings.Cut(rest, "/")
	at, err := strconv.ParseUint(offset, 10, 16)
	value, err2 := hex.DecodeString(octets)
	if !ok || err != nil || err2 != nil || at > maxPayloadOffset || len(value) == 0 || len(value) > len(p.Value) {
		return wrong
	}
	out := Payload{Offset: uint16(at), Octets: uint8(len(value))}
	copy(out.Value[:], value)
	for i := range value {
		out.Mask[i] = 0xff
	}
	if masked {
		m, err := hex.DecodeString(mask)
		if err != nil || len(m) != len(value) {
			return wrong
		}
		copy(out.Mask[:], m)
	}
	for i := range value {
		if out.Value[i]&^out.Mask[i] != 0 {
			return fmt.Errorf("%q has bits set that its mask leaves out", b)
		}
	}
	*p = out
	return nil
}
