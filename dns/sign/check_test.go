package sign

import (
	"strings"
	"testing"

	"meridian/fleet"
)

func TestCheckRefusesWhatCannotBeSigned(t *testing.T) {
	const zone = "zones: [{zone: a.test, records: '@ SOA a b 1 2 3 4 5', dnssec: default"
	refused(t, "dns: {dnssec: [{policy: default, zsk_lifetime: 1h}]}", "dns.dnssec[0].zsk_lifetime", "less than twice")
	refused(t, "dns: {dnssec: [{policy: default, ksk_lifetime: 20h}]}", "dns.dnssec[0].ksk_lifetime", "less than parent_ttl")
	refused(t, "dns: {dnssec: [{policy: default, ksk_lifetime: 1000h, revoke: true}]}", "dns.dnssec[0].ksk_lifetime", "with revoke")
	refused(t, zone+", serial: keep, transfer: [10.0.0.0/8]}]", "zones[0].serial", "keep does not go with dnssec")
	if _, err := fleet.Compile([]byte("fleet: test\n"+minimal+zone+", zonemd: generate, serial: date}]"), 0, Check); err != nil {
		t.Error(err)
	}
}

func refused(t *testing.T, spec, path, why string) {
	t.Helper()
	_, err := fleet.Compile([]byte("fleet: test\n"+minimal+spec), 0, Check)
	fields := fleet.FieldErrors(err)
	if len(fields) != 1 || fields[0].Path != path || !strings.Contains(fields[0].Error(), why) {
		t.Errorf("%s: %v", spec, err)
	}
}
