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
