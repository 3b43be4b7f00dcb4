package xdp

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"meridian/fleet"
)

// CookieEpoch is how long SYN cookies are made under one key; they are good for
// one to two times as long.
const CookieEpoch = 64 * time.Second

// cookieSkew is how much the clocks of two nodes may differ: so long before an
// epoch begins its cookies are taken, and in place of those of the epoch before
// the current one.
const cookieSkew = 8 * time.Second

// cookieKeysAt gives the keys of a moment; mono is the monotonic clock's time of
// it, and key gives the key of a generation and an epoch, counted from 1970.
// Without a process that renews them they are good for as long as others are sure
// to take them. Nodes get a Spec at different times, so cookies of the generations
// next to this one are taken too.
func cookieKeysAt(now time.Time, mono time.Duration, generation int, key func(generation int, epoch int64) Key) edgeCookieKeys {
	epoch := now.UnixNano() / int64(CookieEpoch)
	left := CookieEpoch - time.Duration(now.UnixNano()%int64(CookieEpoch))
	other := epoch - 1
	if left <= cookieSkew {
		other = epoch + 1
	}
	k := edgeCookieKeys{Current: cookieKeyID(generation, epoch), Until: uint64(mono + left + cookieSkew)}
	for g := generation - 1; g <= generation+1; g++ {
		for _, e := range []int64{epoch, other} {
			k.Key[cookieKeyID(g, e)].Word = key(g, e).words()
		}
	}
	return k
}

// cookieKeyID is what cookies call a key: those of two epochs and three
// generations that follow on each other have different ids. A generation is -1 or
// more.
func cookieKeyID(generation int, epoch int64) uint32 {
	return uint32((generation+3)%3)<<1 | uint32(epoch&1)
}

// monotonic is the clock that programs go by.
func monotonic() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		panic("layer 4: the monotonic clock is not to be had: " + err.Error())
	}
	return time.Duration(t.Nano())
}

// gateMode gives what meets SYNs for gateways at this node.
func (d *desired) gateMode() edgeGateMode {
	switch {
	case d.cookies.Mode == fleet.CookiesAuto && d.balances:
		return edgeGateModeGATE_AUTO
	case d.cookies.Mode == fleet.CookiesAlways && d.balances:
		return edgeGateModeGATE_SHUT
	case d.cookies.Mode == fleet.CookiesKernel && d.unpacks:
		return edgeGateModeGATE_KERNEL
	}
	return edgeGateModeGATE_NONE
}

// gateAt gives what meets those for one VIP.
func (d *desired) gateAt(f frontend) uint8 {
	if f.proto != protoTCP || !d.groups[f.group].gateways {
		return uint8(edgeGateModeGATE_NONE) // endpoints take no cookies of ours
	}
	return uint8(d.gateMode())
}

// untaken lists the gateways that may live and have not said that they take
// cookies.
func (in inputs) untaken() (names []string) {
	for _, g := range in.want.groups {
		for _, m := range g.members {
			if g.gateways && m.key.how != edgeForwardFORWARD_NONE && in.state(m.key.target) != fleet.Down &&
				!in.takes(m.key.target) && !slices.Contains(names, m.name) {
				names = append(names, m.name)
			}
		}
	}
	return names
}

// clustered says whether balancers answer with cookies that gateways take.
func (d *desired) clustered() bool {
	return d.cookies.Mode == fleet.CookiesAuto || d.cookies.Mode == fleet.CookiesAlways
}

// perWindow turns a rate into a number for one of the windows in which the
// programs count, 2^28 ns; at least 1.
func perWindow(perSecond int) uint32 {
	return uint32(max(1, (int64(perSecond)<<28)/int64(time.Second)))
}

// cookies keeps a session's SYN cookies: their keys, and the program with which a
// gateway takes them.
type cookies struct {
	kernel *kernel
	nl     *netlink.Handle
	device int
	key    func(generation int, epoch int64) Key // nil: there are none
	log    *slog.Logger

	takes  bool     // this gateway takes them
	others []string // the gateways that do not

	keys    edgeCookieKeys // in the tables
	keysOf  int            // the generation in which cookies were last asked for
	until   time.Time      // so long cookies may come back, should the Spec ask for none any more
	program string         // asked for last; empty: none
	tried   time.Time      // then
	at      io.Closer      // where it is; nil: nowhere
	failed  error          // why it is not there
	said    string         // what was last complained of
}

// attachAgain is after how long a program that could not be attached is tried again.
const attachAgain = 10 * time.Second

// late says whether a gateway takes cookies although the Spec asks for none any
// more: those that were made before, and by balancers that do not know it yet.
func (c *cookies) late(d *desired) bool {
	return d.unpacks && d.cookies.Mode == fleet.CookiesOff && time.Now().Before(c.until)
}

// follow brings all in line. Errors of the tables are to be tried again; what
// this machine cannot do is said once.
func (c *cookies) follow(d *desired) error {
	if d.clustered() {
		c.until, c.keysOf = time.Now().Add(2*CookieEpoch), d.cookies.KeyGeneration
	}
	err := c.roll(d)
	why := errors.Join(c.place(d), c.setting(d))
	c.takes = d.unpacks && d.clustered() && why == nil
	if d.balances && d.clustered() && len(c.others) > 0 {
		why = errors.Join(why, fmt.Errorf("none are made, since these gateways take none: %s", strings.Join(c.others, ", ")))
	}
	text := ""
	if why != nil {
		text = why.Error()
	}
	if text != c.said && why != nil {
		c.log.Warn("SYN cookies do not work on this node", "reason", why)
	}
	c.said = text
	return err
}

// works says whether the node can do its part of what the Spec asks.
func (c *cookies) works() bool { return c.said == "" }

// roll puts the keys of now in place. A key is written only where none is in use,
// so a packet that reads while it is written misses nothing.
func (c *cookies) roll(d *desired) error {
	if !d.clustered() && !c.late(d) || c.key == nil {
		return nil
	}
	k := cookieKeysAt(time.Now(), monotonic(), c.keysOf, c.key)
	// Until is by the wall clock, which may have been set, and else comes out alike.
	if k.Key == c.keys.Key && k.Current == c.keys.Current && max(k.Until, c.keys.Until)-min(k.Until, c.keys.Until) < uint64(time.Second) {
		return nil
	}
	if err := c.kernel.Cookies.Put(uint32(0), &k); err != nil {
		return fmt.Errorf("write the keys of SYN cookies: %w", err)
	}
	c.keys = k
	return nil
}

// The gateway's programs in bpf/accept.bpf.c.
const (
	acceptProgram = "accept"
	replyProgram  = "reply"
)

// place has the right program at the device, if one is wanted.
func (c *cookies) place(d *desired) error {
	want := ""
	switch {
	case !d.unpacks:
	case d.clustered(), c.late(d) && c.key != nil:
		want = acceptProgram
	case d.cookies.Mode == fleet.CookiesKernel:
		want = replyProgram
	}
	if d.clustered() && c.key == nil {
		return errors.New("there are no keys for them")
	}
	if again := c.failed != nil && c.at == nil && time.Since(c.tried) >= attachAgain; want == c.program && !again {
		return c.failed
	}
	old := c.at
	c.program, c.at, c.failed, c.tried = want, nil, nil, time.Now()
	if want != "" {
		c.at, c.failed = c.attach(want)
	}
	if old != nil {
		c.failed = errors.Join(c.failed, old.Close())
	}
	return c.failed
}

func (c *cookies) attach(name string) (io.Closer, error) {
	prog, err := c.kernel.gatewayProgram(name)
	if err != nil {
		return nil, err
	}
	defer prog.Close() // its place at the device holds it
	return attachTC(prog, c.nl, c.device)
}

// setting says what the kernel's setting is in the way of.
func (c *cookies) setting(d *desired) error {
	if !d.unpacks || d.cookies.Mode == fleet.CookiesOff {
		return nil
	}
	const path = "/proc/sys/net/ipv4/tcp_syncookies"
	b, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	switch v := strings.TrimSpace(string(b)); {
	case d.clustered() && v == "0":
		return errors.New("net.ipv4.tcp_syncookies is 0: the kernel takes no cookies; set it to 1")
	case d.cookies.Mode == fleet.CookiesKernel && v != "2":
		return fmt.Errorf("net.ipv4.tcp_syncookies is %s: the kernel makes no cookies until a listener is full; set it to 2", v)
	}
	return nil
}

func (c *cookies) close() error {
	if c.at == nil {
		return nil
	}
	return c.at.Close()
}

// gatewayProgram loads one of the gateway's programs, on the tables of k. Errors
// say what feature is missing.
func (k *kernel) gatewayProgram(name string) (*ebpf.Program, error) {
	spec, err := loadAccept()
	if err != nil {
		return nil, fmt.Errorf("read the gateway's programs: %w", err)
	}
	opts := &ebpf.CollectionOptions{MapReplacements: map[string]*ebpf.Map{
		acceptMapSelf: k.Self, acceptMapVips: k.Vips, acceptMapNetworks: k.Networks, acceptMapCounters: k.Counters, acceptMapVipStats: k.VipStats,
		acceptMapCookies: k.Cookies, acceptMapDesks: k.Desks, acceptMapGates: k.Gates, acceptMapPosts: k.Posts,
	}}
	if name == acceptProgram {
		var o struct {
			Program *ebpf.Program `ebpf:"accept"`
		}
		if err := spec.LoadAndAssign(&o, opts); err != nil {
			return nil, fmt.Errorf("load the program that takes cookies of the region's balancers (needs Linux 6.9 or later; without it set defence.syn_cookies.mode to kernel or off; this is %s): %w", release(), withoutBTF(lacking(err, loading)))
		}
		return o.Program, nil
	}
	var o struct {
		Program *ebpf.Program `ebpf:"reply"`
	}
	if err := spec.LoadAndAssign(&o, opts); err != nil {
		return nil, fmt.Errorf("load the program that answers with the kernel's cookies: %w", lacking(err, loading))
	}
	return o.Program, nil
}
