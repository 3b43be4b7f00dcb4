package sign

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"meridian/dns/zone"
	"meridian/fleet"
)

func rdataOf(t testing.TB, z *zone.Zone, owner fleet.Name, rtype uint16) []byte {
	t.Helper()
	n := z.Node(zone.Wire(owner))
	if n == nil || n.Get(rtype) == nil {
		t.Fatalf("no %s %s", owner, zone.TypeName(rtype))
	}
	rdata, _ := zone.Next(n.Get(rtype).Data)
	return rdata
}

// nsec gives the next name and the types of an NSEC.
func nsec(t testing.TB, z *zone.Zone, owner fleet.Name) (fleet.Name, []uint16) {
	t.Helper()
	rdata := rdataOf(t, z, owner, zone.TypeNSEC)
	return zone.Text(rdata[:zone.WireLen(rdata)]), typesOf(rdata[zone.WireLen(rdata):])
}

// typesOf reads a type bitmap.
func typesOf(b []byte) []uint16 {
	var out []uint16
	for len(b) > 2 {
		for i, octet := range b[2 : 2+b[1]] {
			for bit := range 8 {
				if octet&(0x80>>bit) != 0 {
					out = append(out, uint16(b[0])<<8|uint16(i*8+bit))
				}
			}
		}
		b = b[2+b[1]:]
	}
	return out
}

// RFC 4035 §2.2: every RRset that the zone is authoritative for has a signature; glue and the NS of a delegation have none.
// RFC 4034 §3.1.3: the Labels field leaves out the root and a wildcard's asterisk.
// RFC 4034 §3.1.4: the Original TTL is the set's.
func TestRFC4035WhatIsSigned(t *testing.T) {
	z, _ := signed(t, everything, policy(t, nil), nil)
	for n := range z.Nodes() {
		for _, set := range n.Sets {
			owner := zone.Text([]byte(n.Name))
			glue := z.Occluded(n) || z.Cut(n) != nil && set.Type != zone.TypeDS && set.Type != zone.TypeNSEC
			if glue != (len(set.Sigs) == 0) {
				t.Errorf("%s %s: signatures %d", owner, zone.TypeName(set.Type), len(set.Sigs))
			}
			for sig := range each(set.Sigs) {
				want := strings.Count(string(owner), ".") - strings.Count(string(owner), `\.`)
				if strings.HasPrefix(string(owner), "*.") {
					want--
				}
				if int(sig[3]) != want || binary.BigEndian.Uint32(sig[4:]) != set.TTL {
					t.Errorf("%s: labels %d, original TTL %d", owner, sig[3], binary.BigEndian.Uint32(sig[4:]))
				}
			}
		}
	}
}

// RFC 4034 §4.1.1: the NSECs lead through all names in canonical order, and from the last back to the apex.
// RFC 4035 §2.3: at a delegation the bitmap tells of NS, and of DS where there is one, and of no glue.
// RFC 9077 §3.1: the TTL of NSEC is the lesser of the SOA's TTL and its MINIMUM.
func TestRFC4034NSECChain(t *testing.T) {
	z, _ := signed(t, everything, policy(t, nil), nil)
	seen, at := 0, fleet.Name("example.test.")
	for {
		next, types := nsec(t, z, at)
		if !slices.Contains(types, zone.TypeRRSIG) || !slices.Contains(types, zone.TypeNSEC) {
			t.Errorf("%s: %v", at, types)
		}
		if seen++; next == "example.test." {
			break
		}
		if zone.Compare(zone.Wire(at), zone.Wire(next)) >= 0 {
			t.Fatalf("%s leads to %s", at, next)
		}
		at = next
	}
	if seen != 17 {
		t.Errorf("the chain has %d names", seen)
	}
	if _, types := nsec(t, z, "secure.example.test."); !slices.Equal(types, []uint16{zone.TypeNS, zone.TypeDS, zone.TypeRRSIG, zone.TypeNSEC}) {
		t.Errorf("secure delegation: %v", types)
	}
	if _, types := nsec(t, z, "insecure.example.test."); !slices.Equal(types, []uint16{zone.TypeNS, zone.TypeRRSIG, zone.TypeNSEC}) {
		t.Errorf("insecure delegation: %v", types)
	}
	for _, soa := range []struct{ ttl, minimum, want uint32 }{{3600, 300, 300}, {60, 300, 60}} {
		text := fmt.Sprintf("$ORIGIN example.test.\n@ %d SOA n h 1 2 3 4 %d\n@ 60 NS n\nn 60 A 192.0.2.1\n", soa.ttl, soa.minimum)
		for _, denial := range []fleet.Denial{fleet.DenialNSEC, fleet.DenialNSEC3} {
			z, _ := signed(t, text, policy(t, func(p *fleet.DNSSECPolicy) { p.Denial = denial }), nil)
			for n := range z.NSEC3s() {
				if n.Set.TTL != soa.want {
					t.Errorf("NSEC3 TTL %d, want %d", n.Set.TTL, soa.want)
				}
			}
			if set := z.Apex().Get(zone.TypeNSEC); set != nil && set.TTL != soa.want {
				t.Errorf("NSEC TTL %d, want %d", set.TTL, soa.want)
			}
		}
	}
}

// RFC 9276 §3.1: NSEC3 has no salt and no further iterations.
// RFC 5155 §7.1: empty non-terminals have NSEC3s; with opt-out, insecure delegations have none, nor what leads to nothing else.
// RFC 5155 §4.1.2: the flags of NSEC3PARAM are zero, opt-out or not.
func TestRFC5155NSEC3Chain(t *testing.T) {
	for _, optOut := range []bool{false, true} {
		z, _ := signed(t, everything, policy(t, func(p *fleet.DNSSECPolicy) { p.Denial, p.OptOut = fleet.DenialNSEC3, optOut }), nil)
		if got := rdataOf(t, z, "example.test.", zone.TypeNSEC3PARAM); !bytes.Equal(got, []byte{1, 0, 0, 0, 0}) {
			t.Errorf("NSEC3PARAM %x", got)
		}
		for n := range z.NSEC3s() {
			rdata, _ := zone.Next(n.Set.Data)
			if (rdata[1] == 1) != optOut || rdata[2] != 0 || rdata[3] != 0 || rdata[4] != 0 {
				t.Errorf("NSEC3 %x", rdata[:5])
			}
		}
		for name, want := range map[fleet.Name]bool{
			"b.c.deep.example.test.": true, "deep.example.test.": true, "secure.example.test.": true, "*.wild.example.test.": true, "wild.example.test.": true,
			"insecure.example.test.": !optOut, "ent.insecure2.example.test.": !optOut, "ns.insecure.example.test.": false,
		} {
			sum := z.Param.Hash(zone.Wire(name))
			if _, match := z.NSEC3(sum[:]); match != want {
				t.Errorf("opt-out %v: %s has an NSEC3: %v", optOut, name, match)
			}
		}
	}
}

// RFC 4034 §3.1.5: a signature begins before now, by an hour, and ends within the policy's validity.
func TestRFC4034Times(t *testing.T) {
	p := policy(t, nil)
	z, st := signed(t, everything, p, nil)
	ends := map[uint32]bool{}
	for n := range z.Nodes() {
		for _, set := range n.Sets {
			for sig := range each(set.Sigs) {
				begin, end := binary.BigEndian.Uint32(sig[12:]), binary.BigEndian.Uint32(sig[8:])
				if begin != uint32(now.Add(-time.Hour).Unix()) {
					t.Errorf("begins at %d", begin)
				}
				if left := time.Duration(int64(end)-now.Unix()) * time.Second; left > p.Validity.D() || left < p.Refresh.D()+p.Validity.D()/4 {
					t.Errorf("lasts %s", left)
				}
				ends[end] = true
			}
		}
	}
	if len(ends) < 20 {
		t.Errorf("all expire at %d moments: they would all be made anew at once", len(ends))
	}
	if !st.Refresh.Equal(st.Expires.Add(-p.Refresh.D())) || !Expires(z, now).Equal(st.Expires) {
		t.Errorf("refresh %s, expires %s, %s", st.Refresh, st.Expires, Expires(z, now))
	}
}

// The change of one record makes O(1) signatures; time makes anew those that
// have less than refresh left, a part at a time.
func TestSignaturesAreUsedAgain(t *testing.T) {
	p := policy(t, nil)
	text := everything
	for i := range 300 {
		text += fmt.Sprintf("host%d A 192.0.2.1\n", i)
	}
	first, st := signed(t, text, p, nil)
	all := st.Made
	again, st := signed(t, text, p, func(o *Options) { o.Old = first })
	if st.Made != 0 || st.Kept != all || !bytes.Equal(first.Encode(), again.Encode()) {
		t.Errorf("nothing changed, and %d signatures were made", st.Made)
	}
	_, st = signed(t, text+"new A 192.0.2.1\n", p, func(o *Options) { o.Old, o.Serial = first, 9 })
	if st.Made != 4 { // SOA, the record, its NSEC and the one before
		t.Errorf("%d signatures for one record", st.Made)
	}
	at, z, runs := st.Refresh, first, 0
	for at.Before(now.Add(40 * day)) {
		var st Stats
		z, st = signed(t, text, p, func(o *Options) { o.Old, o.Now = z, at })
		if at.After(now.Add(20*day)) && st.Made > all/3 {
			t.Errorf("at %s %d of %d signatures at once", at, st.Made, all)
		}
		if runs++; runs%50 == 0 {
			if err := Verify(z, at); err != nil {
				t.Fatal(err)
			}
		}
		if !st.Refresh.After(at) {
			t.Fatal("no progress")
		}
		at = st.Refresh
	}
	other := settled(t, "other.test.", p)
	if _, st = signed(t, text, p, func(o *Options) { o.Old, o.State = first, other }); st.Kept != 0 {
		t.Errorf("%d signatures of other keys were used again", st.Kept)
	}
}

// RFC 6979 §3.2: ECDSA signatures are deterministic: the same zone, keys and time give the same octets.
func TestRFC6979Deterministic(t *testing.T) {
	for _, alg := range []fleet.DNSSECAlgorithm{fleet.ECDSAP256, fleet.Ed25519} {
		p := policy(t, func(p *fleet.DNSSECPolicy) { p.Algorithm = alg })
		a, _ := signed(t, everything, p, nil)
		b, _ := signed(t, everything, p, func(o *Options) {
			o.Each = func(n int, do func(int)) {
				for i := range n {
					do(n - 1 - i)
				}
			}
		})
		if !bytes.Equal(a.Encode(), b.Encode()) {
			t.Errorf("%s: two signings differ", alg)
		}
	}
}

// RFC 6605 §4: a P-256 key is 64 octets and its signature r and s of 32 each.
// RFC 6605 §6.1: the key of the example gives the DNSKEY and the DS of the example.
func TestRFC6605Example(t *testing.T) {
	private, _ := base64.StdEncoding.DecodeString("GU6SnQ/Ou+xC5RumuIUIuJZteXT2z0O/ok1s38Et6mQ=")
	k, err := KeyFrom(KSK, algP256, private, now)
	if err != nil {
		t.Fatal(err)
	}
	if got := base64.StdEncoding.EncodeToString(k.Public); got != "GojIhhXUN/u4v54ZQqGSnyhWJwaubCvTmeexv7bR6edbkrSqQpF64cYbcB7wNcP+e+MAnLr+Wi9xMWyQLc8NAA==" {
		t.Errorf("public key %s", got)
	}
	if k.Tag() != 55648 || k.DSFor("example.net.").Digest != "b4c8c1fe2e7477127b27115656ad6256f424625bf5c1e2770ce6d6e37df61d17" {
		t.Errorf("tag %d, DS %s", k.Tag(), k.DSFor("example.net."))
	}
	s, err := newSigner(&k)
	if err != nil {
		t.Fatal(err)
	}
	if sig, err := s.sign([]byte("data")); err != nil || len(sig) != 64 || !s.verify([]byte("data"), sig) || s.verify([]byte("date"), sig) {
		t.Errorf("signature of %d octets: %v", len(sig), err)
	}
}

// RFC 8080 §6: the keys of the examples give their DNSKEY, key tag and DS, and their signature of the MX set.
func TestRFC8080Examples(t *testing.T) {
	for _, c := range []struct {
		private, public, digest, sig string
		tag                          uint16
	}{
		{"ODIyNjAzODQ2MjgwODAxMjI2NDUxOTAyMDQxNDIyNjI=", "l02Woi0iS8Aa25FQkUd9RMzZHJpBoRQwAQEX1SxZJA4=",
			"3aa5ab37efce57f737fc1627013fee07bdf241bd10f3b1964ab55c78e79a304b",
			"oL9krJun7xfBOIWcGHi7mag5/hdZrKWw15jPGrHpjQeRAvTdszaPD+QLs3fx8A4M3e23mRZ9VrbpMngwcrqNAg==", 3613},
		{"DSSF3o0s0f+ElWzj9E/Osxw8hLpk55chkmx0LYN5WiY=", "zPnZ/QwEe7S8C5SPz2OfS5RR40ATk2/rYnE9xHIEijs=",
			"401781b934e392de492ec77ae2e15d70f6575a1c0bc59c5275c04ebe80c6614c",
			"zXQ0bkYgQTEFyfLyi9QoiY6D8ZdYo4wyUhVioYZXFdT410QPRITQSqJSnzQoSm5poJ7gD7AQR0O7KuI5k2pcBg==", 35217},
	} {
		private, _ := base64.StdEncoding.DecodeString(c.private)
		k, err := KeyFrom(KSK, algEd25519, private, now)
		if err != nil {
			t.Fatal(err)
		}
		if base64.StdEncoding.EncodeToString(k.Public) != c.public || k.Tag() != c.tag || k.DSFor("example.com.").Digest != c.digest {
			t.Errorf("%s, tag %d, %s", base64.StdEncoding.EncodeToString(k.Public), k.Tag(), k.DSFor("example.com."))
		}
		s, err := newSigner(&k)
		if err != nil {
			t.Fatal(err)
		}
		rr, err := dns.NewRR(fmt.Sprintf("example.com. 3600 IN RRSIG MX 15 2 3600 1440021600 1438207200 %d example.com. %s", c.tag, c.sig))
		if err != nil {
			t.Fatal(err)
		}
		wire := make([]byte, 512)
		n, err := dns.PackRR(rr, wire, 0, nil, false)
		if err != nil {
			t.Fatal(err)
		}
		rdata := wire[13+10 : n]
		head, ok := s.head(rdata)
		set := newSet(zone.TypeMX, 3600, append([]byte{0, 10}, zone.Wire("mail.example.com.")...))
		sig, err := s.sign(signedData(head, string(zone.Wire("example.com.")), &set))
		if err != nil || !ok || !bytes.Equal(sig, rdata[len(head):]) {
			t.Errorf("signature %s (%v)", base64.StdEncoding.EncodeToString(sig), err)
		}
	}
}

// RFC 9904 §4: DS records are made with SHA-256, and DS with SHA-1 are made for nobody.
// RFC 8624 §3.1: zones are signed with ECDSAP256SHA256 or ED25519, and with no RSA.
func TestRFC9904Algorithms(t *testing.T) {
	for _, alg := range []uint8{5, 7, 8, 10, 14, 16} {
		if _, err := NewKey(KSK, alg, now, octets("x"), nil); err == nil {
			t.Errorf("a key of algorithm %d was made", alg)
		}
	}
	k, err := NewKey(KSK, algP256, now, octets("x"), nil)
	if err != nil || k.DSFor("example.test.").DigestType != 2 {
		t.Errorf("%+v %v", k.DSFor("example.test."), err)
	}
}

// RFC 7344 §4: CDS and CDNSKEY say what the parent's DS set should be, and are signed by the keys that it points to.
// RFC 8078 §4: CDS 0 0 0 00 and CDNSKEY 0 3 0 00 ask the parent to take the DS away.
func TestRFC7344CDS(t *testing.T) {
	for mode, want := range map[fleet.CDSMode]int{fleet.CDSAlways: 36, fleet.CDSRollover: 0, fleet.CDSDelete: 5, fleet.CDSNever: 0} {
		p := policy(t, func(p *fleet.DNSSECPolicy) { p.CDS = mode })
		z, _ := signed(t, everything, p, nil)
		cds, cdnskey := z.Apex().Get(zone.TypeCDS), z.Apex().Get(zone.TypeCDNSKEY)
		if want == 0 {
			if cds != nil || cdnskey != nil {
				t.Errorf("%s: published", mode)
			}
			continue
		}
		rdata, _ := zone.Next(cds.Data)
		if len(rdata) != want {
			t.Errorf("%s: CDS %x", mode, rdata)
		}
		key, _ := zone.Next(cdnskey.Data)
		if mode == fleet.CDSDelete && (!bytes.Equal(rdata, []byte{0, 0, 0, 0, 0}) || !bytes.Equal(key, []byte{0, 0, 3, 0, 0})) {
			t.Errorf("delete: CDS %x, CDNSKEY %x", rdata, key)
		}
		ksk := settled(t, "example.test.", p).DSKeys()[0]
		byKSK := false
		for sig := range each(cds.Sigs) {
			byKSK = byKSK || binary.BigEndian.Uint16(sig[16:]) == ksk.Tag()
		}
		if !byKSK {
			t.Errorf("%s: CDS is not signed by the key of the DS", mode)
		}
	}
}

// RFC 1982 §3.2: the next serial always comes after the one before, around the end of the numbers too.
func TestRFC1982NextSerial(t *testing.T) {
	unix, date := uint32(now.Unix()), uint32(2026030100)
	for _, c := range []struct {
		policy       fleet.SerialPolicy
		old, content uint32
		first        bool
		want         uint32
	}{
		{fleet.SerialKeep, 9, 7, false, 7},
		{fleet.SerialIncrement, 9, 7, false, 10}, {fleet.SerialIncrement, 9, 12, false, 12}, {fleet.SerialIncrement, 0, 7, true, 7},
		{fleet.SerialIncrement, 1<<32 - 1, 7, false, 7}, {fleet.SerialIncrement, 1<<32 - 1, 1<<32 - 9, false, 1},
		{fleet.SerialUnixtime, 7, 0, false, unix}, {fleet.SerialUnixtime, unix, 0, false, unix + 1}, {fleet.SerialUnixtime, unix + 5, 0, false, unix + 6},
		{fleet.SerialDate, 7, 0, true, date}, {fleet.SerialDate, date, 0, false, date + 1}, {fleet.SerialDate, date + 99, 0, false, date + 100},
		{fleet.SerialDate, 4e9, 0, false, 4e9 + 1},
		// What was served as its content has it was known by that serial.
		{fleet.SerialUnixtime, 0, 2026112207, true, 2026112208}, {fleet.SerialUnixtime, 0, 7, true, unix}, {fleet.SerialDate, 0, date + 5, true, date + 6},
	} {
		if got := NextSerial(c.policy, c.old, c.content, c.first, now); got != c.want {
			t.Errorf("%s after %d with content %d: %d, want %d", c.policy, c.old, c.content, got, c.want)
		}
	}
}
