package xdp

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// siege is a VIP at a machine, and the reference beside it. Time passes as a test
// says: the machine's gate is made so much older.
type siege struct {
	*machine
	t     *testing.T
	key   edgeVipKey
	ref   refGate
	ahead int // windows that the test has let pass
	port  int // of the last packet: each is another flow's
}

// newSiege has 2,000 SYNs a second make an attack, and 1,000 strangers pass.
func newSiege(t *testing.T, mode string) *siege {
	m, _ := newCookieMachine(t, cookieSpec(mode, 2000)+"layer4: {stranger_limit: 1000}\n", "lb", Roles{L4: true})
	s := &siege{machine: m, t: t, key: edgeVipKey{Addr: toAddress(netip.MustParseAddr(any4)), Port: swap16(443), Proto: protoTCP}}
	s.ref = refGate{limit: 536, floor: 268} // in 2^28 ns
	s.shut(mode == "always")
	t.Cleanup(oneCPU(t))
	return s
}

func (s *siege) must(errs ...error) {
	s.t.Helper()
	if err := errors.Join(errs...); err != nil {
		s.t.Fatal(err)
	}
}

// window is the program's, and the test's ahead of it.
func (s *siege) window() int {
	var ts unix.Timespec
	s.must(unix.ClockGettime(unix.CLOCK_MONOTONIC_COARSE, &ts))
	return int(ts.Nano()>>28) + s.ahead
}

// state is all that the program keeps of the VIP.
type siegeState struct {
	vip     edgeVip
	gate    edgeGate
	posts   []edgePost
	traffic []edgeTraffic
}

func (s *siege) state() (st siegeState) {
	s.t.Helper()
	s.must(s.Vips.Lookup(&s.key, &st.vip))
	s.must(s.Gates.Lookup(st.vip.Stats, &st.gate), s.Posts.Lookup(st.vip.Stats, &st.posts), s.VipStats.Lookup(st.vip.Stats, &st.traffic))
	return st
}

func (s *siege) put(st siegeState) {
	s.t.Helper()
	s.must(s.Vips.Put(&s.key, &st.vip), s.Gates.Put(st.vip.Stats, &st.gate), s.Posts.Put(st.vip.Stats, st.posts), s.VipStats.Put(st.vip.Stats, st.traffic))
}

// shut has the gate shut for good, or go by the attack.
func (s *siege) shut(always bool) {
	st := s.state()
	st.vip.Gate = uint8(edgeGateModeGATE_AUTO)
	if always {
		st.vip.Gate = uint8(edgeGateModeGATE_SHUT)
	}
	s.put(st)
	s.ref.always = always
}

// pass lets windows pass, in which so many packets of known flows came.
func (s *siege) pass(windows, packets int) {
	st := s.state()
	st.gate.Window -= uint64(min(windows, int(st.gate.Window)))
	st.gate.Until -= uint64(min(windows, int(st.gate.Until)))
	if windows > 0 {
		clear(st.posts) // what they hold is of windows that have passed
	}
	st.traffic[0].Packets += uint64(packets)
	s.put(st)
	s.ahead += windows
	s.ref.packets += packets
}

// met is what became of packets.
type met struct{ answered, passed, dropped int }

// send sends SYNs and then packets of flows that nobody knows, within one window,
// and gives what became of them; the reference has to say the same.
func (s *siege) send(syns, strangers int) met {
	s.t.Helper()
	st, ref := s.state(), s.ref
	for {
		now := s.window()
		before, err := s.counters()
		s.must(err)
		s.run(syns, syn)
		s.run(strangers, ack)
		after, err := s.counters()
		s.must(err)
		if s.window() != now { // it took too long: once more
			s.put(st)
			continue
		}
		n := func(name string) int { return int(after[name] - before[name]) }
		got := met{n("tx_cookie"), n("tx_tunnel"), n("drop_no_cookie")}
		s.ref = ref
		if want := s.expect(now, syns, strangers); got != want {
			s.t.Errorf("%d SYNs and %d strangers: %+v, expected %+v; before %+v", syns, strangers, got, want, ref)
		}
		return got
	}
}

func (s *siege) run(n int, flags byte) {
	p := sealed{ipHeader: ipHeader{src: "203.0.113.77", dst: any4}, dport: 443, flags: flags}
	out := make([]byte, 4096)
	for range n {
		s.port = s.port%65535 + 1
		p.sport = s.port
		_, err := s.edgeObjects.Edge.Run(&ebpf.RunOptions{Data: fromRouter(p.bytes()), DataOut: out})
		s.must(err)
	}
}

// expect asks the reference, and compares what is known then.
func (s *siege) expect(now, syns, strangers int) (want met) {
	s.t.Helper()
	for range syns {
		if s.ref.syn(now) {
			want.answered++
		} else {
			want.passed++
		}
	}
	for range strangers {
		if s.ref.stranger(now) {
			want.passed++
		} else {
			want.dropped++
		}
	}
	g := s.state().gate
	if int(g.Usual) != s.ref.usual || g.Until > 0 && int(g.Until)+s.ahead != s.ref.until && s.ref.attacked(now) {
		s.t.Errorf("the gate has %+v, %d windows ahead; expected %+v", g, s.ahead, s.ref)
	}
	return want
}

// Whatever comes, and however the gate is set: the program answers, lets pass,
// drops and learns as the reference does.
func TestAttacksAgreeWithTheReference(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	s := newSiege(t, "auto")
	one := func(of ...int) int { return of[rnd.IntN(len(of))] }
	var all met
	for range 150 {
		s.pass(one(0, 1, 2, 5, 40, 300), one(0, 50, 1000, 100_000))
		if rnd.IntN(12) == 0 {
			s.shut(!s.ref.always)
		}
		got := s.send(one(0, 1, 5, 400, 800), one(0, 0, 3, 300, 2000)) // an attack begins with 536, and goes on with 268
		all.answered, all.passed, all.dropped = all.answered+got.answered, all.passed+got.passed, all.dropped+got.dropped
	}
	if all.answered == 0 || all.passed == 0 || all.dropped == 0 {
		t.Errorf("not all was met: %+v", all)
	}
	t.Logf("%+v; usual are %d packets in a window", all, s.ref.usual)
}

// A balancer that stood by, with a few SYNs, takes over 200,000 packets a second of
// connections that it does not know: none is dropped, however long it lasts.
func TestATakeoverIsNoAttack(t *testing.T) {
	s := newSiege(t, "auto")
	for range 20 {
		s.pass(300, 300)
		s.send(2, 0)
	}
	for range 60 {
		if got := s.send(2, 1000); got != (met{passed: 1002}) {
			t.Fatalf("%+v", got)
		}
		s.pass(1, 53_000)
	}
}

// What is usual is learned slowly, and by no burst: a second of one, however high,
// raises it by a 64th of what it is and what passes in any case.
func TestABurstTeachesLittle(t *testing.T) {
	s := newSiege(t, "auto")
	learn := func(windows, packets int) (usual, passed int) { // one more may pass meanwhile
		began := s.ref.window
		for range windows {
			s.pass(1, packets)
			s.send(1, 0)
		}
		return s.ref.usual, s.ref.window - began
	}
	s.send(1, 0)
	s.pass(256, 256*200)
	s.send(1, 0)
	was := s.ref.usual
	if was < 190 || was > 200 {
		t.Fatalf("after a minute of 200 packets in a window %d are usual", was)
	}
	if now, n := learn(4, 1_000_000); now <= was || now > was+n*(was+s.ref.floor)/200 {
		t.Errorf("a second of a burst made %d of %d", now, was)
	}
	was = s.ref.usual
	if now, n := learn(4, 0); now >= was || now < was-n*was/200-1 {
		t.Errorf("a second of nothing made %d of %d", now, was)
	}
}

// While the gate is shut, or in an attack, nothing is learned: neither of the
// strangers that it lets through nor of what came meanwhile, when it is open again.
func TestNothingIsLearnedOfAnAttack(t *testing.T) {
	for _, mode := range []string{"always", "auto"} {
		s := newSiege(t, mode)
		st := s.state()
		st.gate.Usual, s.ref.usual = 100, 100
		s.put(st)
		for range 40 {
			if got := s.send(800, 1500); got.answered == 0 || got.dropped == 0 {
				t.Fatalf("%s: no attack: %+v", mode, got)
			}
			s.pass(1, 1000)
		}
		if s.ref.usual != 100 {
			t.Errorf("%s: %d packets are usual, expected 100 as before", mode, s.ref.usual)
		}
		s.shut(false)
		s.send(0, 1)
		s.pass(60, 60*100)
		s.send(1, 0)
		s.pass(60, 60*100)
		if s.send(1, 0); s.ref.usual < 97 || s.ref.usual > 100 {
			t.Errorf("%s, afterwards: %d packets are usual, expected next to 100", mode, s.ref.usual)
		}
	}
}

// The log tells of a flood how many SYNs there are, from how many on it is one, and
// what is usual; and when it is over.
func TestAFloodIsLogged(t *testing.T) {
	s := newSiege(t, "auto")
	seen := newStats()
	seen.attached(s.kernel, Native)
	seen.applied(s.rec, s.want)
	var said strings.Builder
	watch := func() string {
		said.Reset()
		s.must(seen.watch(slog.New(slog.NewTextHandler(&said, nil))))
		return said.String()
	}
	s.send(530, 0)
	if got := watch(); got != "" {
		t.Errorf("in peace: %s", got)
	}
	s.pass(1, 0)
	s.send(800, 0)
	got := watch()
	var syns, threshold, usual int
	_, at, _ := strings.Cut(got, "syns_per_second=")
	n, _ := fmt.Sscanf(at, "%d threshold=%d usual_packets_per_second=%d", &syns, &threshold, &usual)
	if n != 3 || threshold != 2000 || syns < threshold || syns > 3000 || usual > 20 || !strings.Contains(got, "flood") {
		t.Errorf("in a flood: %s", got)
	}
	s.pass(40, 0)
	if got := watch(); !strings.Contains(got, "over") {
		t.Errorf("after it: %s", got)
	}
}
