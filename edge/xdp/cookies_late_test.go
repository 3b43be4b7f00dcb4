package xdp

import (
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// newCookies gives the cookies of a node with role l7 in a namespace, and what the
// Spec says in a mode.
func newCookies(t *testing.T) (r *region, c *cookies, in func(mode string) *desired) {
	t.Helper()
	r = newRegion(t, regionSpec, 1600)
	k, err := load(Key{7}, 1<<10, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.Close() })
	eth0, err := r.gw1.Netlink().LinkByName("eth0")
	r.must(err)
	c = &cookies{kernel: k, nl: r.gw1.Netlink(), device: eth0.Attrs().Index, key: func(generation int, epoch int64) Key { return Key{byte(epoch), 5, byte(generation)} },
		log: slog.New(slog.DiscardHandler)}
	t.Cleanup(func() { r.must(r.gw1.Do(c.close)) })
	return r, c, func(mode string) *desired {
		d, err := plan(worldOf(t, cookieRegion(mode, 100)), "gw1", Roles{L7: true})
		r.must(err)
		return d
	}
}

// A program that could not be attached is tried again after a while.
func TestAttachingIsTriedAgain(t *testing.T) {
	r, c, in := newCookies(t)
	d, eth0 := in("auto"), c.device
	follow := func() error { return r.gw1.Do(func() error { return c.follow(d) }) }
	c.device = 1 << 20 // there is none
	r.must(follow())
	if c.at != nil || c.failed == nil || c.works() || c.takes {
		t.Fatalf("at no device: %+v", c)
	}
	c.device = eth0
	r.must(follow())
	if c.at != nil || c.takes {
		t.Error("tried again at once")
	}
	c.tried = c.tried.Add(-attachAgain)
	r.must(follow())
	if c.at == nil || c.failed != nil || !c.works() || !c.takes {
		t.Errorf("later: failed %v, works %v", c.failed, c.works())
	}
}

// Cookies that were made before the Spec said to make none are taken while they
// may come back: the program and its keys stay for so long, and nobody is told to
// make more.
func TestLateCookiesAreTaken(t *testing.T) {
	r, c, in := newCookies(t)
	follow := func(mode string) *desired {
		d := in(mode)
		r.must(r.gw1.Do(func() error { return c.follow(d) }))
		return d
	}
	duty := func(d *desired) bool {
		rec := newReconciler(c.kernel, Key{7})
		rec.late = c.late(d)
		r.must(rec.writeNode(d, new(guard)))
		return rec.node.Duties&uint32(edgeDutyDUTY_ACCEPT) != 0
	}
	if d := follow("off"); c.at != nil || duty(d) {
		t.Error("off from the beginning: cookies are taken")
	}
	if d := follow("auto"); c.at == nil || !duty(d) || !c.takes {
		t.Error("auto: cookies are not taken")
	}
	if d := follow("off"); c.at == nil || !duty(d) || c.takes {
		t.Error("off: cookies that may come back are not taken, or more are asked for")
	}
	c.until = time.Now()
	if d := follow("off"); c.at != nil || duty(d) {
		t.Error("off for long: cookies are taken")
	}
}

// A gateway that takes cookies does so while its own address changes, and no longer
// than it runs.
func TestCookiesAreTakenThroughASessionsEnd(t *testing.T) {
	spec := cookieRegion("auto", 100)
	r := newRegion(t, spec, 1600)
	l := r.run(r.gw1, Config{Roles: Roles{L7: true}})
	eventually(t, "cookies are taken", func() bool { return l.Ready() == nil && l.TakesCookies() })
	r.must(r.gw1.AddAddr("eth0", netip.MustParsePrefix("10.7.2.9/24")))
	var over atomic.Bool
	refused := make(chan bool)
	go func() {
		no := false
		for !over.Load() {
			no = no || !l.TakesCookies()
		}
		refused <- no
	}()
	next := worldOf(t, strings.Replace(spec, "{v4: 10.7.2.2,", "{v4: 10.7.2.9,", 1))
	r.must(r.gw1.Do(func() error { return l.Apply(next) }))
	eventually(t, "the new address in use", func() bool {
		own, _ := l.ownInTables()
		return l.Ready() == nil && own == netip.MustParseAddr("10.7.2.9")
	})
	over.Store(true)
	if <-refused {
		t.Error("for a moment none were taken")
	}
	r.stop["gw1"]()
	if l.TakesCookies() {
		t.Error("cookies are taken after the end")
	}
}

// Keys are written anew when the wall clock has been set, so that cookies are made
// for as long as by that.
func TestKeysFollowTheClock(t *testing.T) {
	_, c, in := newCookies(t)
	d := in("auto")
	until := func() uint64 {
		var k edgeCookieKeys
		if err := errors.Join(c.roll(d), c.kernel.Cookies.Lookup(uint32(0), &k)); err != nil {
			t.Fatal(err)
		}
		return k.Until
	}
	want := until()
	c.keys.Until -= uint64(20 * time.Second) // as they were before the clock was set back
	if err := c.kernel.Cookies.Put(uint32(0), &c.keys); err != nil {
		t.Fatal(err)
	}
	if got := until(); got < want-uint64(time.Second) {
		t.Errorf("good for %s less than by the clock", time.Duration(want-got))
	}
}
