package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"

	"meridian/cli"
	"meridian/fleet"
)

// step is one command of a host's set-up.
type step struct {
	Why string   `json:"why"`
	Run []string `json:"run"`
}

// host is what an endpoint of a tcp or udp service has to be told, where edge
// does not run on it.
type host struct {
	vips       []netip.Prefix // addresses, and networks
	own        []netip.Addr   // outer destinations of the tunnel
	forwarding fleet.Forwarding
}

func hostsetup(_ context.Context, args []string) error {
	fs := cli.Flags("edge hostsetup --vip ADDR[,ADDR...] [flags]",
		"edge hostsetup --vip 192.0.2.10,2001:db8::10 --own 10.0.0.7,fd00::7 | sh -e")
	var vips, own cli.List
	var h host
	fs.Var(&vips, "vip", "`ADDR`, or a network of VIPs, that the host is to serve; may be repeated")
	fs.Var(&own, "own", "`ADDR` of the host itself, as its endpoint in the Spec has it: where the tunnel ends; may be repeated, one by family")
	forwarding := fs.String("forwarding", "ipip", "the service's `forwarding`: ipip, gue or l2_dsr")
	undo := fs.Bool("undo", false, "print the commands that take it all back")
	asJSON := fs.Bool("json", false, "print JSON")
	rest, err := cli.Parse(fs, args)
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		return cli.Usagef(fs, "edge hostsetup: unexpected argument %q", rest[0])
	}
	h.forwarding = fleet.Forwarding(*forwarding)
	if err := h.parse(vips, own); err != nil {
		return cli.Usagef(fs, "edge hostsetup: %v", err)
	}
	steps := h.steps()
	if *undo {
		steps = h.undo()
	}
	if *asJSON {
		enc := json.NewEncoder(os.Stdout)
		enc.SetIndent("", "  ")
		return enc.Encode(map[string][]step{"commands": steps})
	}
	return script(os.Stdout, steps)
}

// parse checks what the flags say.
func (h *host) parse(vips, own []string) error {
	if ways := []string{"ipip", "gue", "l2_dsr"}; !slices.Contains(ways, string(h.forwarding)) {
		return fmt.Errorf("--forwarding %s: expected %s", h.forwarding, strings.Join(ways, ", "))
	}
	if len(vips) == 0 {
		return fmt.Errorf("expected --vip")
	}
	for _, s := range vips {
		p, err := netip.ParsePrefix(s)
		if a, aerr := netip.ParseAddr(s); aerr == nil {
			p, err = netip.PrefixFrom(a, a.BitLen()), nil
		}
		if err != nil || p != p.Masked() || p.Addr().Zone() != "" || p.Addr().Is4In6() {
			return fmt.Errorf("--vip %s: expected an address, or a network as 192.0.2.0/28", s)
		}
		h.vips = append(h.vips, p)
	}
	for _, s := range own {
		a, err := netip.ParseAddr(s)
		if err != nil || a.Zone() != "" || a.Is4In6() {
			return fmt.Errorf("--own %s: expected an address", s)
		}
		if slices.ContainsFunc(h.own, func(o netip.Addr) bool { return o.Is4() == a.Is4() }) {
			return fmt.Errorf("--own %s: expected one address by family", s)
		}
		h.own = append(h.own, a)
	}
	if h.tunnelled() && len(h.own) == 0 {
		return fmt.Errorf("forwarding %s ends in a tunnel at the host: expected --own", h.forwarding)
	}
	return nil
}

func (h *host) tunnelled() bool { return h.forwarding != fleet.L2DSR }

// steps gives the commands in the order in which no packet meets half of them:
// a host that has the VIPs must not claim them on its links.
func (h *host) steps() []step {
	out := h.quiet()
	if h.tunnelled() {
		for _, a := range h.own {
			out = append(out, h.tunnel(a)...)
		}
	}
	for _, p := range h.vips {
		out = append(out, put(p))
	}
	return out
}

// undo takes the VIPs and the tunnel away. The settings of ARP stay, for
// they may have been there before.
func (h *host) undo() []step {
	var out []step
	for _, p := range h.vips {
		s := step{"take the VIP off", []string{"ip", "address", "del", p.String(), "dev", "lo"}}
		if !p.IsSingleIP() {
			s.Run = []string{"ip", family(p.Addr()), "route", "del", "local", p.String(), "dev", "lo"}
		}
		out = append(out, s)
	}
	if !h.tunnelled() {
		return out
	}
	for _, a := range h.own {
		for _, d := range tunnels(a) {
			out = append(out, step{"take the tunnel down", []string{"ip", "link", "del", d.name}})
		}
		if h.forwarding == fleet.GUE {
			out = append(out, step{"listen for the tunnel's datagrams no more", fou("del", a)})
		}
	}
	return out
}

// put gives a VIP to the host. An IPv6 one is deprecated, so that the host does
// not use it as its own address.
func put(p netip.Prefix) step {
	switch {
	case !p.IsSingleIP():
		return step{"take packets for the whole network", []string{"ip", family(p.Addr()), "route", "replace", "local", p.String(), "dev", "lo"}}
	case p.Addr().Is4():
		return step{"take packets for the VIP", []string{"ip", "address", "replace", p.String(), "dev", "lo"}}
	}
	return step{"take packets for the VIP", []string{"ip", "address", "replace", p.String(), "dev", "lo", "nodad", "preferred_lft", "0"}}
}

// quiet has the host answer ARP on each link for the link's own addresses alone, as
// xdp.Addresses does. IPv6 needs nothing of the kind: neighbours are told of the
// link's own addresses only.
func (h *host) quiet() []step {
	if !slices.ContainsFunc(h.vips, func(p netip.Prefix) bool { return p.Addr().Is4() }) {
		return nil
	}
	return []step{
		{"answer ARP on each link for its own addresses alone", sysctl("all", "arp_ignore", "1")},
		{"ask by ARP in the link's own name", sysctl("all", "arp_announce", "2")},
	}
}

// tunnelDevice is one that unpacks what comes to an own address.
type tunnelDevice struct {
	name, kind, module string
	more               []string
	v4                 bool // packets inside are IPv4, which rp_filter looks at
}

// tunnels gives those for IPv4 and IPv6 inside an own address's family.
func tunnels(own netip.Addr) []tunnelDevice {
	if own.Is4() {
		return []tunnelDevice{
			{"meridian4in4", "ipip", "ipip", []string{"remote", "any"}, true},
			{"meridian6in4", "sit", "sit", []string{"remote", "any"}, false},
		}
	}
	return []tunnelDevice{{"meridianin6", "ip6tnl", "ip6_tunnel", []string{"remote", "any", "mode", "any", "encaplimit", "none"}, true}}
}

func (h *host) tunnel(own netip.Addr) []step {
	var out []step
	if h.forwarding == fleet.GUE {
		module := "fou"
		if own.Is6() {
			module = "fou6"
		}
		out = append(out, step{"UDP round the tunnel", []string{"modprobe", module}},
			step{"listen for the tunnel's datagrams", fou("add", own)})
	}
	for _, d := range tunnels(own) {
		out = append(out,
			step{"the tunnel's driver", []string{"modprobe", d.module}},
			step{"end the tunnel here", append([]string{"ip", "link", "add", d.name, "type", d.kind, "local", own.String()}, d.more...)},
			step{"end the tunnel here", []string{"ip", "link", "set", d.name, "up"}})
		if d.v4 {
			// The greater of this and conf.all holds: loose.
			out = append(out, step{"take packets whose sender is reached by another device", sysctl(d.name, "rp_filter", "2")})
		}
	}
	return out
}

// fou is the command for the receiver of GUE (variants 0 and 1 alike).
func fou(what string, own netip.Addr) []string {
	out := []string{"ip", "fou", what, "port", "6080"}
	if what == "add" {
		out = append(out, "gue")
	}
	if own.Is6() {
		out = append(out, "-6")
	}
	return out
}

func sysctl(device, key, value string) []string {
	return []string{"sysctl", "-w", fmt.Sprintf("net/ipv4/conf/%s/%s=%s", device, key, value)}
}

func family(a netip.Addr) string {
	if a.Is4() {
		return "-4"
	}
	return "-6"
}

// script prints the commands for a shell.
func script(w io.Writer, steps []step) error {
	why := ""
	for _, s := range steps {
		if s.Why != why {
			why = s.Why
			if _, err := fmt.Fprintf(w, "# %s\n", why); err != nil {
				return err
			}
		}
		if _, err := fmt.Fprintln(w, strings.Join(s.Run, " ")); err != nil {
			return err
		}
	}
	return nil
}
