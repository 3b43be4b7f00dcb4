package transfer

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"meridian/fleet"
	"meridian/internal/testkit"
)

// peerKinds are the nameservers that zones are exchanged with: each as a
// primary of ours and as a secondary of ours.
var peerKinds = []struct {
	name      string
	primary   func(t *testing.T, p *peerServer, us netip.AddrPort)
	secondary func(t *testing.T, p *peerServer, us netip.AddrPort)
}{
	{"bind",
		func(t *testing.T, p *peerServer, us netip.AddrPort) {
			bind(t, p, "", fmt.Sprintf(`zone "example.test" { type primary; file "example.test.zone"; allow-transfer { key %[1]s; }; allow-update { key %[1]s; }; also-notify { 127.0.0.1 port %[2]d key %[1]s; }; };`, keyName, us.Port()))
		},
		func(t *testing.T, p *peerServer, us netip.AddrPort) {
			bind(t, p, "", fmt.Sprintf(`zone "example.test" { type secondary; file "copy"; primaries { 127.0.0.1 port %d key %s; }; allow-transfer { any; }; };`, us.Port(), keyName))
		}},
	{"knot",
		func(t *testing.T, p *peerServer, us netip.AddrPort) {
			knot(t, p, fmt.Sprintf(`
remote:
- id: us
  address: 127.0.0.1@%d
  key: %[2]s
acl:
- id: xfer
  key: %[2]s
  action: [transfer, update]
zone:
- domain: example.test
  storage: %[3]s
  file: example.test.zone
  notify: us
  acl: xfer
`, us.Port(), keyName, p.dir))
		},
		func(t *testing.T, p *peerServer, us netip.AddrPort) {
			knotSecondary(t, p, us, "")
		}},
	{"nsd",
		func(t *testing.T, p *peerServer, us netip.AddrPort) {
			nsd(t, p, fmt.Sprintf("zone:\n\tname: example.test\n\tzonefile: example.test.zone\n\tprovide-xfr: 127.0.0.1 %[1]s\n\tnotify: 127.0.0.1@%[2]d %[1]s\n", keyName, us.Port()))
		},
		func(t *testing.T, p *peerServer, us netip.AddrPort) {
			nsd(t, p, fmt.Sprintf("zone:\n\tname: example.test\n\tzonefile: copy\n\trequest-xfr: 127.0.0.1@%[1]d %[2]s\n\tallow-notify: 127.0.0.1 NOKEY\n\tallow-notify: 127.0.0.1 %[2]s\n\tprovide-xfr: 127.0.0.1 NOKEY\n", us.Port(), keyName))
		}},
}

// RFC 5936 §2.2: what BIND, Knot and NSD serve as primaries we serve as a secondary, record for record.
// RFC 1995 §4: differences are asked for, taken, and lead to the same zone.
// RFC 1996 §3: NOTIFY by a primary is heeded at once.
// RFC 8945 §5: all of it signed with TSIG.
func TestRFC5936TransferFromPeers(t *testing.T) {
	for _, kind := range peerKinds {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			p := newPeer(t)
			port := testkit.FreePort(t, "127.0.0.1")
			p.write(t, "example.test.zone", zoneText(1, 5000, ""))
			kind.primary(t, p, netip.AddrPortFrom(p.addr.Addr(), port))
			eventually(t, "the peer serves", func() bool { return serialAt(p.addr, "example.test.") == 1 })
			doc := fmt.Sprintf(`
dns: {keys: [{name: %s, secret: "env:KEY"}]}
zones: [{zone: example.test, primaries: [{address: "%s", key: %s}]}]
`, keyName, p.addr, keyName)
			n := serve(t, t.TempDir(), port, makeWorld(t, doc, nil))
			eventually(t, "we serve serial 1", func() bool { return serialAt(n.addr, "example.test.") == 1 })
			compare(t, axfr(t, p.addr, "example.test.", keyName), n.text(t, "example.test."))
			if kind.name == "nsd" {
				return // takes no updates
			}
			nsupdate(t, p.addr, "update add new.example.test. 60 A 192.0.2.200\nupdate delete h7.example.test. A\nupdate add long.example.test. 60 TXT more\n")
			eventually(t, "NOTIFY and differences", func() bool {
				s := serialAt(n.addr, "example.test.")
				return s > 1 && s == serialAt(p.addr, "example.test.")
			})
			compare(t, axfr(t, p.addr, "example.test.", keyName), n.text(t, "example.test."))
			if got := counter(t, n, "meridian_dns_transfer_records_total", "in", "ixfr"); got == 0 || got > 40 {
				t.Errorf("%v records came as differences", got)
			}
		})
	}
}

// RFC 5936 §2.2: BIND, Knot and NSD take a zone from us as their primary, record for record.
// RFC 1995 §4: they take differences from our journal and have the same zone afterwards.
// RFC 1996 §3.3: they hear our NOTIFY.
// RFC 8945 §5.3.1: all of it signed with TSIG.
func TestRFC5936TransferToPeers(t *testing.T) {
	for _, kind := range peerKinds {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			p := newPeer(t)
			world := func(records string) *fleet.World {
				doc := fmt.Sprintf(`
dns: {keys: [{name: %[1]s, secret: "env:KEY"}]}
zones: [{zone: example.test, file: f, transfer: ["key:%[1]s"], notify: [{address: "%[2]s", key: %[1]s}]}]
`, keyName, p.addr)
				return makeWorld(t, doc, map[fleet.ObjectKey]string{{Kind: fleet.ObjectZone, ID: "example.test."}: records})
			}
			n := serve(t, t.TempDir(), 0, world(zoneText(1, 5000, "")))
			kind.secondary(t, p, n.addr)
			eventually(t, "the peer serves serial 1", func() bool { return serialAt(p.addr, "example.test.") == 1 })
			compare(t, n.text(t, "example.test."), axfrOf(t, p.addr, 1))
			n.apply(t, world(strings.Replace(zoneText(2, 5000, "new A 192.0.2.9\nh8 TXT x\n"), "h7 A", "h7 60 A", 1)))
			n.apply(t, world(strings.Replace(zoneText(3, 4999, "new A 192.0.2.9\nh8 TXT y\n"), "h7 A", "h7 60 A", 1)))
			eventually(t, "the peer serves serial 3", func() bool { return serialAt(p.addr, "example.test.") == 3 })
			compare(t, n.text(t, "example.test."), axfrOf(t, p.addr, 3))
			if got := counter(t, n, "meridian_dns_transfer_records_total", "out", "ixfr"); got == 0 || got > 60 {
				t.Errorf("%v records went as differences", got)
			}
			eventually(t, "NOTIFY is acknowledged", func() bool { return counter(t, n, "meridian_dns_notifies_total", "out", "ok") > 0 })
		})
	}
}

func compare(t *testing.T, want, got []string) {
	t.Helper()
	for _, r := range want {
		if !slices.Contains(got, r) {
			t.Errorf("lacks %.200s", r)
		}
	}
	for _, r := range got {
		if !slices.Contains(want, r) {
			t.Errorf("has beyond it %.200s", r)
		}
	}
}

// knotSecondary starts Knot as a secondary of us; more is what its zone has
// besides, a line of its configuration.
func knotSecondary(t *testing.T, p *peerServer, us netip.AddrPort, more string) {
	t.Helper()
	knot(t, p, fmt.Sprintf(`
remote:
- id: us
  address: 127.0.0.1@%d
  key: %[2]s
acl:
- id: news
  address: 127.0.0.1
  action: [notify, transfer]
- id: signed
  key: %[2]s
  action: [notify, transfer]
zone:
- domain: example.test
  storage: %[3]s
  file: copy
  master: us
  acl: [news, signed]
  %[4]s
`, us.Port(), keyName, p.dir, more))
}
