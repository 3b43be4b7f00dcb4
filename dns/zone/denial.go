package zone

import (
	"bytes"
	"cmp"
	"crypto/sha1" // RFC 5155 knows no other hash
	"encoding/base32"
	"iter"
	"slices"
	"sort"
)

// Denial is how a signed zone proves what does not exist.
type Denial uint8

// The kinds of denial.
const (
	NoDenial  Denial = iota
	DenyNSEC         // RFC 4034
	DenyNSEC3        // RFC 5155
)

// NSEC3 is the NSEC3 of one hash.
type NSEC3 struct {
	Hash string // 20 octets (SHA-1)
	Name string // owner in wire form, lower case
	Set  RRset  // all NSEC3 records of the owner, with their signatures
}

// NSEC3Param is how names are hashed (RFC 5155 section 4).
type NSEC3Param struct {
	Iterations uint16
	Salt       []byte
}

// Hash gives the hash of a name in wire form and lower case (RFC 5155 section
// 5). It allocates nothing.
func (p *NSEC3Param) Hash(name []byte) [sha1.Size]byte {
	var buf [512]byte
	n := copy(buf[:], name)
	sum := sha1.Sum(buf[:n+copy(buf[n:], p.Salt)])
	for range p.Iterations {
		n = copy(buf[:], sum[:])
		sum = sha1.Sum(buf[:n+copy(buf[n:], p.Salt)])
	}
	return sum
}

// hexBase32 is how hashes are written as labels (RFC 5155 section 3.3).
var hexBase32 = base32.HexEncoding.WithPadding(base32.NoPadding)

// nsec3Hash gives the hash in an NSEC3's owner, which stands right below the
// apex.
func nsec3Hash(name string, apexLen int) (string, bool) {
	if name[0] != 32 || len(name) != 33+apexLen {
		return "", false
	}
	hash, err := hexBase32.DecodeString(string(bytes.ToUpper([]byte(name[1:33]))))
	return string(hash), err == nil
}

// NSEC3Owner gives the owner, in wire form and lower case, of the NSEC3 of a
// hash in a zone.
func NSEC3Owner(hash []byte, apex []byte) []byte {
	return append(bytes.ToLower([]byte("\x20"+hexBase32.EncodeToString(hash))), apex...)
}

// findDenial finds how the zone proves absence.
func (z *Zone) findDenial() {
	z.Denial, z.Param, z.chain = NoDenial, nil, nil
	z.findChain()
	switch {
	case !z.Signed:
	case len(z.chain) > 0:
		z.Denial = DenyNSEC3
	case z.Apex().Get(TypeNSEC) != nil:
		z.Denial = DenyNSEC
	}
}

// findChain finds the NSEC3s of the first NSEC3PARAM that has any (RFC 5155
// section 7.1): SHA-1, no flags.
func (z *Zone) findChain() {
	set := z.Apex().Get(TypeNSEC3PARAM)
	if set == nil || len(z.nsec3) == 0 {
		return
	}
	for rdata := range each(set.Data) {
		if rdata[0] != 1 || rdata[1] != 0 {
			continue
		}
		of := func(n *NSEC3) bool { return n.record(rdata[2:]) != nil }
		var chain []NSEC3
		for i := range z.nsec3 {
			if of(&z.nsec3[i]) {
				chain = append(chain, z.nsec3[i])
			}
		}
		if len(chain) == len(z.nsec3) {
			chain = z.nsec3
		}
		p := &NSEC3Param{uint16(rdata[2])<<8 | uint16(rdata[3]), rdata[5:]}
		sum := p.Hash([]byte(z.Apex().Name))
		z.Param, z.chain = p, chain
		if _, match := z.NSEC3(sum[:]); match {
			return
		}
		z.Param, z.chain = nil, nil
	}
}

// record gives the RDATA of the record with these parameters (iterations and
// salt as on the wire), or nil.
func (n *NSEC3) record(param []byte) []byte {
	for rdata := range each(n.Set.Data) {
		if rdata[0] == 1 && bytes.HasPrefix(rdata[2:], param) {
			return rdata
		}
	}
	return nil
}

// NSEC3 gives the NSEC3 of the chain in use that matches a hash, or else the
// one that covers it; nil where the zone has no chain.
func (z *Zone) NSEC3(hash []byte) (owner *NSEC3, match bool) {
	if len(z.chain) == 0 {
		return nil, false
	}
	at, match := sort.Find(len(z.chain), func(i int) int { return bytes.Compare(hash, []byte(z.chain[i].Hash)) })
	if !match && at == 0 {
		at = len(z.chain) // the last one covers what is before the first
	}
	if !match {
		at--
	}
	return &z.chain[at], match
}

// NSEC3s gives every NSEC3, of all chains, in order of hash.
func (z *Zone) NSEC3s() iter.Seq[*NSEC3] {
	return func(yield func(*NSEC3) bool) {
		for i := range z.nsec3 {
			if !yield(&z.nsec3[i]) {
				return
			}
		}
	}
}

// Covering gives the node whose NSEC matches the name or covers it (RFC 4034
// section 6.1); nil where the zone has no NSEC. The name is in wire form,
// lower case and in the zone. It allocates nothing.
func (z *Zone) Covering(name []byte) *Node {
	at, found := slices.BinarySearchFunc(z.nsec, name, func(i uint32, name []byte) int {
		return Compare(z.nodes[i].Name, name)
	})
	if !found {
		at--
	}
	if at < 0 {
		if len(z.nsec) == 0 {
			return nil
		}
		at = len(z.nsec) - 1
	}
	return &z.nodes[z.nsec[at]]
}

// sortNSEC3 orders NSEC3s by hash.
func sortNSEC3(list []NSEC3) {
	slices.SortFunc(list, func(a, b NSEC3) int { return cmp.Compare(a.Hash, b.Hash) })
}
