package daemon

import (
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"

	"meridian/cli"
	"meridian/fleet"
	"meridian/identity"
	"meridian/node"
)

// Flags are what both programs take to run as a node.
type Flags struct {
	Node      string
	Data      string
	Spec      string
	Control   cli.List
	FleetKey  string
	Gossip    string
	Join      cli.List
	Roles     cli.List
	LogLevel  string
	LogFormat string
}

// Register adds the flags to fs; roles are the program's default ones.
func (f *Flags) Register(fs *flag.FlagSet, data, roles string) {
	fs.StringVar(&f.Node, "node", "", "this node's `NAME` in the Spec (default the host's name)")
	fs.StringVar(&f.Data, "data", data, "`DIR` for keys, the store and the last good configuration")
	fs.StringVar(&f.Spec, "spec", "", "run from this `FILE` alone, with no control plane; reloaded on change")
	fs.Var(&f.Control, "control", "`ADDR:PORT,...` of control planes to take the configuration from")
	fs.StringVar(&f.FleetKey, "fleet-key", "", "`FILE` with the fleet's key, the same on all nodes (default DIR/fleet.key; a node alone makes it if absent)")
	fs.StringVar(&f.Gossip, "gossip", ":7946", "`ADDR:PORT` to exchange health on, UDP and TCP; \"off\" for a node alone")
	fs.Var(&f.Join, "join", "`ADDR:PORT,...` of nodes to find the others by, besides those of the Spec")
	_ = f.Roles.Set(roles)
	fs.Func("roles", fmt.Sprintf("`ROLE,...` that this program may take on, of those that the Spec gives the node (default %s)", roles), func(s string) error {
		f.Roles = nil
		return f.Roles.Set(s)
	})
	fs.StringVar(&f.LogLevel, "log-level", "info", "debug, info, warn or error")
	fs.StringVar(&f.LogFormat, "log-format", "text", "text or json")
}

// Check completes the flags and says what is wrong with them.
func (f *Flags) Check() error {
	if f.Node == "" {
		host, err := os.Hostname()
		if err != nil {
			return fmt.Errorf("--node: expected this node's name in the Spec: %w", err)
		}
		f.Node = host
	}
	if (f.Spec == "") == (len(f.Control) == 0) {
		return errors.New("expected either --spec FILE or --control ADDR:PORT")
	}
	allowed := fleet.Role("").Values()
	for _, r := range f.Roles {
		if !contains(allowed, r) {
			return fmt.Errorf("--roles: %q is not one of %v", r, allowed)
		}
	}
	return nil
}

func contains(list []string, s string) bool {
	for _, v := range list {
		if v == s {
			return true
		}
	}
	return false
}

// Role says whether the program may take on the role.
func (f *Flags) Role(r fleet.Role) bool { return contains(f.Roles, string(r)) }

// gossipBind gives where to gossip; ok is false where the node is alone.
func (f *Flags) gossipBind() (bind netip.AddrPort, ok bool, err error) {
	if f.Gossip == "off" {
		return netip.AddrPort{}, false, nil
	}
	bind, err = fleet.ParseListen(f.Gossip)
	if err != nil {
		return bind, false, fmt.Errorf("--gossip: %w", err)
	}
	return bind, true, nil
}

// LoadIdentity reads the fleet key. Where no file was named it is the one in
// the data directory; a node alone makes it if need be, one that is to join
// others has to be given theirs.
func (f *Flags) LoadIdentity(alone bool) (*identity.Identity, error) {
	load, path := node.LoadKey, f.FleetKey
	if path == "" {
		path = filepath.Join(f.Data, "fleet.key")
		if alone {
			load = node.LoadOrCreateKey
		}
	}
	key, err := load(path)
	if err != nil && f.FleetKey == "" {
		return nil, fmt.Errorf("%w; copy the fleet's key there or name its file with --fleet-key", err)
	}
	if err != nil {
		return nil, err
	}
	return identity.New(key)
}
