package xdp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"

	"meridian/edge/quiclb"
	"meridian/fleet"
	"meridian/geo"
)

// Mode is how the program is attached.
type Mode string

// The modes. Auto tries native and falls back to generic.
const (
	Auto    Mode = "auto"
	Native  Mode = "native"  // in the driver, before the kernel's own packet
	Generic Mode = "generic" // on any device, slower
)

// Roles are the node's roles as far as layer 4 is concerned.
type Roles struct {
	L4 bool // balance
	L7 bool // unpack what balancers send to this gateway
}

// Health takes observations in and gives the local verdict on their target.
type Health interface {
	Observe(fleet.Observation) fleet.Verdict
}

// Config is what Layer4 works with.
type Config struct {
	Node   string // this node's name in the Spec
	Roles  Roles  // at least one
	Device string // empty: the one that holds the node's own address
	Mode   Mode   // empty: Auto
	Key    Key    // of the flow hash; one for the region
	Flows  int    // flows to remember, 53 octets each, 4 to MaxFlows; 0: 1,048,576

	// Pins is a folder on a BPF file system where tables and program outlive the
	// process, for the next to take up (see Detach); empty: they go with Run.
	Pins string

	// QUIC are the ways in which the fleet's gateways write connection ids: the
	// newest and, for as long as connections of theirs last, earlier ones under
	// other rotation numbers. None: QUIC goes by its addresses and ports.
	QUIC []quiclb.Config
	// CookieKey gives the key of SYN cookies of a generation of the Spec's
	// (defence.syn_cookies.key_generation, one less and one more) and an epoch of
	// length CookieEpoch, counted from 1970; one for the region. nil: balancers make
	// no cookies.
	CookieKey func(generation int, epoch int64) Key

	// NoSecondChance has a gateway keep what is not its own, for the kernel to
	// reset: to compare, or where all gateways share their connections.
	NoSecondChance bool

	// Geo gives the database by which countries and AS numbers are told, when
	// the Spec first lists any; nil: such a Spec is refused.
	Geo func() (geo.Source, error)

	Health Health       // with L4
	Log    *slog.Logger // nil: none

	// Dial reaches a VIP on this very node, to check its own gateway, and the
	// endpoints that are checked at a port of their own address. nil: the
	// standard library's.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// MaxFlows is how many flows a node can be told to remember.
const MaxFlows = 1 << 26

func (c *Config) complete() error {
	if c.Node == "" {
		return errors.New("layer 4: expected the node's name")
	}
	if !c.Roles.L4 && !c.Roles.L7 {
		return errors.New("layer 4: node has neither role l4 nor role l7")
	}
	if c.Roles.L4 && c.Health == nil {
		return errors.New("layer 4: role l4 needs Health")
	}
	switch c.Mode {
	case "":
		c.Mode = Auto
	case Auto, Native, Generic:
	default:
		return fmt.Errorf("layer 4: mode %q: expected auto, native or generic", c.Mode)
	}
	if c.Flows == 0 {
		c.Flows = defaultFlows
	}
	if c.Flows < 4 || c.Flows > MaxFlows {
		return fmt.Errorf("layer 4: %d flows: expected 4 to %d", c.Flows, MaxFlows)
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Dial == nil {
		c.Dial = new(net.Dialer).DialContext
	}
	return nil
}
