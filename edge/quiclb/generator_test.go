package quiclb

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/quic-go/quic-go"

	"meridian/fleet"
)

var _ quic.ConnectionIDGenerator = (*Generator[quic.ConnectionID])(nil)

// A server's ids are all different, and all say the server.
func TestIDsDifferAndSayTheServer(t *testing.T) {
	for _, cfg := range []Config{ForFleet([16]byte{1}), {Rotation: 3, Server: 4, Nonce: 8}} {
		c, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		server := []byte{1, 2, 3, 4}
		g, err := NewGenerator(c, server, rand.NewChaCha8([32]byte{1}), quic.ConnectionIDFromBytes)
		if err != nil {
			t.Fatal(err)
		}
		seen := map[quic.ConnectionID]bool{}
		for range 20 {
			id, err := g.GenerateConnectionID()
			if err != nil {
				t.Fatal(err)
			}
			if got, ok := c.Decode(id.Bytes()); !ok || !bytes.Equal(got, server) || id.Len() != g.ConnectionIDLen() {
				t.Errorf("%s says %x, %v", id, got, ok)
			}
			if seen[id] {
				t.Errorf("%s is there twice", id)
			}
			seen[id] = true
		}
	}
}

// Under a key no nonce is used twice: the last but one ends it.
func TestNoncesAreNotUsedTwice(t *testing.T) {
	c, err := New(Config{Server: 1, Nonce: 4, Key: make([]byte, 16)})
	if err != nil {
		t.Fatal(err)
	}
	g, err := NewGenerator(c, []byte{1}, strings.NewReader("\xff\xff\xff\xff"), quic.ConnectionIDFromBytes)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := g.GenerateConnectionID(); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(g.last, make([]byte, 4)) {
		t.Errorf("after ffffffff comes %x", g.last)
	}
	g.last = []byte{0xff, 0xff, 0xff, 0xfe}
	if _, err := g.GenerateConnectionID(); !errors.Is(err, ErrSpent) {
		t.Errorf("got %v, expected ErrSpent", err)
	}
}

func TestGeneratorsErrors(t *testing.T) {
	c, err := New(Config{Server: 2, Nonce: 4})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewGenerator(c, []byte{1}, nil, quic.ConnectionIDFromBytes); err == nil {
		t.Error("a server id of another length: no error")
	}
	g, err := NewGenerator(c, []byte{1, 2}, strings.NewReader("x"), quic.ConnectionIDFromBytes)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.GenerateConnectionID(); err == nil {
		t.Error("no random octets: no error")
	}
}

const serverSpec = `
regions: [{id: fra, location: {latitude: 50, longitude: 8}}]
nodes:
  - {name: gw1, region: fra, roles: [l7], addresses: {v4: 10.0.0.1}%s}
  - {name: gw2, region: fra, roles: [l7], addresses: {v4: 10.0.0.2}%s}
  - {name: ns1, region: fra, roles: [dns], addresses: {v4: 10.0.0.3}%s}
`

func TestServerIDsAreOneForEachGateway(t *testing.T) {
	for _, c := range []struct{ gw1, gw2, ns1, want string }{
		{"", "", "", ""},
		{"quic_server_id: 7", "quic_server_id: 8", "", ""},
		{"quic_server_id: 7", "quic_server_id: 7", "", `nodes[1].quic_server_id: 7 is node "gw1"'s too`},
		{"", "", "quic_server_id: 7", "nodes[2].quic_server_id: is for nodes with role l7"},
	} {
		args := []any{}
		for _, id := range []string{c.gw1, c.gw2, c.ns1} {
			if id != "" {
				id = ", " + id
			}
			args = append(args, id)
		}
		_, err := fleet.Compile(fmt.Appendf(nil, serverSpec, args...), 1, Check)
		if got := fmt.Sprint(err); c.want == "" && err != nil || !strings.Contains(got, c.want) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	// Balancers of other versions reckon the same.
	if got := ServerID(&fleet.Node{Name: "fra-edge-1"}); got != [4]byte{0x2c, 0x5f, 0x97, 0xfe} {
		t.Errorf("server id of fra-edge-1: %x", got)
	}
	if ServerID(&fleet.Node{Name: "a"}) == ServerID(&fleet.Node{Name: "b"}) {
		t.Error("two names, one id")
	}
	if got := ServerID(&fleet.Node{Name: "a", QUICServerID: 0x01020304}); got != [4]byte{1, 2, 3, 4} {
		t.Errorf("id %x", got)
	}
}
