package answer

import (
	"encoding/json"
	"testing"

	"github.com/miekg/dns"

	"meridian/fleet"
)

const echSpec = `
regions: [{id: fra, location: {latitude: 50, longitude: 8}, vips: {v4: [192.0.2.1], v6: ["2001:db8::1"]}}]
ech: {public_name: public.s.test}
certificates: [{id: c, acme: {directory: internal, names: [public.s.test]}}]
services:
- {service: web, protocol: https, ports: [443], pools: [{id: p, endpoints: [{address: "10.0.0.1:80"}]}]}
- {service: raw, protocol: tcp, ports: [444], pools: [{id: p, endpoints: [{address: "10.0.0.1:80"}]}]}
zones:
- {zone: s.test, records: "@ 300 IN SOA ns a 1 1 1 1 60\n@ 300 IN NS ns\nns 300 IN A 192.0.2.99\n", steered: [{name: www, service: web, https: {}}, {name: raw, service: raw, https: {}}]}
`

// HTTPS records of services whose TLS ends at gateways say their keys of
// Encrypted Client Hello, between the hints (RFC 9460 section 2.2), of the list
// that is in force; others say nothing of them.
func TestHTTPSRecordsSayTheKeys(t *testing.T) {
	w := newWorld(t, echSpec)
	var p *Plan
	apply := func(lists *fleet.ECHLists) {
		t.Helper()
		next := *w
		if lists != nil {
			data, _ := json.Marshal(lists)
			next.Live = next.Live.With([]fleet.Object{{Key: fleet.ObjectKey{Kind: fleet.ObjectLive, ID: "ech-list/fleet"}, Data: data, Version: string(data)}}, nil)
		}
		var err error
		if p, err = Compile(id, &next, newAtlas(), nil, now, p); err != nil {
			t.Fatal(err)
		}
	}
	ech := func(name string) string {
		t.Helper()
		m := ask(t, p, name, dns.TypeHTTPS)
		if len(m.Answer) != 1 {
			t.Fatalf("%s: %v", name, m)
		}
		order := -1
		out := ""
		for _, v := range m.Answer[0].(*dns.HTTPS).Value {
			if int(v.Key()) <= order {
				t.Errorf("%s: keys out of order: %v", name, m.Answer)
			}
			order = int(v.Key())
			if e, ok := v.(*dns.SVCBECHConfig); ok {
				out = string(e.ECH)
			}
		}
		return out
	}
	apply(nil)
	if got := ech("www.s.test."); got != "" {
		t.Errorf("before there is a key: %q", got)
	}
	apply(&fleet.ECHLists{Next: []byte("one")})
	if got := ech("www.s.test."); got != "" {
		t.Errorf("a key of later is told: %q", got)
	}
	before := p
	apply(&fleet.ECHLists{Now: []byte("one")})
	if got := ech("www.s.test."); got != "one" {
		t.Errorf("got %q", got)
	}
	if got := ech("raw.s.test."); got != "" {
		t.Errorf("a service without gateways says %q", got)
	}
	altered := 0
	for range p.Altered(before) {
		altered++
	}
	if altered != 1 {
		t.Errorf("%d zones are told as answered otherwise", altered)
	}
	if s := p.Static("s.test."); s == nil || s.Node([]byte("\x03www\x01s\x04test\x00")) == nil {
		t.Error("transfers lack the name")
	}
	apply(&fleet.ECHLists{Now: []byte("one")})
	apply(nil)
	if got := ech("www.s.test."); got != "" {
		t.Errorf("after the keys are gone: %q", got)
	}
}
