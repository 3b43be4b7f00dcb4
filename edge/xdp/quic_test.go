package xdp

import (
	"crypto/aes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"meridian/edge/quiclb"
	"meridian/fleet"
)

const quicSpec = `
anycast: {v4: [198.51.100.1], v6: ["2001:db8:a::1"]}
regions: [{id: fra, location: {latitude: 50, longitude: 8}}]
nodes:
  - {name: lb, region: fra, roles: [l4], addresses: {v4: 10.0.0.1, v6: "fd00::1"}}
  - {name: gw1, region: fra, roles: [l7], addresses: {v4: 10.0.1.1, v6: "fd00:1::1"}}
  - {name: gw2, region: fra, roles: [l7], addresses: {v4: 10.0.1.2, v6: "fd00:1::2"}}
  - {name: gw3, region: fra, roles: [l7], addresses: {v4: 10.0.1.3, v6: "fd00:1::3"}}
services: [{service: web, protocol: https, http3: true, ports: [443], pools: [{id: main, endpoints: [{address: "10.9.0.1:443"}]}]}]
`

// Encrypted, as a fleet has it, and plain under another number.
var (
	blockIDs = quiclb.ForFleet([16]byte{9})
	plainIDs = quiclb.Config{Rotation: 3, Server: quiclb.ServerLen, Nonce: 4}
)

// newQUICMachine is newMachine with programs that read both.
func newQUICMachine(t testing.TB, spec, node string, roles Roles) *machine {
	t.Helper()
	m := newMachine(t, spec, node, roles)
	k, err := load(Key{7}, 1<<10, "", blockIDs, plainIDs)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.Close() })
	m.kernel, m.rec = k, newReconciler(k, Key{7})
	m.reconcile(t)
	return m
}

// connectionID makes an id of a node's, of a number.
func connectionID(t testing.TB, cfg quiclb.Config, node string, n uint64) []byte {
	t.Helper()
	c, err := quiclb.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	nonce := make([]byte, cfg.Nonce)
	binary.LittleEndian.PutUint32(nonce, uint32(n*2654435761))
	server := quiclb.ServerID(&fleet.Node{Name: node})
	id, err := c.Encode(server[:], nonce)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// shortHeader and longHeader are QUIC packets to a connection id.
func shortHeader(id []byte) []byte { return cat([]byte{0x41}, id, make([]byte, 24)) }

func longHeader(first byte, id []byte) []byte {
	return cat([]byte{first, 0, 0, 0, 1, byte(len(id))}, id, []byte{4, 1, 2, 3, 4}, make([]byte, 30))
}

// quicPacket is one of a client's to a VIP.
func quicPacket(client string, port int, payload []byte) []byte {
	vip := any4
	if strings.Contains(client, ":") {
		vip = any6
	}
	return ipHeader{src: client, dst: vip, proto: protoUDP}.packet(datagram(port, 443, payload...))
}

// gatewayOf sends a packet, and gives the gateway that it left for with what was
// counted of its flow.
func (m *machine) gatewayOf(t *testing.T, ip []byte) string {
	t.Helper()
	verdict, out, reasons := m.send(t, fromRouter(ip))
	if verdict != "tx" {
		t.Fatalf("verdict %s, %v", verdict, reasons)
	}
	last := 14 + 19
	if ip[0]>>4 == 6 {
		last = 14 + 39
	}
	return fmt.Sprintf("gw%d %s", out[last], reasons[0])
}

// A packet whose connection id says a gateway goes there, from whatever address
// and port; the ids that the program reads are those that Go writes.
func TestQUICGoesByConnectionID(t *testing.T) {
	m := newQUICMachine(t, quicSpec, "lb", Roles{L4: true})
	rnd := rand.New(rand.NewPCG(1, 1))
	for i := range uint64(300) {
		gw := fmt.Sprintf("gw%d", 1+i%3)
		for _, cfg := range []quiclb.Config{blockIDs, plainIDs} {
			id := connectionID(t, cfg, gw, i)
			for _, payload := range [][]byte{shortHeader(id), longHeader(0xe0, id), longHeader(0xd0, id)} {
				client := fmt.Sprintf("203.0.113.%d", rnd.IntN(256))
				if i%2 == 1 {
					client = fmt.Sprintf("2001:db8:c::%x", rnd.IntN(1<<16))
				}
				if got := m.gatewayOf(t, quicPacket(client, 1024+rnd.IntN(60000), payload)); got != gw+" flow_quic" {
					t.Fatalf("id %x of %s went to %s", id, gw, got)
				}
			}
		}
	}
}

// What says no gateway goes by address and port, as any other packet.
func TestUnreadableConnectionIDsGoByTheRing(t *testing.T) {
	m := newQUICMachine(t, quicSpec, "lb", Roles{L4: true})
	good := connectionID(t, blockIDs, "gw1", 7)
	other := connectionID(t, blockIDs, "gw9", 7)
	number := append([]byte(nil), good...)
	number[0] = 1<<5 | number[0]&31
	length := append([]byte(nil), good...)
	length[0]--
	want := strings.TrimSuffix(m.gatewayOf(t, quicPacket(client4, 5000, []byte{1})), " flow_safe")
	for name, payload := range map[string][]byte{
		"an Initial with the client's own id":   longHeader(0xc0, []byte{1, 2, 3, 4, 5, 6, 7, 8}),
		"an Initial with a long id of its own":  longHeader(0xc0, make([]byte, 20)),
		"an Initial without an id":              longHeader(0xc0, nil),
		"a server that is none":                 shortHeader(other),
		"a number without a configuration":      shortHeader(number),
		"an id that says another length":        shortHeader(length),
		"a header that says another length":     longHeader(0xe0, good[:len(good)-1]),
		"an id that is cut short":               shortHeader(good)[:10],
		"a long header that is cut short":       longHeader(0xe0, good)[:5],
		"a first octet alone":                   {0x40},
		"nothing":                               {},
		"an id that says it can not be decoded": shortHeader(cat([]byte{0xff}, good[1:])),
	} {
		if got := m.gatewayOf(t, quicPacket(client4, 5000, payload)); got != want+" flow_safe" {
			t.Errorf("%s: went to %s, expected %s", name, got, want)
		}
	}
	tcp := ipHeader{src: client4, dst: any4, proto: protoTCP}.packet(segment(5000, 443, ack, shortHeader(good)...))
	if got := m.gatewayOf(t, tcp); strings.HasSuffix(got, "flow_quic") {
		t.Errorf("TCP went by a connection id: %s", got)
	}
}

// A gateway that drains keeps its connections; one that is down has none; one
// that is gone from the Spec is nobody.
func TestConnectionIDsFollowTheGateway(t *testing.T) {
	m := newQUICMachine(t, quicSpec, "lb", Roles{L4: true})
	id := shortHeader(connectionID(t, blockIDs, "gw3", 1))
	sent := func() string { return m.gatewayOf(t, quicPacket(client4, 5000, id)) }
	expect := func(when, want string, is bool) {
		t.Helper()
		if got := sent(); (got == want) != is {
			t.Errorf("%s: went to %s", when, got)
		}
	}
	for n := 1; n <= 3; n++ {
		m.state[fleet.Target{Kind: fleet.TargetGateway, Region: "fra", Node: fmt.Sprintf("gw%d", n)}] = fleet.Up
	}
	gw3 := fleet.Target{Kind: fleet.TargetGateway, Region: "fra", Node: "gw3"}
	expect("up", "gw3 flow_quic", true)
	m.state[gw3] = fleet.Drain
	m.reconcile(t)
	expect("draining", "gw3 flow_quic", true)
	m.state[gw3] = fleet.Down
	m.reconcile(t)
	if got := sent(); strings.HasPrefix(got, "gw3") {
		t.Errorf("down: went to %s", got)
	}
	m.state[gw3] = fleet.Up
	m.reconcile(t)
	expect("up again", "gw3 flow_quic", true)
	m.apply(t, strings.Replace(quicSpec, `"fd00:1::3"}}`, `"fd00:1::3"}, quic_server_id: 77}`, 1), "lb", Roles{L4: true})
	if got := sent(); strings.HasSuffix(got, "flow_quic") {
		t.Errorf("under another server id: went to %s", got)
	}
	m.apply(t, strings.Replace(quicSpec, `"fd00:1::3"}}`, `"fd00:1::3"}, state: disabled}`, 1), "lb", Roles{L4: true})
	if got := sent(); strings.HasPrefix(got, "gw3") {
		t.Errorf("disabled: went to %s", got)
	}
	if len(m.rec.servers) != 4 {
		t.Errorf("%d servers are left, expected two gateways in two rings", len(m.rec.servers))
	}
}

// A gateway that gets a packet of another's connection passes it on directly.
func TestGatewayPassesOnByConnectionID(t *testing.T) {
	m := newQUICMachine(t, quicSpec, "gw1", Roles{L7: true})
	mine := quicPacket(client4, 5000, shortHeader(connectionID(t, blockIDs, "gw1", 1)))
	others := quicPacket(client4, 5000, shortHeader(connectionID(t, blockIDs, "gw2", 1)))
	unknown := quicPacket(client4, 5000, shortHeader(connectionID(t, blockIDs, "gw9", 1)))
	from := func(inner []byte, hops int) []byte {
		return fromRouter(ipHeader{src: "10.0.0.1", dst: "10.0.1.1", proto: 4, id: hops}.packet(inner))
	}
	m.check(t, []fixture{
		{"its own", from(mine, 0), "pass", fromRouter(mine), "pass_decapsulated"},
		{"another's", from(others, 0), "tx", toNext(ipHeader{src: "10.0.1.1", dst: "10.0.1.2", proto: 4, id: 1}.packet(others)), "tx_passed_on"},
		{"another's, after some hops", from(others, 3), "tx", toNext(ipHeader{src: "10.0.1.1", dst: "10.0.1.2", proto: 4, id: 4}.packet(others)), "tx_passed_on"},
		{"another's, after too many hops", from(others, 6), "pass", fromRouter(others), "pass_decapsulated"},
		{"in the clear, by L2 DSR", fromRouter(others), "tx", toNext(ipHeader{src: "10.0.1.1", dst: "10.0.1.2", proto: 4, id: 1}.packet(others)), "tx_passed_on"},
	})
	if verdict, _, reasons := m.send(t, from(unknown, 0)); verdict != "pass" {
		t.Errorf("nobody's: %s, %v", verdict, reasons)
	}
}

// The tables that the program decrypts by, and its round keys, are AES's.
func TestDecryptionKeyIsOfAES(t *testing.T) {
	box := substitutions()
	if box[0] != 0x63 || box[1] != 0x7c || box[0x53] != 0xed || box[0xff] != 0x16 {
		t.Fatalf("S-box %x", box)
	}
	inverse, columns := inverse(box), inverseColumns(box)
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 100 {
		var key, block [16]byte
		for i := range 16 {
			key[i], block[i] = byte(rnd.Uint32()), byte(rnd.Uint32())
		}
		c, err := aes.NewCipher(key[:])
		if err != nil {
			t.Fatal(err)
		}
		var plain [16]byte
		c.Decrypt(plain[:], block[:])
		if got, want := decryptTwin(decryptionKey(key), columns, inverse, block), binary.BigEndian.Uint32(plain[:]); got != want {
			t.Fatalf("decrypted %08x, expected %08x", got, want)
		}
	}
}

// decryptTwin is decrypt of bpf/quic.h.
func decryptTwin(key [44]uint32, columns [4][256]uint32, box [256]byte, block [16]byte) uint32 {
	var s [4]uint32
	for i := range s {
		s[i] = binary.BigEndian.Uint32(block[4*i:]) ^ key[i]
	}
	for round := 1; round < 10; round++ {
		var n [4]uint32
		for i := range n {
			n[i] = columns[0][s[i]>>24] ^ columns[1][s[(i+3)%4]>>16&0xff] ^ columns[2][s[(i+2)%4]>>8&0xff] ^ columns[3][s[(i+1)%4]&0xff] ^ key[4*round+i]
		}
		s = n
	}
	return (uint32(box[s[0]>>24])<<24 | uint32(box[s[3]>>16&0xff])<<16 | uint32(box[s[2]>>8&0xff])<<8 | uint32(box[s[1]&0xff])) ^ key[40]
}

// Configurations that the program does not read are refused.
func TestQUICConfigsThatTheProgramDoesNotRead(t *testing.T) {
	for _, c := range []quiclb.Config{
		{Server: 2, Nonce: 4},
		{Server: 4, Nonce: 8, Key: make([]byte, 16)},
		{Rotation: 7, Server: 4, Nonce: 4},
	} {
		spec, err := loadEdge()
		if err != nil {
			t.Fatal(err)
		}
		if err := setQUIC(spec, []quiclb.Config{c}); err == nil {
			t.Errorf("%+v: no error", c)
		}
	}
}
