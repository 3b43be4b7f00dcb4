package main

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"meridian/edge/xdp"
)

func TestMembersTable(t *testing.T) {
	n, now := 7, time.Unix(1_000_000, 0)
	list := []xdp.Member{
		{Ring: "gateways/ipip/v4", Name: "gw1", Address: netip.MustParseAddr("10.0.0.2"), State: xdp.MemberActive, Since: now.Add(-90 * time.Second), Weight: 100, Connections: &n},
		{Ring: "echo/7/v4", Name: "10.0.0.3:7", Address: netip.MustParseAddr("10.0.0.3"), State: xdp.MemberDraining, Since: now.Add(-time.Hour), Flows: &n},
	}
	var b bytes.Buffer
	const want = `RING              MEMBER      ADDRESS   STATE     FOR     WEIGHT  FLOWS  CONNECTIONS
gateways/ipip/v4  gw1         10.0.0.2  active    1m30s   100     -      7
echo/7/v4         10.0.0.3:7  10.0.0.3  draining  1h0m0s  0       7      -
`
	if err := showMembers(&b, list, now); err != nil || b.String() != want {
		t.Errorf("%v, got\n%s\nexpected\n%s", err, b.String(), want)
	}
}
