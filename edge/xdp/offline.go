package xdp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/cilium/ebpf"

	"meridian/edge/quiclb"
	"meridian/fleet"
	"meridian/geo"
)

// Offline is layer 4 of a node without its device: packets run through the
// program that would be there, one by one, and what it keeps of them it keeps.
// Nothing is sent. It is not safe for concurrent use.
type Offline struct {
	kernel *kernel
	want   *desired
	ways   []netip.Addr // endpoints' addresses; the next hop's MAC address names one by its place here
	counts map[string]uint64
}

// OfflineConfig is what Offline works with.
type OfflineConfig struct {
	World *fleet.World
	Node  string // its name in the Spec
	Roles Roles
	Key   Key                        // of the flow hash; another than the region's gives other slots
	QUIC  []quiclb.Config            // how connection ids are read; none: QUIC goes by its addresses and ports
	Geo   func() (geo.Source, error) // for the Spec's defence; nil: there is none
	// CookieKey gives the key of SYN cookies in a generation and an epoch, as
	// Config's; nil: there are none, and no SYN is answered.
	CookieKey func(generation int, epoch int64) Key
	Flows     int      // flows to remember; 0: as Config's
	MTU       int      // of the way to every endpoint, octets; 0: 1500
	Down      []string // names of gateways and addresses of endpoints that are down; all others may live
}

// Outcome is what became of a packet.
type Outcome struct {
	Verdict  string   `json:"verdict,omitempty"`  // pass, tx, redirect, drop, aborted
	Reason   string   `json:"reason,omitempty"`   // as the metrics have it
	Counted  []string `json:"counted,omitempty"`  // beside the reason: how the endpoint was found, what the gateway made of it
	Endpoint string   `json:"endpoint,omitempty"` // where it went: a gateway's name or an endpoint's address
	Out      []byte   `json:"-"`                  // the frame as it left the program
}

// Leaves says whether the packet is sent.
func (o *Outcome) Leaves() bool { return o.Verdict == "tx" || o.Verdict == "redirect" }

// NewOffline loads the program and fills its tables. Errors: those of
// Layer4.Apply but for addresses; the right or the feature of the kernel that
// is missing.
func NewOffline(cfg OfflineConfig) (*Offline, error) {
	want, err := plan(cfg.World, cfg.Node, cfg.Roles)
	if err != nil {
		return nil, err
	}
	if cfg.Flows == 0 {
		cfg.Flows = defaultFlows
	}
	if cfg.MTU == 0 {
		cfg.MTU = 1500
	}
	if cfg.MTU < 68 || cfg.MTU > 65535 {
		return nil, fmt.Errorf("layer 4: MTU %d: expected 68 to 65535", cfg.MTU)
	}
	o := &Offline{want: want, ways: want.destinations()}
	if o.kernel, err = load(cfg.Key, cfg.Flows, "", cfg.QUIC...); err != nil {
		return nil, err
	}
	if err := o.fill(cfg); err != nil {
		return nil, errors.Join(err, o.kernel.Close())
	}
	return o, nil
}

// Close gives the program and its tables back.
func (o *Offline) Close() error { return o.kernel.Close() }

func (o *Offline) fill(cfg OfflineConfig) error {
	index := map[netip.Addr]uint32{}
	for i, a := range o.ways {
		index[a] = uint32(i)
	}
	shield := newShield(cfg.Geo, func() {})
	err := shield.apply(cfg.World.Snapshot.Spec.Defence, o.want.ours())
	if err != nil {
		return fmt.Errorf("layer 4: %w", err)
	}
	err = newReconciler(o.kernel, cfg.Key).reconcile(inputs{
		want: o.want, guard: shield.guard.Load(),
		state: func(t fleet.Target) fleet.State {
			if slices.Contains(cfg.Down, t.Node) && t.Node != "" || slices.Contains(cfg.Down, t.Endpoint) && t.Endpoint != "" {
				return fleet.Down
			}
			return fleet.Unknown
		},
		hop: func(a netip.Addr) hop {
			return hop{mac: wayMAC(index[a]), known: true, onLink: true, mtu: uint16(cfg.MTU)}
		},
		now: time.Now(),
	})
	if err != nil {
		return fmt.Errorf("layer 4: %w", err)
	}
	if err := o.bake(cfg.CookieKey); err != nil {
		return fmt.Errorf("layer 4: %w", err)
	}
	if o.counts, err = o.kernel.counters(); err != nil {
		return fmt.Errorf("layer 4: %w", err)
	}
	return nil
}

// bake puts the keys of SYN cookies of now in place, for good.
func (o *Offline) bake(key func(generation int, epoch int64) Key) error {
	if key == nil || !o.want.clustered() {
		return nil
	}
	k := cookieKeysAt(time.Now(), monotonic(), o.want.cookies.KeyGeneration, key)
	k.Until = math.MaxUint64
	if err := o.kernel.Cookies.Put(uint32(0), &k); err != nil {
		return fmt.Errorf("write the keys of SYN cookies: %w", err)
	}
	return nil
}

// wayMAC makes the MAC address, a locally administered one, of the next hop to
// the endpoint at a place in Offline.ways.
func wayMAC(i uint32) [6]byte {
	mac := [6]byte{2, 'M'}
	binary.BigEndian.PutUint32(mac[2:], i)
	return mac
}

// Sizes of frames that the kernel runs offline, octets.
const (
	minOffline = 14
	maxOffline = 3500 // a page, less what stands before and behind
)

// ErrNotRun is given for a frame of a size that the kernel does not run offline.
var ErrNotRun = fmt.Errorf("the kernel runs frames of %d to %d octets", minOffline, maxOffline)

// Run runs a frame, from its Ethernet header on. Errors: ErrNotRun, or that the
// kernel failed.
func (o *Offline) Run(frame []byte) (Outcome, error) {
	if len(frame) < minOffline || len(frame) > maxOffline {
		return Outcome{}, fmt.Errorf("%d octets: %w", len(frame), ErrNotRun)
	}
	opts := ebpf.RunOptions{Data: frame, DataOut: make([]byte, 4096)}
	code, err := o.kernel.edgeObjects.Edge.Run(&opts)
	if err != nil {
		return Outcome{}, fmt.Errorf("run the program: %w", err)
	}
	counts, err := o.kernel.counters()
	if err != nil {
		return Outcome{}, err
	}
	out := Outcome{Verdict: verdictName(code), Out: opts.DataOut}
	for _, name := range o.kernel.reasons {
		for range counts[name] - o.counts[name] {
			out.add(name)
		}
	}
	o.counts = counts
	out.Endpoint = o.endpoint(&out, frame)
	return out, nil
}

func verdictName(code uint32) string {
	names := []string{"aborted", "drop", "pass", "tx", "redirect"} // enum xdp_action
	if int(code) < len(names) {
		return names[code]
	}
	return fmt.Sprint(code)
}

// add takes in what was counted: the verdict's reason, or something beside it.
func (o *Outcome) add(name string) {
	word, rest, _ := strings.Cut(name, "_")
	switch word {
	case "pass", "tx", "drop":
		o.Reason = rest
	default:
		o.Counted = append(o.Counted, name)
	}
}

// endpoint names whom the packet went to.
func (o *Offline) endpoint(out *Outcome, in []byte) string {
	switch {
	case out.Verdict == "pass" && out.Reason == "local":
		for _, own := range o.want.own() {
			if name := o.want.memberAt(own, in); name != "" {
				return name
			}
		}
	case out.Leaves() && len(out.Out) >= minOffline && out.Out[0] == 2 && out.Out[1] == 'M':
		if i := binary.BigEndian.Uint32(out.Out[2:]); int(i) < len(o.ways) {
			return o.want.memberAt(o.ways[i], in)
		}
	}
	return ""
}

// memberAt gives the name of the member at an address that has packets like this
// one: several may share an address, a gateway and endpoints by port.
func (d *desired) memberAt(a netip.Addr, in []byte) string {
	_, _, dport := Summary(in)
	gateway, name := "", ""
	for _, g := range d.groups {
		for _, m := range g.members {
			if m.key.addr != a {
				continue
			}
			if at, err := netip.ParseAddrPort(m.name); g.gateways {
				gateway = m.name
			} else if err == nil && (name == "" || at.Port() == dport) {
				if at.Port() == dport {
					return m.name
				}
				name = m.name
			}
		}
	}
	if gateway != "" {
		return gateway
	}
	return name
}

// Summary names the flow of a frame for people, as "tcp 203.0.113.5:4711 >
// 192.0.2.10:443", with its protocol's number and destination port; those are 0
// where the packet shows none. It looks at the IP header alone, and at ports
// right behind it.
func Summary(frame []byte) (text string, proto uint8, dport uint16) {
	ip, kind := behindTags(frame)
	var src, dst netip.Addr
	var rest []byte
	switch {
	case kind == 0x0800 && len(ip) >= 20 && int(ip[0]&15)*4 <= len(ip):
		src, dst, proto, rest = netip.AddrFrom4([4]byte(ip[12:16])), netip.AddrFrom4([4]byte(ip[16:20])), ip[9], ip[int(ip[0]&15)*4:]
		if binary.BigEndian.Uint16(ip[6:])&0x1fff != 0 {
			rest = nil
		}
	case kind == 0x86dd && len(ip) >= 40:
		src, dst, proto, rest = netip.AddrFrom16([16]byte(ip[8:24])), netip.AddrFrom16([16]byte(ip[24:40])), ip[6], ip[40:]
	default:
		return fmt.Sprintf("ethertype %#04x", kind), 0, 0
	}
	name := protocolName(proto)
	if (proto == protoTCP || proto == protoUDP) && len(rest) >= 4 {
		dport = binary.BigEndian.Uint16(rest[2:])
		return fmt.Sprintf("%s %s > %s", name, netip.AddrPortFrom(src, binary.BigEndian.Uint16(rest)), netip.AddrPortFrom(dst, dport)), proto, dport
	}
	return fmt.Sprintf("%s %s > %s", name, src, dst), proto, 0
}

// behindTags gives what follows the link header and up to two VLAN tags, and its
// ethertype.
func behindTags(frame []byte) ([]byte, uint16) {
	at := 12
	for range 3 {
		if len(frame) < at+2 {
			return nil, 0
		}
		kind := binary.BigEndian.Uint16(frame[at:])
		if kind != 0x8100 && kind != 0x88a8 {
			return frame[at+2:], kind
		}
		at += 4
	}
	return nil, 0
}

func protocolName(proto uint8) string {
	switch proto {
	case 1:
		return "icmp"
	case 4:
		return "ipip"
	case protoTCP:
		return "tcp"
	case protoUDP:
		return "udp"
	case 41:
		return "ip6ip"
	case 44:
		return "fragment"
	case 58:
		return "icmp6"
	}
	return fmt.Sprintf("protocol %d", proto)
}
