package gobgp

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"

	"meridian/fleet"
)

const specDoc = `
regions:
  - id: fra
    location: {latitude: 50, longitude: 8}
    vips: {v4: [203.0.113.1], v6: ["2001:db8:1::1"]}
    bgp:
      asn: %d
      hold_time: 3s
      neighbors: [{address: 10.9.0.1, asn: 64601, password: "file:/the/secret"}]
anycast: {v4: [198.51.100.1], v6: ["2001:db8:ca57::1"]}
nodes:
  - {name: edge-1, region: fra, roles: [bgp], addresses: {v4: 10.9.0.2, v6: "fd09::2"}}
`

func ad(prefix string, f func(*fleet.Advertisement)) fleet.Advertisement {
	a := fleet.Advertisement{Prefix: netip.MustParsePrefix(prefix), MED: 100}
	if f != nil {
		f(&a)
	}
	return a
}

const (
	any4 = "198.51.100.1/32"
	any6 = "2001:db8:ca57::1/128"
)

func newSpeaker(t *testing.T, secret func(fleet.Secret) (string, error)) *Speaker {
	t.Helper()
	s, err := New(Config{Node: "edge-1", Secret: secret, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func world(t *testing.T, doc string) *fleet.World {
	t.Helper()
	snap, err := fleet.Compile([]byte(doc), 1)
	if err != nil {
		t.Fatal(err)
	}
	return &fleet.World{Snapshot: snap}
}

func TestAnnounceRefusesWhatIsNotAnOwnVIP(t *testing.T) {
	s := newSpeaker(t, func(fleet.Secret) (string, error) { return "x", nil })
	if err := s.Apply(world(t, fmt.Sprintf(specDoc, 64501))); err != nil {
		t.Fatal(err)
	}
	if err := s.Announce([]fleet.Advertisement{ad(any4, nil)}); err != nil {
		t.Fatal(err)
	}
	err := s.Announce([]fleet.Advertisement{ad(any4, nil), ad("192.0.2.0/24", nil)})
	if err == nil || !strings.Contains(err.Error(), "192.0.2.0/24 is not a VIP") {
		t.Errorf("announcing another's prefix: %v", err)
	}
	if len(s.want.ads) != 1 {
		t.Errorf("the old set did not stay: %v", s.want.ads)
	}
}

func TestApplyKeepsTheOldStateWhereASecretIsMissing(t *testing.T) {
	fail := false
	s := newSpeaker(t, func(fleet.Secret) (string, error) {
		if fail {
			return "", errors.New("no such file")
		}
		return "x", nil
	})
	w := world(t, fmt.Sprintf(specDoc, 64501))
	if err := s.Apply(w); err != nil {
		t.Fatal(err)
	}
	fail = true
	if err := s.Apply(w); err == nil || !strings.Contains(err.Error(), "password of neighbor 10.9.0.1: no such file") {
		t.Errorf("Apply: %v", err)
	}
	if n := s.want.neighbors[netip.MustParseAddr("10.9.0.1")]; n.password != "x" {
		t.Errorf("the old neighbor did not stay: %+v", n)
	}
}

func TestNeighborsAreThoseOfTheNode(t *testing.T) {
	s := newSpeaker(t, func(fleet.Secret) (string, error) { return "", nil })
	doc := fmt.Sprintf(specDoc, 64501)
	doc = strings.Replace(doc, `password: "file:/the/secret"}`, `nodes: [edge-2]}`, 1) + `
  - {name: edge-2, region: fra, roles: [bgp], addresses: {v4: 10.9.0.3, v6: "fd09::3"}}
`
	if err := s.Apply(world(t, doc)); err != nil {
		t.Fatal(err)
	}
	if len(s.want.neighbors) != 0 {
		t.Errorf("neighbors of another node: %v", s.want.neighbors)
	}
}
