package keeper

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"meridian/dns/sign"
	"meridian/dns/zone"
	"meridian/fleet"
)

// published is what caches may hold of a zone.
type published struct {
	at   time.Time
	zone *zone.Zone
	ds   []sign.DS
}

// rrs gives a set of the apex, or its signatures, as a resolver sees them.
func rrs(t *testing.T, z *zone.Zone, rtype uint16, sigs bool) (out []dns.RR) {
	t.Helper()
	set := z.Apex().Get(rtype)
	if set == nil {
		t.Fatalf("no %s", zone.TypeName(rtype))
	}
	data := set.Data
	if sigs {
		data, rtype = set.Sigs, zone.TypeRRSIG
	}
	for len(data) > 0 {
		var rdata []byte
		rdata, data = zone.Next(data)
		wire := append([]byte(z.Apex().Name), byte(rtype>>8), byte(rtype), 0, 1, byte(set.TTL>>24), byte(set.TTL>>16), byte(set.TTL>>8), byte(set.TTL), byte(len(rdata)>>8), byte(len(rdata)))
		rr, _, err := dns.UnpackRR(append(wire, rdata...), 0)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, rr)
	}
	return out
}

// validates says whether one of the keys signed the set.
func validates(keys, set, sigs []dns.RR, only func(*dns.DNSKEY) bool) bool {
	for _, s := range sigs {
		for _, k := range keys {
			if key := k.(*dns.DNSKEY); only(key) && s.(*dns.RRSIG).Verify(key, set) == nil {
				return true
			}
		}
	}
	return false
}

// RFC 7583 §2: through roll-overs of KSK, ZSK and algorithm, with real signatures and a parent that acts on CDS, whatever mix of DS, DNSKEY and data a cache may hold validates.
func TestRFC7583RealSignaturesThroughRollOvers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		spec := func(algorithm string) string {
			return "dns: {dnssec: [{policy: default, algorithm: " + algorithm + ", ttl: 1h, propagation: 1h, parent_ttl: 12h, zsk_lifetime: 72h, ksk_lifetime: 120h}]}\n" + signedZone + records(plain)
		}
		b := newBench(t, spec("ecdsap256sha256"))
		b.now = time.Now()
		b.net.ds = map[fleet.Name][]sign.DS{}
		go func() { _ = b.k.Run(t.Context()) }()
		var history []published
		keys := map[string]bool{}
		for hour := range 24 * 20 {
			if hour == 24*12 {
				b.spec(spec("ed25519"))
			}
			time.Sleep(time.Hour)
			synctest.Wait()
			b.now = time.Now()
			b.ok()
			p := published{b.now, b.zone("example.test."), b.net.ds["example.test."]}
			history = append(history, p)
			if len(history) > 16 {
				history = history[1:]
			}
			checkCaches(t, history, b.now)
			for _, k := range rrs(t, p.zone, zone.TypeDNSKEY, false) {
				keys[k.String()] = true
			}
			if hour%7 == 0 && p.zone.Apex().Get(zone.TypeCDS) != nil { // the parent looks now and then
				var ds []sign.DS
				for _, rr := range rrs(t, p.zone, zone.TypeCDS, false) {
					c := rr.(*dns.CDS)
					ds = append(ds, sign.DS{KeyTag: c.KeyTag, Algorithm: c.Algorithm, DigestType: c.DigestType, Digest: c.Digest})
				}
				b.net.mu.Lock()
				b.net.ds["example.test."] = ds
				b.net.mu.Unlock()
			}
		}
		if len(keys) < 8 {
			t.Errorf("only %d keys in 20 days", len(keys))
		}
	})
}

// checkCaches holds what was published within its TTL and propagation against
// each other.
func checkCaches(t *testing.T, history []published, now time.Time) {
	t.Helper()
	const keyAge, dataAge, dsAge = 2 * time.Hour, 2 * time.Hour, 12 * time.Hour
	any := func(*dns.DNSKEY) bool { return true }
	for i, k := range history {
		if i+1 < len(history) && now.Sub(history[i+1].at) >= keyAge {
			continue
		}
		keys := rrs(t, k.zone, zone.TypeDNSKEY, false)
		for j, d := range history {
			if j+1 < len(history) && now.Sub(history[j+1].at) >= dataAge {
				continue
			}
			if !validates(keys, rrs(t, d.zone, zone.TypeSOA, false), rrs(t, d.zone, zone.TypeSOA, true), any) {
				t.Fatalf("at %s: keys of %s do not validate data of %s", now, k.at, d.at)
			}
		}
		for j, p := range history {
			if len(p.ds) == 0 || j+1 < len(history) && now.Sub(history[j+1].at) >= dsAge {
				continue
			}
			pointed := func(key *dns.DNSKEY) bool {
				for _, ds := range p.ds {
					if made := key.ToDS(ds.DigestType); made != nil && made.KeyTag == ds.KeyTag && made.Digest == ds.Digest {
						return true
					}
				}
				return false
			}
			if !validates(keys, keys, rrs(t, k.zone, zone.TypeDNSKEY, true), pointed) {
				t.Fatalf("at %s: DS of %s does not lead to the keys of %s", now, p.at, k.at)
			}
		}
	}
}
