package sign

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"meridian/dns/zone"
	"meridian/fleet"
)

// Online signs what compact denial (RFC 9824) signs when it is asked for: the
// NSEC of the name that was asked for, and what a wildcard stands for. It is
// immutable and safe for concurrent use.
type Online struct {
	apex    string
	signers []*signer
}

// OpenOnline gives the means of a zone to be signed online, which Sign put into
// it; nil where it has none. Keys that do not sign the zone are refused.
func OpenOnline(z *zone.Zone) (*Online, error) {
	const size = 1 + 32 // algorithm and private key
	if len(z.Online) == 0 {
		return nil, nil
	}
	if len(z.Online)%size != 0 {
		return nil, errors.New("keys to sign online: are cut short")
	}
	if z.Denial != zone.DenyNSEC {
		return nil, errors.New("keys to sign online: the zone has no NSECs to go by")
	}
	o := &Online{apex: z.Apex().Name}
	for rest := z.Online; len(rest) > 0; rest = rest[size:] {
		k, err := KeyFrom(ZSK, rest[0], rest[1:size], time.Time{})
		if err != nil {
			return nil, fmt.Errorf("keys to sign online: %w", err)
		}
		s, err := newSigner(&k)
		if err != nil {
			return nil, fmt.Errorf("keys to sign online: %w", err)
		}
		if !s.signs(z, zone.TypeSOA) { // while the algorithm is rolled, a key signs that is in no DNSKEY set (RFC 6781 section 4.1.4)
			return nil, fmt.Errorf("keys to sign online: %s is not one that signs the zone", k)
		}
		o.signers = append(o.signers, s)
	}
	return o, nil
}

// signs says whether a set at the apex has a signature of the signer's.
func (s *signer) signs(z *zone.Zone, t uint16) bool {
	set := z.Apex().Get(t)
	if set == nil {
		return false
	}
	for sig := range each(set.Sigs) {
		if head, ok := s.head(sig); ok && s.verify(signedData(head, z.Apex().Name, set), sig[len(head):]) {
			return true
		}
	}
	return false
}

// compact says whether nameservers sign absence: by compact denial, and once
// ZSKs alone sign the zone. Before that, NSEC3 denies: a CSK is not given to
// nameservers, and a chain of NSEC would tell all names.
func (m *maker) compact() bool {
	return m.Policy.Denial == fleet.DenialCompact && !slices.ContainsFunc(m.signers, func(s *signer) bool {
		return s.key.RRSIG.published() && s.key.Role != ZSK
	})
}

// online gives the keys that nameservers sign with: those that sign the zone.
func (m *maker) online() []byte {
	if len(m.signers) == 0 || !m.compact() {
		return nil
	}
	var out []byte
	for _, s := range m.signers {
		if s.key.RRSIG.published() {
			out = append(append(out, s.key.Algorithm), s.key.Private...)
		}
	}
	return out
}

// Signatures made online begin an hour before the hour in which they are made,
// and end a day after it: within the hour all servers make the same.
const (
	onlineHour = 3600
	onlineLife = 25 * onlineHour
)

// Signatures keeps those that were made online, so that what is asked for
// again is not signed again. The zero value is ready; it is safe for concurrent
// use and holds at most 4 MB.
type Signatures struct {
	made  [2][1 << 14]atomic.Pointer[onlineSignature] // of names that exist; of others
	count atomic.Uint64
}

// Made counts the signatures that were made.
func (s *Signatures) Made() uint64 { return s.count.Load() }

// onlineSignature is a signature, and the digest of all that it follows from.
// Signatures of both algorithms have 64 octets.
type onlineSignature struct {
	of        [sha256.Size]byte
	signature [64]byte
}

// Sign appends the signatures of a set at an owner (wire form, lower case) to
// dst, in the form of zone.RRset.Sigs. now is in seconds since 1970 modulo
// 2^32. made holds names that a stranger can make up apart from those that
// exist, so that a flood of the former does not push out the latter.
func (o *Online) Sign(made *Signatures, dst, owner []byte, exists bool, set *zone.RRset, now uint32) ([]byte, error) {
	slots := &made.made[0]
	if !exists {
		slots = &made.made[1]
	}
	begin := now - now%onlineHour - onlineHour
	start := len(dst)
	for _, s := range o.signers {
		at := len(dst)
		dst = binary.BigEndian.AppendUint16(dst, 0) // the length
		dst = binary.BigEndian.AppendUint16(dst, set.Type)
		dst = append(dst, s.key.Algorithm, labels(owner))
		dst = binary.BigEndian.AppendUint32(dst, set.TTL)
		dst = binary.BigEndian.AppendUint32(dst, begin+onlineHour+onlineLife)
		dst = binary.BigEndian.AppendUint32(dst, begin)
		dst = binary.BigEndian.AppendUint16(dst, s.tag)
		dst = append(dst, o.apex...)
		head := len(dst)

		// What is hashed stands behind the head for as long as it takes.
		dst = append(dst, owner...)
		dst = append(dst, s.key.Public...)
		dst = append(dst, set.Data...)
		of := sha256.Sum256(dst[at:])
		dst = dst[:head]
		slot := &slots[binary.BigEndian.Uint16(of[:])%uint16(len(slots))]
		had := slot.Load()
		if had == nil || had.of != of {
			signature, err := s.sign(signedData(dst[at+2:], string(owner), set))
			if err != nil {
				return dst[:start], err
			}
			had = &onlineSignature{of, [64]byte(signature)}
			slot.Store(had)
			made.count.Add(1)
		}
		dst = append(dst, had.signature[:]...)
		binary.BigEndian.PutUint16(dst[at:], uint16(len(dst)-at-2))
	}
	return dst, nil
}

// AppendDenial appends, in the form of zone.RRset.Data, the NSEC of compact
// denial: its next name is the one right behind the owner in canonical order,
// so that it tells of no other name. bits is the type bitmap.
func (o *Online) AppendDenial(dst, owner, bits []byte) []byte {
	at := len(dst)
	dst = appendNext(append(dst, 0, 0), owner, o.apex)
	dst = append(dst, bits...)
	binary.BigEndian.PutUint16(dst[at:], uint16(len(dst)-at-2))
	return dst
}

// appendNext appends the name that comes right behind a name of a zone (RFC
// 4471 section 3.1.2): the least one below it, and where that would be too
// long the least one beside it; behind the last name comes the apex.
func appendNext(dst, name []byte, apex string) []byte {
	if len(name)+2 <= maxName {
		return append(append(dst, 1, 0), name...)
	}
	for ; len(name) > len(apex); name = name[1+int(name[0]):] {
		label, rest := name[1:1+int(name[0])], name[1+int(name[0]):]
		if len(label) < maxLabel && len(name)+1 <= maxName {
			dst = append(append(append(dst, byte(len(label)+1)), label...), 0)
			return append(dst, rest...)
		}
		for len(label) > 0 && label[len(label)-1] == 0xff {
			label = label[:len(label)-1]
		}
		if len(label) > 0 {
			dst = append(append(dst, byte(len(label))), label...)
			last := len(dst) - 1
			if dst[last]++; dst[last] == 'A' { // names are in lower case
				dst[last] = 'Z' + 1
			}
			return append(dst, rest...)
		}
	}
	return append(dst, apex...)
}

// Lengths of names and labels (RFC 1035 section 2.3.4).
const (
	maxName  = 255
	maxLabel = 63
)
