package api

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"meridian/controlplane/store"
	"meridian/fleet"
	"meridian/identity"
)

// A gateway that a revision adds has, with the first World that it gets, which
// gateways there were before.
func TestANewGatewayIsToldOfEarlierOnes(t *testing.T) {
	key, _ := identity.NewKey(rand.Reader)
	id, err := identity.New(key)
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{t: t, name: "fra-1", dir: t.TempDir(), id: id, etcd: freeAddress(t, "127.0.0.1"), xds: freeAddress(t, "127.0.0.1"),
		peers: []store.Member{{Name: "fra-1", Address: freeAddress(t, "127.0.0.24")}}}
	m.startStore()
	m.start()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	with := func(gateways ...string) []byte {
		doc := spec
		for i, g := range gateways {
			doc = strings.Replace(doc, "nodes:\n", fmt.Sprintf("nodes:\n  - {name: %s, region: nrt, roles: [l7], addresses: {v4: 10.9.0.%d}}\n", g, i+1), 1)
		}
		return []byte(doc)
	}
	submit := func(doc []byte) (revision uint64) {
		until(t, "a revision", func() bool {
			res, err := m.api.Submit(ctx, doc, []fleet.Object{zoneObject()}, nil, false)
			if err == nil {
				revision = res.Revision
			} else if Refused(err) == nil {
				t.Fatal(err)
			}
			return err == nil
		})
		return revision
	}
	submit(with("gw1", "gw2"))
	old := join(t, id, "gw1", t.TempDir(), m.xds)
	rev := submit(with("gw1", "gw2", "gw3"))
	fresh := join(t, id, "gw3", t.TempDir(), m.xds)
	elsewhere := join(t, id, "fra-1", t.TempDir(), m.xds)
	for _, n := range []*member{fresh, old, elsewhere} {
		until(t, "the revision at a node", func() bool { return n.agent.Status().Revision == rev })
	}
	told := func(n *member) string {
		o, _ := n.agent.World().Live.Get(fleet.LiveID(fleet.LiveGateways, "nrt"))
		var e fleet.EarlierGateways
		if err := json.Unmarshal(o.Data, &e); err != nil || len(e.Sets) != 1 {
			return string(o.Data)
		}
		return fmt.Sprint(e.Sets[0].Gateways)
	}
	const want = "[{gw1 100} {gw2 100}]"
	if got := told(fresh); got != want {
		t.Errorf("the new gateway is told of %s, expected %s", got, want)
	}
	until(t, "it at the one that was there", func() bool { return told(old) == want })
	if got := told(elsewhere); got != "" {
		t.Errorf("a nameserver of another region is told of %s", got)
	}
}
