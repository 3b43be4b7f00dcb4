package sign

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/miekg/dns"

	"meridian/dns/zone"
)

// Verify checks a signed zone, signed by whomever: that each set which the
// zone is authoritative for has a signature in force for each algorithm of the
// DNSKEY set (RFC 4035 section 2.2) and none that is wrong, and that the
// denial chain is whole and tells the truth. Signatures of RSA, ECDSA P-256
// and P-384 and Ed25519 are verified; an algorithm that is not known is passed
// over unless there is no other. All errors are given at once, 20 at most.
func Verify(z *zone.Zone, now time.Time) error {
	v := &verifier{z: z, apex: z.Apex().Name, now: now}
	if !v.keys() {
		return errors.Join(v.errs...)
	}
	for n := range z.Nodes() {
		if z.Occluded(n) {
			continue
		}
		for i := range n.Sets {
			set := &n.Sets[i]
			if z.Cut(n) == nil || set.Type == zone.TypeDS || set.Type == zone.TypeNSEC {
				v.set(n.Name, set)
			} else if len(set.Sigs) > 0 {
				v.failf("%s %s: is signed, and the zone is not authoritative for it", zone.Text([]byte(n.Name)), dns.Type(set.Type))
			}
			for _, alt := range z.Variants(n.Name, set.Type) {
				v.set(n.Name, &alt.Set)
			}
		}
	}
	for n := range z.NSEC3s() {
		v.set(n.Name, &n.Set)
	}
	switch z.Denial {
	case zone.DenyNSEC:
		v.chainNSEC()
	case zone.DenyNSEC3:
		v.chainNSEC3()
	default:
		v.failf("nothing denies what is not there: no whole chain of NSEC or NSEC3")
	}
	if v.more > 0 {
		v.errs = append(v.errs, fmt.Errorf("and %d more errors", v.more))
	}
	return errors.Join(v.errs...)
}

type verifier struct {
	z    *zone.Zone
	apex string
	now  time.Time
	all  []*dns.DNSKEY
	algs []uint8 // known ones of the DNSKEY set
	errs []error
	more int
}

const maxVerifyErrors = 20

func (v *verifier) failf(format string, args ...any) {
	if len(v.errs) == maxVerifyErrors {
		v.more++
		return
	}
	v.errs = append(v.errs, fmt.Errorf("zone %s: "+format, append([]any{v.z.Name}, args...)...))
}

// records gives a set as miekg/dns knows it.
func records(owner string, t uint16, ttl uint32, data []byte) ([]dns.RR, error) {
	var out []dns.RR
	for rdata := range each(data) {
		rr, _, err := dns.UnpackRR(appendRecord(nil, owner, t, ttl, rdata), 0)
		if err != nil {
			return nil, err
		}
		out = append(out, rr)
	}
	return out, nil
}

func (v *verifier) keys() bool {
	set := v.z.Apex().Get(zone.TypeDNSKEY)
	if set == nil {
		v.failf("has no DNSKEY")
		return false
	}
	list, err := records(v.apex, zone.TypeDNSKEY, set.TTL, set.Data)
	if err != nil {
		v.failf("DNSKEY: %v", err)
		return false
	}
	for _, rr := range list {
		k, ok := rr.(*dns.DNSKEY)
		if !ok || k.Flags&flagZone == 0 || k.Protocol != 3 {
			continue
		}
		v.all = append(v.all, k)
		if known(k.Algorithm) && !slices.Contains(v.algs, k.Algorithm) {
			v.algs = append(v.algs, k.Algorithm)
		}
	}
	if len(v.algs) == 0 {
		v.failf("no DNSKEY is of a known algorithm")
		return false
	}
	return true
}

func known(algorithm uint8) bool {
	switch algorithm {
	case dns.RSASHA1, dns.RSASHA1NSEC3SHA1, dns.RSASHA256, dns.RSASHA512, dns.ECDSAP256SHA256, dns.ECDSAP384SHA384, dns.ED25519:
		return true
	}
	return false
}

// set checks the signatures of one set.
func (v *verifier) set(owner string, set *zone.RRset) {
	name := fmt.Sprintf("%s %s", zone.Text([]byte(owner)), dns.Type(set.Type))
	rrs, err := records(owner, set.Type, set.TTL, set.Data)
	if err != nil {
		v.failf("%s: %v", name, err)
		return
	}
	sigs, err := records(owner, zone.TypeRRSIG, set.TTL, set.Sigs)
	if err != nil {
		v.failf("%s: RRSIG: %v", name, err)
		return
	}
	var good []uint8
	for _, rr := range sigs {
		sig := rr.(*dns.RRSIG)
		if err := v.signature(sig, rrs); err != nil {
			v.failf("%s: signature of key %d: %v", name, sig.KeyTag, err)
		} else {
			good = append(good, sig.Algorithm)
		}
	}
	for _, alg := range v.algs {
		if !slices.Contains(good, alg) && (set.Type != zone.TypeDNSKEY || len(good) == 0) {
			v.failf("%s: has no signature of %s", name, dns.AlgorithmToString[alg])
		}
	}
}

// signature checks one signature. One of a key that is not in the DNSKEY set
// is passed over: keys come after their signatures in a roll-over of the
// algorithm (RFC 6781 section 4.1.4).
func (v *verifier) signature(sig *dns.RRSIG, set []dns.RR) error {
	if !known(sig.Algorithm) {
		return nil
	}
	if set[0].Header().Ttl > sig.OrigTtl {
		return fmt.Errorf("the TTL is above the original one (%d)", sig.OrigTtl)
	}
	if !sig.ValidityPeriod(v.now) {
		return fmt.Errorf("not in force: %s to %s", dns.TimeToString(sig.Inception), dns.TimeToString(sig.Expiration))
	}
	var err error
	for _, k := range v.all {
		if k.Algorithm != sig.Algorithm || k.KeyTag() != sig.KeyTag {
			continue
		}
		if err = sig.Verify(k, set); err == nil {
			return nil
		}
	}
	return err
}

// present gives the types at a node that denial is to tell of.
func (v *verifier) present(n *zone.Node) []uint16 {
	var out []uint16
	cut := v.z.Cut(n) != nil
	signed := false
	for i := range n.Sets {
		t := n.Sets[i].Type
		if !cut || t == zone.TypeNS || t == zone.TypeDS || t == zone.TypeNSEC {
			out = append(out, t)
			signed = signed || len(n.Sets[i].Sigs) > 0
		}
	}
	if signed {
		out = append(out, zone.TypeRRSIG)
	}
	return out
}

// tells checks that a bitmap has every type that is present; more only where
// the name is steered.
func (v *verifier) tells(n *zone.Node, bits []byte) {
	have := v.present(n)
	for _, t := range []uint16{zone.TypeA, zone.TypeAAAA, zone.TypeHTTPS} {
		if len(v.z.Variants(n.Name, t)) > 0 {
			have = append(have, t)
			if len(n.Sets) == 0 || !slices.Contains(have, zone.TypeRRSIG) {
				have = append(have, zone.TypeRRSIG)
			}
		}
	}
	slices.Sort(have)
	if want := bitmap(slices.Compact(have)); !bytes.Equal(want, bits) {
		v.failf("%s: denial tells of other types than there are", zone.Text([]byte(n.Name)))
	}
}

func (v *verifier) chainNSEC() {
	var first, before *zone.Node
	var next []byte
	for n := range v.z.Nodes() {
		if v.z.Occluded(n) || len(v.present(n)) == 0 {
			continue
		}
		set := n.Get(zone.TypeNSEC)
		if set == nil || set.Count != 1 {
			v.failf("%s: expected one NSEC", zone.Text([]byte(n.Name)))
			continue
		}
		if before != nil && !bytes.EqualFold(next, []byte(n.Name)) {
			v.failf("%s: NSEC leads to %s, and the next name is %s", zone.Text([]byte(before.Name)), zone.Text(next), zone.Text([]byte(n.Name)))
		}
		rdata, _ := zone.Next(set.Data)
		l := zone.WireLen(rdata)
		next, before = rdata[:l], n
		v.tells(n, rdata[l:])
		if first == nil {
			first = n
		}
	}
	if first != nil && !bytes.EqualFold(next, []byte(first.Name)) {
		v.failf("%s: the last NSEC does not lead back to the apex", zone.Text([]byte(before.Name)))
	}
}

func (v *verifier) chainNSEC3() {
	var list []*zone.NSEC3
	for n := range v.z.NSEC3s() {
		list = append(list, n)
	}
	optOut := map[string]bool{}
	for i, n := range list {
		rdata, _ := zone.Next(n.Set.Data)
		salt := int(rdata[4])
		want := list[(i+1)%len(list)].Hash
		if next := rdata[6+salt:]; n.Set.Count != 1 || len(next) < 20 || string(next[:20]) != want {
			v.failf("%s: NSEC3 does not lead to the next hash", zone.Text([]byte(n.Name)))
		}
		optOut[n.Hash] = rdata[1]&1 != 0
	}
	for n := range v.z.Nodes() {
		if v.z.Occluded(n) {
			continue
		}
		sum := v.z.Param.Hash([]byte(n.Name))
		at, match := v.z.NSEC3(sum[:])
		if !match {
			insecure := v.z.Cut(n) != nil && n.Get(zone.TypeDS) == nil
			if !optOut[at.Hash] || len(n.Sets) > 0 && !insecure {
				v.failf("%s: has no NSEC3", zone.Text([]byte(n.Name)))
			}
			continue
		}
		rdata, _ := zone.Next(at.Set.Data)
		v.tells(n, rdata[6+int(rdata[4])+20:])
	}
}

// Expires gives when the first signature of a zone ends; zero where there is
// none.
func Expires(z *zone.Zone, now time.Time) time.Time {
	var first time.Time
	look := func(set *zone.RRset) {
		for sig := range each(set.Sigs) {
			at := now.Add(time.Duration(int32(binary.BigEndian.Uint32(sig[8:])-uint32(now.Unix()))) * time.Second)
			if first.IsZero() || at.Before(first) {
				first = at
			}
		}
	}
	for n := range z.Nodes() {
		for i := range n.Sets {
			look(&n.Sets[i])
		}
	}
	for n := range z.NSEC3s() {
		look(&n.Set)
	}
	return first
}
