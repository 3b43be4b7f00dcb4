package xdp

import (
	"encoding/binary"
	"fmt"
	"math/bits"

	"github.com/cilium/ebpf"

	"meridian/edge/quiclb"
)

// setQUIC tells the programs, before they are loaded, how connection ids are
// read. Errors: a configuration that the programs do not read.
func setQUIC(spec *ebpf.CollectionSpec, configs []quiclb.Config) error {
	var table [quiclb.MaxRotation + 2]edgeQuicConfig
	for _, c := range configs {
		codec, err := quiclb.New(c)
		if err != nil {
			return fmt.Errorf("layer 4: %w", err)
		}
		if c.Server != quiclb.ServerLen || c.Key != nil && c.Nonce != 16-quiclb.ServerLen {
			return fmt.Errorf("layer 4: quic connection ids: server id of %d and nonce of %d octets: expected %d, and with a key %d",
				c.Server, c.Nonce, quiclb.ServerLen, 16-quiclb.ServerLen)
		}
		e := edgeQuicConfig{How: uint8(edgeQuicHowQUIC_PLAIN), Length: uint8(codec.Len())}
		if c.Key != nil {
			e.How, e.Key = uint8(edgeQuicHowQUIC_BLOCK), decryptionKey([16]byte(c.Key))
		}
		table[c.Rotation] = e
	}
	box := substitutions()
	for name, v := range map[string]any{edgeVarQuic: table, edgeVarAesColumns: inverseColumns(box), edgeVarAesBox: inverse(box)} {
		if err := spec.Variables[name].Set(v); err != nil {
			return fmt.Errorf("layer 4: set the programs' constants: %s: %w", name, err)
		}
	}
	return nil
}

// The rest is AES-128 as the program `decrypt` in bpf/quic.h wants it: the
// standard library keeps its tables and round keys to itself.

// double multiplies by x in AES's field (FIPS 197 section 4.2).
func double(a byte) byte {
	if a&0x80 != 0 {
		return a<<1 ^ 0x1b
	}
	return a << 1
}

func multiply(a, b byte) byte {
	var out byte
	for ; b > 0; b >>= 1 {
		if b&1 == 1 {
			out ^= a
		}
		a = double(a)
	}
	return out
}

// substitutions gives the S-box (FIPS 197 section 5.1.1): 3 generates the
// field's elements but 0, p as q does their inverses.
func substitutions() [256]byte {
	var box [256]byte
	box[0] = 0x63
	for p, q := byte(1), byte(1); ; {
		box[p] = q ^ bits.RotateLeft8(q, 1) ^ bits.RotateLeft8(q, 2) ^ bits.RotateLeft8(q, 3) ^ bits.RotateLeft8(q, 4) ^ 0x63
		p, q = multiply(p, 3), multiply(q, 0xf6)
		if p == 1 {
			return box
		}
	}
}

func inverse(box [256]byte) [256]byte {
	var out [256]byte
	for i, v := range box {
		out[v] = byte(i)
	}
	return out
}

// unmix is InvMixColumns of a column whose first octet alone is not zero.
func unmix(a byte) uint32 {
	return uint32(multiply(a, 0xe))<<24 | uint32(multiply(a, 9))<<16 | uint32(multiply(a, 0xd))<<8 | uint32(multiply(a, 0xb))
}

// inverseColumns gives what each octet of a column turns into, by its place.
func inverseColumns(box [256]byte) [4][256]uint32 {
	var out [4][256]uint32
	for i, v := range box {
		for place := range 4 {
			out[place][v] = bits.RotateLeft32(unmix(byte(i)), -8*place)
		}
	}
	return out
}

// decryptionKey gives the round keys of the equivalent inverse cipher, in the
// order of use (FIPS 197 sections 5.2 and 5.3.5).
func decryptionKey(key [16]byte) [44]uint32 {
	box := substitutions()
	var w [44]uint32
	for i := range 4 {
		w[i] = binary.BigEndian.Uint32(key[4*i:])
	}
	round := byte(1)
	for i := 4; i < len(w); i++ {
		t := w[i-1]
		if i%4 == 0 {
			t = bits.RotateLeft32(t, 8)
			t = uint32(box[t>>24]^round)<<24 | uint32(box[t>>16&0xff])<<16 | uint32(box[t>>8&0xff])<<8 | uint32(box[t&0xff])
			round = double(round)
		}
		w[i] = w[i-4] ^ t
	}
	var out [44]uint32
	for i, v := range w {
		if i >= 4 && i < 40 {
			v = unmix(byte(v>>24)) ^ bits.RotateLeft32(unmix(byte(v>>16)), -8) ^
				bits.RotateLeft32(unmix(byte(v>>8)), -16) ^ bits.RotateLeft32(unmix(byte(v)), -24)
		}
		out[40-i/4*4+i%4] = v
	}
	return out
}
