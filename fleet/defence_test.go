package fleet

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

const withDefence = "regions: [{id: fra, location: {latitude: 1, longitude: 1}}]\ndefence: "

// What a section says is what comes out of its canonical form too.
func TestDefence(t *testing.T) {
	doc := withDefence + `
  reflection_ports: [123]
  allow: {prefixes: [192.0.2.0/24], asns: [64500]}
  block: {countries: [XK]}
  rules:
    - {name: a, match: {protocol: tcp, flags: "syn,!ack", source: "2001:db8::/32", port: 443, ttl: 1-9, length: 40, fragment: no}, until: 2027-01-31T18:00:00Z}
    - {name: b, match: {source_port: 1-1023, protocol: udp}, mode: rate, rate: 5}
    - {name: c, match: {protocol: tcp, window: 0, ip_id: 0-9, tcp_options: "mss,nop,other", payload: "4:20000000/f0000000", source_asn: 4294967295, vip: 192.0.2.0/28}}
    - {name: d, match: {source_country: DE, vip: 192.0.2.1}}
  limits: {per_source: 100, per_vip: 1000000}
  sampling: {rate: 1000}
`
	s, err := Compile([]byte(doc), 0)
	if err != nil {
		t.Fatal(err)
	}
	d := s.Spec.Defence
	if !*d.Static || d.Rules[0].Mode != RuleDrop || d.Sampling.PerSecond != 1000 || d.Rules[0].Match.Flags != (TCPFlags{Set: 2, Clear: 16}) ||
		d.Rules[0].Match.TTL != (NumberRange{1, 9}) || d.Rules[0].Until.Unix() != 1801418400 {
		t.Errorf("read as %+v", d)
	}
	again, err := Compile(s.Canonical(), 0)
	if err != nil {
		t.Fatalf("canonical form: %v\n%s", err, s.Canonical())
	}
	if !reflect.DeepEqual(again.Spec.Defence, d) || again.Hash != s.Hash {
		t.Errorf("canonical form changed:\n%s\n%s", s.Canonical(), again.Canonical())
	}
}

func TestDefenceErrors(t *testing.T) {
	for section, want := range map[string]string{
		"{reflection_ports: [0]}":                                                "defence.reflection_ports[0]: 0 is not a port",
		"{block: {prefixes: [192.0.2.1/24]}}":                                    "expected 192.0.2.0/24",
		"{block: {prefixes: ['::ffff:192.0.2.0/120']}}":                          "write an IPv4 network as such",
		"{block: {countries: [de]}}":                                             "defence.block.countries[0]",
		"{allow: {asns: [0]}}":                                                   "0 is not an AS number",
		"{rules: [{name: a, match: {}}]}":                                        "expected one field at least",
		"{rules: [{name: A, match: {ttl: 1}}]}":                                  "lower-case",
		"{rules: [{name: a, match: {ttl: 1}}, {name: a, match: {ttl: 2}}]}":      "already used",
		"{rules: [{name: a, match: {ttl: 256}}]}":                                "not between 1 and 255",
		"{rules: [{name: a, match: {port: 80}}]}":                                "expected tcp or udp",
		"{rules: [{name: a, match: {protocol: gre}}]}":                           "is unknown",
		"{rules: [{name: a, match: {protocol: udp, flags: syn}}]}":               "needs protocol tcp",
		"{rules: [{name: a, match: {protocol: tcp, flags: 'syn,!syn'}}]}":        "different flags",
		"{rules: [{name: a, match: {protocol: tcp, port: 9-8}}]}":                "or a range",
		"{rules: [{name: a, match: {protocol: tcp, port: 1, fragment: later}}]}": "later fragments show no ports",
		"{rules: [{name: a, match: {source: 10.0.0.0/8, vip: '2001:db8::1'}}]}":  "different families",
		"{rules: [{name: a, match: {ttl: 1}, mode: rate}]}":                      "0 is not between 1 and 100000000",
		"{rules: [{name: a, match: {ttl: 1}, rate: 5}]}":                         "is for mode rate",
		"{rules: [{name: a, match: {ttl: 1}, until: tomorrow}]}":                 "until",
		"{rules: [{name: a, match: {protocol: udp, window: 0}}]}":                "match.window: needs protocol tcp",
		"{rules: [{name: a, match: {payload: '0:00'}}]}":                         "expected tcp or udp",
		"{rules: [{name: a, match: {protocol: udp, payload: '0:01/fe'}}]}":       "its mask leaves out",
		"{rules: [{name: a, match: {protocol: udp, payload: '1401:00'}}]}":       "not an offset",
		"{rules: [{name: a, match: {protocol: udp, payload: '0:0102/ff'}}]}":     "not an offset",
		"{rules: [{name: a, match: {protocol: tcp, tcp_options: 'mss,what'}}]}":  "not none or a list",
		"{rules: [{name: a, match: {ip_id: 65536}}]}":                            "from 0 to 65535",
		"{rules: [{name: a, match: {ip_id: 1, vip: '2001:db8::1'}}]}":            "is IPv4's",
		"{rules: [{name: a, match: {source_asn: 0}}]}":                           "is not an AS number",
		"{rules: [{name: a, match: {source_asn: 1, source_country: DE}}]}":       "together with",
		"{rules: [{name: a, match: {source_country: de}}]}":                      "two-letter",
		"{rules: [{name: a, match: {vip: 192.0.2.1/28}}]}":                       "expected 192.0.2.0/28",
		"{limits: {per_source: 1000001}}":                                        "not between 1 and 1000000",
		"{limits: {per_vip: 0}}":                                                 "0 is not allowed",
		"{sampling: {per_second: 5}}":                                            "no meaning without",
	} {
		_, err := Compile([]byte(withDefence+section), 0)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, expected %q", section, err, want)
		}
	}
}

func TestParsePacketRule(t *testing.T) {
	r, err := ParsePacketRule([]byte(`{"name": "ntp", "match": {"protocol": "udp", "source_port": "123"}, "mode": "rate", "rate": 100}`))
	if err != nil {
		t.Fatal(err)
	}
	doc, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	again, err := ParsePacketRule(doc)
	if err != nil || !reflect.DeepEqual(r, again) {
		t.Errorf("%s comes back as %+v, %v", doc, again, err)
	}
	if _, err := ParsePacketRule([]byte(`{name: x, match: {ttl: 0}}`)); err == nil || !strings.Contains(err.Error(), "match.ttl") {
		t.Errorf("ttl 0: %v", err)
	}
	if _, err := ParsePacketRule([]byte(`{name: x, match: {protocol: udp, port: 1, ttl: 300}}`)); err == nil || !strings.HasPrefix(err.Error(), "match.ttl") {
		t.Errorf("ttl 300: %v", err)
	}
}

// No document makes a rule that does not come back from its own JSON.
func FuzzParsePacketRule(f *testing.F) {
	f.Add([]byte(`{"name": "ntp", "match": {"protocol": "udp", "source_port": "123"}, "mode": "rate", "rate": 100}`))
	f.Add([]byte(`{name: a, match: {protocol: tcp, flags: "syn,!ack", source: "2001:db8::/32", ttl: 1-9, fragment: no}, until: 2027-01-31T18:00:00.5+02:00}`))
	f.Add([]byte("name: a\nmatch: {vip: 192.0.2.1, length: 1-65535}\n"))
	f.Add([]byte("name: a\nmatch: {protocol: tcp, window: 0, ip_id: 0-9, tcp_options: none, payload: 4:20/f0, source_asn: 7}\n"))
	f.Fuzz(func(t *testing.T, doc []byte) {
		r, err := ParsePacketRule(doc)
		if err != nil {
			return
		}
		text, err := json.Marshal(r)
		if err != nil {
			t.Skip(err) // a year beyond RFC 3339
		}
		again, err := ParsePacketRule(text)
		if err != nil || !again.Until.Equal(r.Until) {
			t.Fatalf("%s: %v, %v", text, again, err)
		}
		if again.Until = r.Until; *again != *r {
			t.Fatalf("%s comes back as %+v", text, again)
		}
	})
}
