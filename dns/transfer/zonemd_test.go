package transfer

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"meridian/dns/keeper"
	"meridian/dns/sign"
	"meridian/fleet"
	"meridian/identity"
	"meridian/internal/testkit"
	"meridian/rules"
)

// maker derives a fleet's zones as its control plane does.
type maker struct {
	k    *keeper.Keeper
	made *fleet.Zones
}

func newMaker(t testing.TB) *maker {
	t.Helper()
	id, err := identity.New(identity.Key(sha256.Sum256([]byte("transfer"))))
	if err != nil {
		t.Fatal(err)
	}
	k, err := keeper.New(keeper.Config{Keys: keeper.NewDirStore(filepath.Join(t.TempDir(), "keys"), id), Rand: rand.Reader, Logger: discard})
	if err != nil {
		t.Fatal(err)
	}
	return &maker{k: k}
}

// world compiles a document and derives its zones.
func (m *maker) world(t testing.TB, doc string) *fleet.World {
	t.Helper()
	s, err := rules.Compile([]byte(doc), 1)
	if err != nil {
		t.Fatal(err)
	}
	w := &fleet.World{Snapshot: s, Objects: rules.Inline(s)}
	w.Objects[fleet.ObjectKey{Kind: fleet.ObjectSecret, ID: "env:KEY"}] = fleet.Object{Data: []byte(secretText)}
	return m.derive(t, w)
}

// derive gives a World the zones that the fleet writes.
func (m *maker) derive(t testing.TB, w *fleet.World) *fleet.World {
	t.Helper()
	put, gone, _, err := m.k.Derive(t.Context(), w, nil, m.made, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	m.made = m.made.With(put, gone)
	w.Zones = m.made
	return w
}

const digestDoc = `
fleet: test
regions:
- {id: fra, vips: {v4: [192.0.2.1], v6: ["2001:db8:1::1"]}, location: {latitude: 50, longitude: 8}}
- {id: iad, vips: {v4: [192.0.2.2]}, location: {latitude: 39, longitude: -77}}
services:
- {service: web, protocol: http, ports: [80], pools: [{id: a, endpoints: [{address: "10.0.0.1:80"}]}]}
- {service: far, protocol: http, ports: [81], pools: [{id: a, endpoints: [{address: "10.0.0.1:80"}]}], steering: {policy: failover, regions: [iad, fra]}}
dns:
  keys: [{name: xfer.key, secret: "env:KEY"}]
  dnssec: [{policy: default, denial: nsec}, {policy: hashed, denial: nsec3}, {policy: small, denial: compact}]
zones:
- zone: example.test
  zonemd: generate
  SIGNING
  transfer: ["key:xfer.key"]
  notify: [{address: "127.0.0.1:PORT", key: xfer.key}]
  steered:
  - {name: www, service: web, https: {}}
  - {name: far, service: far}
  - {name: given, service: web, export: [EXPORT]}
  - {name: "*.any", service: web}
  records: |
    $TTL 300
    @ SOA ns1 admin 7 3600 600 86400 60
    @ NS ns1
    ns1 A 192.0.2.53
    sub NS ns.sub
    ns.sub A 192.0.2.54
    old DNAME new.example.
`

// RFC 8976 §3: the digest is over the zone as transfers show it, steered names with what they export: a secondary verifies what it takes, whole and as differences.
// RFC 8976 §3.1: a query for ZONEMD is answered with the RRset that transfers show.
func TestRFC8976SteeredZoneVerifiesAtSecondaries(t *testing.T) {
	for _, signing := range []string{"serial: unixtime", "dnssec: default", "dnssec: hashed", "dnssec: small"} {
		t.Run(signing, func(t *testing.T) {
			t.Parallel()
			m, p := newMaker(t), newPeer(t)
			doc := func(export string) string {
				return strings.NewReplacer("SIGNING", signing, "PORT", fmt.Sprint(p.addr.Port()), "EXPORT", export).Replace(digestDoc)
			}
			n := serve(t, t.TempDir(), 0, m.world(t, doc("192.0.2.77")))
			knotVerifying(t, p, n.addr)
			took := func(what, address string) {
				t.Helper()
				var list []string
				eventually(t, what, func() bool {
					got, err := tryAXFR(p.addr, "example.test.", "")
					list = got
					return err == nil && strings.Contains(strings.Join(got, "\n"), "given.example.test. 30 in a "+address)
				})
				compare(t, axfr(t, n.addr, "example.test.", keyName), list)
				checkDigest(t, n, list)
				if strings.HasPrefix(signing, "dnssec") {
					ldnsVerifies(t, n)
				}
			}
			took("Knot takes the zone", "192.0.2.77")
			serial := serialAt(n.addr, "example.test.")
			n.apply(t, m.world(t, doc("192.0.2.78")))
			if now := serialAt(n.addr, "example.test."); !sign.SerialAfter(now, serial) {
				t.Fatalf("the exported address has changed, and the serial stays %d", now)
			}
			took("Knot takes the change", "192.0.2.78")
			if counter(t, n, "meridian_dns_transfer_records_total", "out", "ixfr") == 0 {
				t.Error("the change was not transferred as differences")
			}
		})
	}
}

// knotVerifying starts Knot as a secondary that refuses a zone without a right
// digest.
func knotVerifying(t *testing.T, p *peerServer, us netip.AddrPort) {
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
  zonemd-verify: on
  acl: [news, signed]
`, us.Port(), keyName, p.dir))
}

// checkDigest compares the ZONEMD of an answer with the one transferred.
func checkDigest(t *testing.T, n *node, list []string) {
	t.Helper()
	c := dns.Client{Timeout: 5 * time.Second}
	r, _, err := c.Exchange(new(dns.Msg).SetQuestion("example.test.", dns.TypeZONEMD), n.addr.String())
	if err != nil || len(r.Answer) != 1 {
		t.Fatalf("ZONEMD: %v %v", r, err)
	}
	if got := strings.Join(strings.Fields(strings.ToLower(r.Answer[0].String())), " "); !strings.Contains(strings.Join(list, "\n"), got) {
		t.Errorf("the answer %s is not what is transferred", got)
	}
}

// ldnsVerifies has another program look at signatures, denial and digest of
// what transfers show.
func ldnsVerifies(t *testing.T, n *node) {
	t.Helper()
	var text bytes.Buffer
	if err := n.srv.Static("example.test.").WriteText(&text); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "zone")
	if err := os.WriteFile(file, text.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(testkit.Program(t, "ldns-verify-zone"), "-Z", file).CombinedOutput(); err != nil {
		t.Errorf("ldns-verify-zone: %v\n%s\n%s", err, out, text.Bytes())
	}
}
