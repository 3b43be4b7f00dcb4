package xdp

import (
	"encoding/binary"
	"math/bits"
)

// Key is the secret of the flow hash. Every balancer of a region has the same,
// so that a flow that moves to another balancer keeps its endpoint; nobody
// else may know it, or flows could be aimed at one endpoint.
type Key [16]byte

func (k Key) words() [2]uint64 {
	return [2]uint64{binary.LittleEndian.Uint64(k[:8]), binary.LittleEndian.Uint64(k[8:])}
}

// ringSeed is the seed of all rings under a key.
func (k Key) ringSeed() uint64 { return k.siphash(0x52494e47, 0, 0) }

// salt sets the flows of one VIP apart from another's. It depends on nothing
// that differs between balancers.
func (k Key) salt(f frontend) uint64 {
	a := f.addr.As16()
	return k.siphash(binary.BigEndian.Uint64(a[:8]), binary.BigEndian.Uint64(a[8:]), uint64(f.port)<<8|uint64(f.proto))
}

// siphash is SipHash-1-3 of three words, the twin of siphash in bpf/hash.h.
func (k Key) siphash(a, b, c uint64) uint64 {
	w := k.words()
	v := [4]uint64{w[0] ^ 0x736f6d6570736575, w[1] ^ 0x646f72616e646f6d, w[0] ^ 0x6c7967656e657261, w[1] ^ 0x7465646279746573}
	for _, m := range [...]uint64{a, b, c, 24 << 56} {
		v[3] ^= m
		sipRound(&v)
		v[0] ^= m
	}
	v[2] ^= 0xff
	sipRound(&v)
	sipRound(&v)
	sipRound(&v)
	return v[0] ^ v[1] ^ v[2] ^ v[3]
}

func sipRound(v *[4]uint64) {
	v[0] += v[1]
	v[1] = bits.RotateLeft64(v[1], 13) ^ v[0]
	v[0] = bits.RotateLeft64(v[0], 32)
	v[2] += v[3]
	v[3] = bits.RotateLeft64(v[3], 16) ^ v[2]
	v[0] += v[3]
	v[3] = bits.RotateLeft64(v[3], 21) ^ v[0]
	v[2] += v[1]
	v[1] = bits.RotateLeft64(v[1], 17) ^ v[2]
	v[2] = bits.RotateLeft64(v[2], 32)
}
