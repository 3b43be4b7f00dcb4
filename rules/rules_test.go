package rules

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"meridian/fleet"
)

const spec = `
regions:
  - id: fra
    location: {latitude: 50, longitude: 8}
    vips: {v4: [192.0.2.1]}
nodes:
  - {name: dns-1, region: fra, roles: [dns, probe], addresses: {v4: 10.0.0.1}}
  - {name: edge-1, region: fra, roles: [l7], addresses: {v4: 10.0.0.2}}
  - {name: edge-2, region: fra, roles: [l4, bgp], addresses: {v4: 10.0.0.3}}
services:
  - service: web
    protocol: https
    ports: [443]
    hosts: [www.a.test]
    pools:
      - id: main
        tls: {ca: "file:pool-ca.pem"}
        endpoints: [{address: "10.1.0.1:8443"}]
probes: {ca: "file:probe-ca.pem"}
zones:
  - {zone: a.test, file: a.zone, steered: [{name: www, service: web}]}
  - zone: b.test
    records: |
      @ 300 SOA ns.a.test. host.a.test. 1 3600 600 86400 300
      @ 300 NS ns.a.test.
certificates:
  - {id: web, cert: "file:web.pem", key: "file:web.key"}
`

const zoneA = `@ 300 SOA ns host 1 3600 600 86400 300
@ 300 NS ns
ns 300 A 192.0.2.53
`

// pair gives a certificate and its key in PEM.
func pair(t testing.TB) (cert, key []byte) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "www.a.test"}, DNSNames: []string{"www.a.test", "*.a.test"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
}

func object(kind fleet.ObjectKind, id, file string, data []byte) fleet.Object {
	return fleet.Object{Key: fleet.ObjectKey{Kind: kind, ID: id}, Data: data, File: file}
}

func compile(t testing.TB, doc string, revision uint64) *fleet.Snapshot {
	t.Helper()
	s, err := Compile([]byte(doc), revision)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// complete gives every object that spec names in a file.
func complete(t testing.TB) []fleet.Object {
	cert, key := pair(t)
	return []fleet.Object{
		object(fleet.ObjectZone, "a.test.", "a.zone", []byte(zoneA)),
		object(fleet.ObjectCertificate, "web", "web.pem, web.key", append(slices.Clone(cert), key...)),
		object(fleet.ObjectCA, "file:pool-ca.pem", "pool-ca.pem", cert),
		object(fleet.ObjectCA, "file:probe-ca.pem", "probe-ca.pem", cert),
	}
}

func TestEveryRoomsRulesAreAsked(t *testing.T) {
	// One mistake for each room that has rules of its own.
	bad := strings.NewReplacer(
		"@ 300 NS ns.a.test.", "@ 300 CNAME ns.a.test.", // dns/zone
	).Replace(spec)
	_, err := Compile([]byte(bad), 0)
	errs := fleet.FieldErrors(err)
	if len(errs) == 0 || !strings.HasPrefix(errs[0].Path, "zones[1]") || errs[0].Line == 0 {
		t.Fatalf("got %v", err)
	}
}

func TestAWorldHasAllThatTheSpecNames(t *testing.T) {
	s := compile(t, spec, 3)
	shifts := []fleet.Shift{{ID: "z", From: "fra", Share: 1}, {ID: "a", From: "fra", Share: .5}, {ID: "lost", From: "gone", Share: 1}}
	w, err := World(s, complete(t), shifts)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range s.Wanted() {
		if _, ok := w.Objects[k]; !ok {
			t.Errorf("%v is missing", k)
		}
	}
	if b := w.Objects[fleet.ObjectKey{Kind: fleet.ObjectZone, ID: "b.test."}]; !strings.Contains(string(b.Data), "SOA") {
		t.Error("the inline zone is not an object")
	}
	if len(w.Shifts) != 2 || w.Shifts[0].ID != "a" {
		t.Errorf("shifts: %v", w.Shifts)
	}
}

func TestEachWrongObjectIsNamed(t *testing.T) {
	cert, key := pair(t)
	_, otherKey := pair(t)
	replace := func(o fleet.Object) []fleet.Object {
		all := complete(t)
		for i := range all {
			if all[i].Key == o.Key {
				all[i] = o
			}
		}
		return all
	}
	for name, test := range map[string]struct {
		objects []fleet.Object
		want    string
	}{
		"missing":     {complete(t)[1:], "zone a.test.: the Spec names it, and it is missing"},
		"twice":       {append(complete(t), complete(t)[0]), "zone a.test.: a.zone: is given twice"},
		"not named":   {append(complete(t), object(fleet.ObjectZone, "c.test.", "c.zone", nil)), "zone c.test.: c.zone: is not named by the Spec"},
		"zone syntax": {replace(object(fleet.ObjectZone, "a.test.", "a.zone", []byte(zoneA+"www 300 A 1.2.3\n"))), "zone a.test.: a.zone:4: "},
		"zone without SOA": {replace(object(fleet.ObjectZone, "a.test.", "a.zone", []byte("@ 300 NS ns.b.test.\n"))),
			"zone a.test.: a.zone:1: zone a.test. has no SOA at its apex"},
		"steered name in zone": {replace(object(fleet.ObjectZone, "a.test.", "a.zone", []byte(zoneA+"www 300 A 192.0.2.9\n"))), "zone a.test.: a.zone"},
		"key of another certificate": {replace(object(fleet.ObjectCertificate, "web", "web.pem", append(slices.Clone(cert), otherKey...))),
			"certificate web: web.pem: private key does not match public key"},
		"certificate without key": {replace(object(fleet.ObjectCertificate, "web", "web.pem", cert)), "certificate web: web.pem: "},
		"key without certificate": {replace(object(fleet.ObjectCertificate, "web", "web.pem", key)), "certificate web: web.pem: "},
		"authority that is a key": {replace(object(fleet.ObjectCA, "file:pool-ca.pem", "pool-ca.pem", key)), "ca file:pool-ca.pem: pool-ca.pem: the PEM block"},
		"authority of nothing":    {replace(object(fleet.ObjectCA, "file:pool-ca.pem", "pool-ca.pem", []byte("hello"))), "ca file:pool-ca.pem: pool-ca.pem: holds no certificate in PEM"},
	} {
		_, err := World(compile(t, spec, 0), test.objects, nil)
		if err == nil || !strings.HasPrefix(err.Error(), test.want) {
			t.Errorf("%s: got %v", name, err)
		}
		if err != nil && strings.Contains(err.Error(), "PRIVATE") {
			t.Errorf("%s: the error shows the key", name)
		}
	}
}

func TestANodeWantsWhatItsRolesNeed(t *testing.T) {
	s := compile(t, spec, 0)
	for node, want := range map[string]string{
		"dns-1":   "zone/a.test. zone/b.test. ca/file:probe-ca.pem",
		"edge-1":  "certificate/web ca/file:pool-ca.pem ca/file:probe-ca.pem",
		"edge-2":  "",
		"unknown": "",
	} {
		var got []string
		for _, k := range WantedBy(s, node) {
			got = append(got, string(k.Kind)+"/"+k.ID)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s wants %v", node, got)
		}
	}
}

func TestAnEncodedWorldComesBackEqual(t *testing.T) {
	s := compile(t, spec, 7)
	w, err := World(s, complete(t), []fleet.Shift{{ID: "a", From: "fra", Share: .5, Expires: time.Unix(5000000000, 0).UTC()}})
	if err != nil {
		t.Fatal(err)
	}
	part := &fleet.World{Snapshot: s, Objects: map[fleet.ObjectKey]fleet.Object{}, Shifts: w.Shifts}
	for _, k := range WantedBy(s, "dns-1") {
		part.Objects[k] = w.Objects[k]
	}
	for name, w := range map[string]*fleet.World{"whole": w, "one node's": part} {
		b, err := Encode(w)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Decode(b)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		again, err := Encode(got)
		if err != nil || !bytes.Equal(b, again) || got.Snapshot.Hash != s.Hash || got.Snapshot.Revision != 7 {
			t.Errorf("%s: came back changed (%v)", name, err)
		}
	}
	for _, bad := range []string{"", "{}", `{"version":1,"spec":{}}`, `{"version":2}`} {
		if _, err := Decode([]byte(bad)); err == nil {
			t.Errorf("%q was decoded", bad)
		}
	}
}

func TestADifferenceIsOneLine(t *testing.T) {
	objects := complete(t)
	old, err := World(compile(t, spec, 0), objects, nil)
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.NewReplacer(
		"latitude: 50", "latitude: 51",
		"  - {name: edge-2,", "  - {name: edge-0, region: fra, roles: [l4], addresses: {v4: 10.0.0.9}}\n  - {name: edge-2,",
	).Replace(spec)
	objects[0].Data = []byte(zoneA + "x 300 A 192.0.2.7\n")
	next, err := World(compile(t, changed, 0), objects, nil)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, d := range Diff(old, next) {
		got = append(got, d.String())
	}
	want := []string{
		`+ nodes[edge-0]: {"addresses":{"v4":"10.0.0.9"},"name":"edge-0","region":"fra","roles":["l4"],"state":"active","weight":100}`,
		`~ regions[fra].location.latitude: 50 -> 51`,
		`~ zone a.test.: 71 octets -> 89 octets`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got:\n%s", strings.Join(got, "\n"))
	}
	if d := Diff(old, old); len(d) != 0 {
		t.Errorf("a World differs from itself: %v", d)
	}
	if d := Diff(nil, next); len(d) == 0 {
		t.Error("the first World is no change")
	}
}

// A zone that was signed elsewhere has no signatures for what the fleet would
// add to it: the Spec is refused where it is written, and not by every node.
func TestWhatIsAddedToAZoneSignedElsewhereIsRefused(t *testing.T) {
	const signed = `$TTL 60
@ SOA ns h 1 1 1 1 1
@ NS ns
@ DNSKEY 257 3 13 kXKkvWU3vGYfTJGl3qBd4qhiWp5aRs7YtkCJxD2d+t7KXqwahww5IgJtxJT2yFItlggazyfXqJEVOmMJ3qT0tQ==
@ RRSIG SOA 13 2 60 20380101000000 20200101000000 1 c.test. AAAA
ns A 192.0.2.53
`
	for extra, want := range map[string]string{
		"": "", "steered: [{name: www, service: web}]": "its steered name www would have no signatures",
		`aliases: [{name: "@", target: x.test}]`:                "its alias @ would have no signatures",
		"dnssec: default":                                       "",
		"dnssec: default, steered: [{name: www, service: web}]": "",
	} {
		if extra != "" {
			extra = ", " + extra
		}
		doc := strings.Replace(spec, "zones:\n", "zones:\n  - {zone: c.test, file: c.zone"+extra+"}\n", 1)
		_, err := World(compile(t, doc, 1), append(complete(t), object(fleet.ObjectZone, "c.test.", "c.zone", []byte(signed))), nil)
		if got := fmt.Sprint(err); want == "" && err != nil || want != "" && (err == nil || !strings.Contains(got, want) || !strings.Contains(got, "c.zone")) {
			t.Errorf("%s: %v, want %q", extra, err, want)
		}
	}
}
