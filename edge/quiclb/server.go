package quiclb

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"meridian/fleet"
)

// ServerLen is the length of the server ids of a fleet's gateways, octets.
const ServerLen = 4

// ForFleet is how a fleet's gateways write connection ids, under a key that
// follows from the fleet's: server id and nonce fill one block of AES, so that
// a balancer has one to decrypt for a packet.
func ForFleet(key [16]byte) Config {
	return Config{Server: ServerLen, Nonce: oneBlock - ServerLen, Key: key[:]}
}

// ServerID is what stands for a node in connection ids: its quic_server_id, or
// what its name gives, the same on every node and for ever.
func ServerID(n *fleet.Node) [ServerLen]byte {
	var id [ServerLen]byte
	if n.QUICServerID != 0 {
		binary.BigEndian.PutUint32(id[:], n.QUICServerID)
		return id
	}
	sum := sha256.Sum256([]byte("quic_server_id/" + n.Name))
	copy(id[:], sum[:])
	return id
}

// Check is the rule that each gateway of a fleet has a server id of its own.
func Check(spec *fleet.Spec, errs *fleet.Errors) {
	owner := map[[ServerLen]byte]string{}
	for i := range spec.Nodes {
		n := &spec.Nodes[i]
		at := fmt.Sprintf("nodes[%d].quic_server_id", i)
		if !n.Has(fleet.RoleL7) {
			if n.QUICServerID != 0 {
				errs.Addf(at, "is for nodes with role l7, which write connection ids")
			}
			continue
		}
		id := ServerID(n)
		if had, ok := owner[id]; ok {
			errs.Addf(at, "%d is node %q's too; give one of them another", binary.BigEndian.Uint32(id[:]), had)
			continue
		}
		owner[id] = n.Name
	}
}
