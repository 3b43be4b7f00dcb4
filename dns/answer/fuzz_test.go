package answer

import (
	"bytes"
	"encoding/binary"
	"testing"
	"time"

	"github.com/miekg/dns"

	"meridian/dns/zone"
	"meridian/fleet"
)

// fuzzPlans are a fleet's zones with steering, and signed ones of each family,
// steered ones among them.
func fuzzPlans(f testing.TB) []*Plan {
	f.Helper()
	daily := Identity{Node: "fra-1", Version: "test", Cookie: func(day int64) [16]byte { return [16]byte{byte(day)} }}
	steered, err := Compile(daily, newWorld(f, spec+"dns: {whoami: whoami.demo.test, errors_to: errors.example, any: hinfo}\n"), newAtlas(), down("web", "fra"), now, nil)
	if err != nil {
		f.Fatal(err)
	}
	both, err := Compile(daily, signedWorld(f, "default", true), newAtlas(), down("order", "gru", "fra"), now, nil)
	if err != nil {
		f.Fatal(err)
	}
	strict := cookiePlan(f, true, "e5e973e5a6b2a43f48e7dc849e37bfcf")
	plans := []*Plan{steered, both, strict, steered.WithUnavailable("other.test."), Empty(daily)}
	for _, family := range families {
		plans = append(plans, Zones(daily, []*zone.Zone{signedZone(f, family)}))
	}
	compact, _ := compactPlan(f, fleet.Ed25519, down("order", "tyo"))
	return append(plans, compact)
}

// clientOf makes a client of three octets.
func clientOf(how uint8) Client {
	c := Client{Addr: resolver, Port: 53000, Now: 1559731985, Stream: how&1 != 0, Encrypted: how&2 != 0}
	if how&4 != 0 {
		c.Idle = 10 * time.Second
	}
	return c
}

// FuzzAnswer: whatever comes in over whatever transport, what goes out parses,
// fits, answers the question, says in its header what it holds, and comes out
// the same from another worker.
func FuzzAnswer(f *testing.F) {
	plans := fuzzPlans(f)
	for _, q := range shapes(f) {
		f.Add(q, uint8(0), uint8(0))
	}
	f.Add(withOption(f, "www.demo.test", optionECS, []byte{0, 1, 24, 0, 10, 1, 2}), uint8(0), uint8(1))
	f.Add(withOption(f, "www.demo.test", optionECS, []byte{0, 2, 56, 0, 0x20, 1, 0xd, 0xb8, 1, 0, 0}), uint8(0), uint8(1))
	f.Add(withOption(f, "www.demo.test", optionPadding, nil), uint8(0), uint8(7))
	f.Add(withOption(f, "www.demo.test", optionCookie, bytes.Repeat([]byte{1}, 24)), uint8(2), uint8(0))
	f.Add(withOption(f, "www.signed.test", optionCookie, bytes.Repeat([]byte{1}, 8)), uint8(2), uint8(0))
	f.Add(withOption(f, "many.demo.test", optionKeepalive, nil), uint8(0), uint8(7))
	f.Add(withOption(f, "mx1.demo.test", optionVersion, nil), uint8(0), uint8(0))
	f.Add(pack(f, query("whoami.demo.test", dns.TypeTXT, subnetOf("10.1.7.0/24"))), uint8(0), uint8(0))
	for plan := uint8(1); int(plan) < len(plans); plan++ {
		for _, name := range []string{"www", "order", "nothing.x", "a.b.wild", "a.wildalias", "insecure", "x.child", "x.old", "ent"} {
			for _, qtype := range []uint16{dns.TypeA, dns.TypeDS, dns.TypeANY, dns.TypeRRSIG, dns.TypeHTTPS} {
				f.Add(pack(f, query(name+".signed.test.", qtype, do)), plan, uint8(0))
			}
		}
	}
	f.Fuzz(func(t *testing.T, q []byte, plan, how uint8) {
		p, c := plans[int(plan)%len(plans)], clientOf(how)
		var w Worker
		out := make([]byte, MaxStream)
		n, outcome := p.Answer(&w, q, c, out)
		if n == 0 {
			if len(q) >= 12 && q[2]&0x80 == 0 {
				t.Fatal("a query was dropped")
			}
			return
		}
		checkAnswer(t, q, &w, c, out[:n], outcome)
		again := make([]byte, MaxStream)
		var w2 Worker
		if m, _ := p.Answer(&w2, q, c, again); !bytes.Equal(out[:n], again[:m]) {
			t.Fatal("the same query has two answers")
		}
	})
}

func checkAnswer(t *testing.T, q []byte, w *Worker, c Client, out []byte, outcome Outcome) {
	limit := 512
	switch r := &w.req; {
	case c.Stream:
		limit = MaxStream
	case r.edns:
		limit = min(r.size, PayloadUDP)
	}
	if len(out) > limit {
		t.Fatalf("%d octets where %d fit", len(out), limit)
	}
	got := new(dns.Msg)
	if err := got.Unpack(out); err != nil {
		t.Fatalf("the answer does not parse: %v\n%x", err, out)
	}
	if got.Id != binary.BigEndian.Uint16(q) || !got.Response || got.Rcode != int(outcome.Rcode) {
		t.Fatalf("%+v does not answer", got.MsgHdr)
	}
	if len(got.Question) == 1 && !bytes.HasPrefix(q[12:], out[12:12+len(w.req.qname)+4]) {
		t.Fatal("the question came back changed")
	}
	if (got.IsEdns0() != nil) != w.req.edns {
		t.Fatal("an OPT that was not asked for, or none that was")
	}
	if sections := len(got.Answer) + len(got.Ns); sections > 0 && got.Rcode != 0 && got.Rcode != dns.RcodeNameError && got.Rcode != dns.RcodeYXDomain {
		t.Fatalf("records with %s", dns.RcodeToString[got.Rcode])
	}
	for _, list := range [][]dns.RR{got.Answer, got.Ns, got.Extra} {
		seen := map[string]bool{}
		for _, rr := range list {
			if s := rr.String(); seen[s] {
				t.Fatalf("%s comes twice", s)
			} else {
				seen[s] = true
			}
		}
	}
	if w.req.padded && c.Encrypted && len(out)%paddingBlock != 0 && len(out) < MaxStream {
		t.Fatalf("%d octets are not padded", len(out))
	}
}
