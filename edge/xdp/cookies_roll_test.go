package xdp

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"meridian/internal/testkit/netns"
)

// Cookies of one generation of keys are good on nodes of the one before and of the
// next, in all epochs, and of no other.
func TestCookiesAreGoodInGenerationsNextToTheirs(t *testing.T) {
	key := func(generation int, epoch int64) Key {
		return Key{byte(epoch), byte(generation), byte(generation >> 8)}
	}
	for made := time.Duration(0); made < 2*CookieEpoch; made += 5 * time.Second {
		at := func(generation int) edgeCookieKeys {
			return cookieKeysAt(time.Unix(1_700_000_000, 0).Add(made), 1000*time.Hour, generation, key)
		}
		for maker := range 7 {
			for taker := range 7 {
				m := at(maker)
				good := at(taker).Key[m.Current] == m.Key[m.Current]
				if near := max(maker, taker)-min(maker, taker) <= 1; good != near {
					t.Errorf("after %s: made in generation %d, good in %d: %v", made, maker, taker, good)
				}
			}
		}
	}
}

// A roll changes no key under which cookies that are good may have been made, so
// that a packet which reads while the keys are written misses nothing.
func TestARollLeavesKeysInUse(t *testing.T) {
	_, c, in := newCookies(t)
	roll := func(generation int) edgeCookieKeys {
		d := in("auto")
		d.cookies.KeyGeneration = generation
		c.keysOf = generation
		if err := c.roll(d); err != nil {
			t.Fatal(err)
		}
		var k edgeCookieKeys
		if err := c.kernel.Cookies.Lookup(uint32(0), &k); err != nil {
			t.Fatal(err)
		}
		return k
	}
	for generation := range 5 {
		before, after := roll(generation), roll(generation+1)
		if before.Current == after.Current || before.Key[before.Current] != after.Key[before.Current] || before.Key[after.Current] != after.Key[after.Current] {
			t.Errorf("from %d to %d: %+v, then %+v", generation, generation+1, before, after)
		}
	}
}

// Cookies that come late, after the Spec said to make none, are those of the
// generation in which it last asked for them.
func TestLateCookiesAreOfTheLastGeneration(t *testing.T) {
	r, c, in := newCookies(t)
	d := in("auto")
	d.cookies.KeyGeneration = 4
	r.must(r.gw1.Do(func() error { return c.follow(d) }))
	was := c.keys
	c.keys = edgeCookieKeys{} // as for the first time
	r.must(r.gw1.Do(func() error { return c.follow(in("off")) }))
	if c.keys.Key != was.Key {
		// An epoch may have begun between the two.
		if now := cookieKeysAt(time.Now(), monotonic(), 4, c.key); c.keys.Key != now.Key {
			t.Errorf("keys %+v, expected %+v", c.keys, now)
		}
	}
}

// rolled gives a node a generation of cookies' keys, and waits until its program has
// them.
func (r *region) rolled(spec string, generation int, nodes ...string) {
	r.t.Helper()
	w := worldOf(r.t, strings.Replace(spec, "mode: always", fmt.Sprintf("mode: always, key_generation: %d", generation), 1))
	for _, name := range nodes {
		l := r.nodes[name]
		r.must(l.Apply(w))
		eventually(r.t, fmt.Sprintf("%s has the keys of generation %d", name, generation), func() bool {
			var k edgeCookieKeys
			l.stats.mu.Lock()
			defer l.stats.mu.Unlock()
			return l.stats.kernel != nil && l.stats.kernel.Cookies.Lookup(uint32(0), &k) == nil && k.Until > 0 &&
				keyOf(k, k.Current) == l.cfg.CookieKey(generation, time.Now().UnixNano()/int64(CookieEpoch))
		})
	}
}

// While new keys go through a region, connections begin as ever: one balancer
// answers, another meets the ACK, any gateway takes it, of the generation before,
// the same or the next. From a generation further away it takes none.
func TestConnectionsBeginWhileKeysAreRolled(t *testing.T) {
	spec := strings.Replace(churnSpec, "ports: [80]", "ports: [80, 81]", 1) + "defence: {syn_cookies: {mode: always}}\n"
	r := newRegion(t, spec, 1600)
	var facts sync.Map
	gateways := []string{"gw1", "gw2", "gw3", "gw4"}
	for _, ns := range []*netns.NS{r.gw1, r.gw2, r.more["gw3"], r.more["gw4"]} {
		r.run(ns, Config{Roles: Roles{L7: true}})
		r.serve(ns)
		r.mirror(ns, &facts)
	}
	for _, ns := range []*netns.NS{r.lb, r.more["lb2"]} {
		l := r.run(ns, Config{Roles: Roles{L4: true}, Health: newTrackers()})
		eventually(t, ns.Name+" ready", func() bool { return l.Ready() == nil })
		l.cookies(t)
	}
	r.apart("10.7.1.2", "10.7.4.2")
	accepted := func() (n uint64) {
		for _, g := range gateways {
			n += r.nodes[g].counted("cookie_accepted")
		}
		return n
	}
	begin := func(when string) {
		t.Helper()
		const connections = 24
		before := accepted()
		for range connections {
			if _, _, err := r.talk(vip4, 8000, &facts); err != nil {
				t.Fatalf("%s: %v", when, err)
			}
		}
		if n := accepted() - before; n != connections {
			t.Errorf("%s: %d of %d connections began with a cookie", when, n, connections)
		}
	}
	begin("no generation is given")
	r.rolled(spec, 1, "gw1", "gw2")
	begin("half of the gateways come first")
	r.rolled(spec, 1, "lb")
	begin("one balancer has followed")
	r.rolled(spec, 1, "lb2", "gw3", "gw4")
	begin("all have")
	r.rolled(spec, 2, "lb")
	begin("a balancer comes first")
	r.rolled(spec, 2, "lb2")
	begin("both balancers have followed")
	r.rolled(spec, 1, "lb", "lb2")
	begin("rolled back")
	r.rolled(spec, 3, gateways...)
	before := accepted()
	for range 4 {
		if _, _, err := r.talk(vip4, 800, &facts); err == nil {
			t.Error("a cookie of two generations before began a connection")
		}
	}
	if n := accepted() - before; n > 0 {
		t.Errorf("gateways took %d cookies of two generations before", n)
	}
	r.rolled(spec, 2, "lb", "lb2")
	begin("the balancers are one behind")
}
