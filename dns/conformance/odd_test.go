package conformance

import (
	"maps"
	"slices"
	"sync"
	"testing"

	"github.com/miekg/dns"
)

// oddMessages are what no resolver sends and strangers do.
func oddMessages(zone string) map[string][]byte {
	soa := func(flags uint16, opt []byte) []byte { return rawQuery(flags, zone, dns.TypeSOA, opt) }
	opt := rawOPT(1232, 0, 0, nil)
	patch := func(m []byte, at int, octets ...byte) []byte {
		m = slices.Clone(m)
		copy(m[at:], octets)
		return m
	}
	question := concat(rawName(zone), []byte{0, 6, 0, 1})
	option := func(code byte, data ...byte) []byte {
		return rawOPT(1232, 0, 0, append([]byte{0, code, 0, byte(len(data))}, data...))
	}
	class := func(c byte) []byte { q := soa(0, nil); q[len(q)-1] = c; return q }
	record := concat([]byte{0}, []byte{0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 192, 0, 2, 1})
	out := map[string][]byte{
		"header-alone":           {0x12, 0x34, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
		"header-cut":             {0x12, 0x34, 0, 0, 0},
		"no-question-with-opt":   concat([]byte{0x12, 0x34, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}, opt),
		"two-questions":          concat(patch(soa(0, nil), 4, 0, 2), question),
		"count-without-question": {0x12, 0x34, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0},
		"question-cut":           soa(0, nil)[:16],
		"type-cut":               soa(0, nil)[:len(soa(0, nil))-3],
		"garbage-after":          append(soa(0, nil), 1, 2, 3),
		"garbage-after-opt":      append(soa(0, opt), 1, 2, 3),
		"response":               soa(0x8000, nil),
		"aa-tc-ra-set":           soa(0x0680, nil),
		"rcode-set":              soa(0x0005, nil),
		"pointer-to-itself":      {0x12, 0x34, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0xc0, 12, 0, 6, 0, 1},
		"pointer-forward":        {0x12, 0x34, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0xc0, 14, 0, 6, 0, 1},
		"label-type-40":          {0x12, 0x34, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0x41, 1, 0, 0, 6, 0, 1},
		"name-too-long":          concat([]byte{0x12, 0x34, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0}, longName(), []byte{0, 6, 0, 1}),
		"class-any":              class(255),
		"class-none":             class(254),
		"class-hesiod":           class(4),
		"class-reserved":         class(77),
		"opcode-iquery":          soa(1<<11, nil),
		"opcode-status":          soa(2<<11, nil),
		"opcode-3":               soa(3<<11, nil),
		"opcode-dso":             soa(6<<11, nil),
		"opcode-15":              soa(15<<11, nil),
		"two-opts":               concat(patch(soa(0, opt), 11, 2), opt),
		"opt-with-a-name":        concat(patch(soa(0, nil), 11, 1), []byte{1, 'x'}, opt),
		"opt-cut":                soa(0, opt[:8]),
		"opt-data-cut":           soa(0, patch(opt, 10, 9)),
		"opt-in-answer":          concat(patch(soa(0, nil), 7, 1), opt),
		"opt-in-authority":       concat(patch(soa(0, nil), 9, 1), opt),
		"option-cut":             soa(0, rawOPT(1232, 0, 0, []byte{0, 3, 0, 9, 1})),
		"option-header-cut":      soa(0, rawOPT(1232, 0, 0, []byte{0, 3, 0})),
		"record-in-answer":       concat(patch(soa(0, nil), 7, 1), record),
		"record-in-authority":    concat(patch(soa(0, nil), 9, 1), record),
		"record-in-additional":   concat(patch(soa(0, nil), 11, 1), record),
		"record-before-opt":      concat(patch(soa(0, nil), 11, 2), record, opt),
		"record-after-opt":       concat(patch(soa(0, opt), 11, 2), record),
		"count-without-record":   patch(soa(0, nil), 11, 1),
		"version-255":            soa(0, rawOPT(1232, 255, 0, nil)),
		"upper-rcode-set":        soa(0, patch(opt, 5, 1)),
		"size-0":                 soa(0, rawOPT(0, 0, 0, nil)),
		"size-65535":             soa(0, rawOPT(65535, 0, 0, nil)),
		"nsid-with-data":         soa(0, option(3, 1, 2)),
		"cookie-of-7":            soa(0, option(10, 1, 2, 3, 4, 5, 6, 7)),
		"cookie-of-8":            soa(0, option(10, 1, 2, 3, 4, 5, 6, 7, 8)),
		"cookie-of-15":           soa(0, option(10, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)),
		"cookie-of-24":           soa(0, option(10, make([]byte, 24)...)),
		"cookie-of-41":           soa(0, option(10, make([]byte, 41)...)),
		"ecs-family-9":           soa(0, option(8, 0, 9, 8, 0, 1)),
		"ecs-too-long":           soa(0, option(8, 0, 1, 33, 0, 1, 2, 3, 4, 5)),
		"ecs-address-short":      soa(0, option(8, 0, 1, 24, 0, 1)),
		"ecs-scope-set":          soa(0, option(8, 0, 1, 8, 8, 1)),
		"ecs-bits-beyond":        soa(0, option(8, 0, 1, 7, 0, 1)),
		"ecs-good":               soa(0, option(8, 0, 1, 8, 0, 10)),
		"padding":                soa(0, option(12, 0, 0, 0)),
		"keepalive":              soa(0, option(11)),
		"axfr-by-udp":            rawQuery(0, zone, dns.TypeAXFR, nil),
		"axfr-of-unknown-zone":   rawQuery(0, "nowhere.", dns.TypeAXFR, nil),
		"ixfr-without-soa":       rawQuery(0, zone, dns.TypeIXFR, nil),
		"maila":                  rawQuery(0, zone, dns.TypeMAILA, nil),
		"type-0":                 rawQuery(0, zone, 0, nil),
		"type-tsig":              rawQuery(0, zone, dns.TypeTSIG, nil),
		"type-tkey":              rawQuery(0, zone, dns.TypeTKEY, nil),
		"type-opt":               rawQuery(0, zone, dns.TypeOPT, nil),
		"not-served":             rawQuery(0, "nowhere.", dns.TypeA, opt),
		"root-not-served":        rawQuery(0, "", dns.TypeNS, nil),
		"notify-not-served":      rawQuery(4<<11, "nowhere.", dns.TypeSOA, nil),
		"update-not-served":      rawQuery(5<<11, "nowhere.", dns.TypeSOA, nil),
		"update-not-allowed":     rawQuery(5<<11, zone, dns.TypeSOA, nil),
	}
	out["root-not-served"] = []byte{0x12, 0x34, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 1}
	return out
}

// longName has 257 octets.
func longName() []byte {
	var out []byte
	for range 128 {
		out = append(out, 1, 'a')
	}
	return append(out, 0)
}

// TestOddMessages sends what is malformed or rare to all servers, by UDP and
// by TCP: Meridian must do as the majority does (reply, rcode, flags, OPT), or
// differences.txt tells why not.
func TestOddMessages(t *testing.T) {
	w := world{dir: t.TempDir()}
	text := "$TTL 60\n@ SOA ns1 host 1 7200 3600 1209600 60\n@ NS ns1\nns1 A 192.0.2.1\n"
	w.add(t, "odd.test.", text, nil)
	servers := []peer{fleetMember(t, "odd.test", text), bind(t, w.zones), nsd(t, w.zones), knot(t, w.zones)}
	list := readDifferences(t).only(aspectOdd)
	messages := oddMessages("odd.test.")
	names := slices.Sorted(maps.Keys(messages))
	for _, tcp := range []bool{false, true} {
		replies := make([][4]normal, len(names))
		var wg sync.WaitGroup
		for n, name := range names {
			for i, s := range servers {
				wg.Go(func() { // all at once: silence takes its time
					c := client{addr: s.addr, patience: silence}
					defer c.close()
					replies[n][i] = normalise(c.ask(messages[name], tcp), dns.TypeSOA)
				})
			}
		}
		wg.Wait()
		for n, name := range names {
			by := make([]normal, len(peers))
			for i, r := range replies[n] {
				by[i] = normal{text: map[string]string{aspectOdd: r.text[aspectReply] + " " + r.text[aspectRcode] + " " + r.text[aspectFlags] + " " + r.text[aspectOPT]}}
			}
			q := query{name: name, qt: dns.TypeSOA, mode: mode{name: map[bool]string{false: "udp", true: "tcp"}[tcp]}}
			for _, d := range judge(by) {
				if list.find(d, q, by) == "" {
					t.Errorf("%s %s\nours: %s\n%s", name, q.mode.name, d.ours, d.theirs)
				}
			}
		}
	}
	list.unused(t)
}
