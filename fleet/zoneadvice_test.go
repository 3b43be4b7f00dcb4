package fleet

import (
	"strings"
	"testing"
)

// A zone whose steered names are transferred has serials that rise with what
// transfers show; whoever keeps the content's is told what comes of it.
func TestAdviceOnSerialsOfSteeredNames(t *testing.T) {
	const doc = `
fleet: test
regions: [{id: fra, location: {latitude: 50, longitude: 8}, vips: {v4: [192.0.2.1]}}]
services: [{service: web, protocol: http, ports: [80], pools: [{id: main, endpoints: [{address: "10.0.0.1:80"}]}]}]
zones: [{zone: a.test, RECORDS, steered: [{name: www, service: web}], MORE}]
`
	for more, want := range map[string]struct {
		serial SerialPolicy
		advice string
	}{
		"zonemd: off":                                                   {SerialKeep, ""},
		"transfer: [10.0.0.0/8]":                                        {SerialUnixtime, ""},
		`notify: [{address: "10.0.0.1:53"}]`:                            {SerialUnixtime, ""},
		"transfer: [10.0.0.0/8], serial: keep":                          {SerialKeep, "do not see"},
		"transfer: [10.0.0.0/8], serial: date":                          {SerialDate, ""},
		`transfer: [10.0.0.0/8], primaries: [{address: "10.0.0.1:53"}]`: {SerialKeep, "its primaries"},
		"serial: keep, zonemd: generate, group: x":                      {SerialKeep, ""},
	} {
		records := `records: "@ SOA a b 1 2 3 4 5"`
		if strings.Contains(more, "primaries") {
			records = "aliases: []"
		}
		s, err := Compile([]byte(strings.NewReplacer("MORE", more, "RECORDS", records).Replace(doc)), 1)
		if err != nil {
			t.Fatalf("%s: %v", more, err)
		}
		z := &s.Spec.Zones[0]
		if got := s.Spec.Settings(z).Serial; got != want.serial {
			t.Errorf("%s: serial %s, want %s", more, got, want.serial)
		}
		if got := strings.Join(s.Spec.Advice(z), " "); (want.advice == "") != (got == "") || !strings.Contains(got, want.advice) {
			t.Errorf("%s: %q", more, got)
		}
	}
}
