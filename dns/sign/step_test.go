package sign

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"meridian/fleet"
)

// world is a zone, its nameservers, its parent and every cache there could
// be: what was published at which time.
type world struct {
	t      *testing.T
	name   fleet.Name
	policy *fleet.DNSSECPolicy // nil: not to be signed
	rand   *rand.ChaCha8
	now    time.Time
	state  State
	next   time.Time
	zone   []moment // as published, by time
	ds     []dsMoment
	lag    time.Duration // of the parent, to act on CDS
	acts   time.Time     // when the parent acts on what it saw
	log    []string
}

// moment is what the zone's nameservers begin to say at a time.
type moment struct {
	at     time.Time
	keys   []keyID // DNSKEY set
	sigs   []keyID // that sign the DNSKEY set
	data   []keyID // that sign the data
	keyTTL time.Duration
	ttl    time.Duration
	cds    []DS
	delete bool
}

type dsMoment struct {
	at  time.Time
	set []DS
}

type keyID struct {
	tag uint16
	alg uint8
}

func newWorld(t *testing.T, p *fleet.DNSSECPolicy) *world {
	return &world{t: t, name: "example.test.", policy: p, rand: rand.NewChaCha8([32]byte{1}), now: now, lag: 36 * time.Hour, ds: []dsMoment{{at: now.Add(-time.Hour)}}}
}

const zoneTTL = 6 * time.Hour

// step lets the keeper act, the parent, and the caches be checked.
func (w *world) step() {
	w.t.Helper()
	cur := w.ds[len(w.ds)-1].set
	parent := &ParentDS{All: cur, Any: cur, TTL: 86400}
	s, events, next, err := Step(w.state, w.name, w.policy, w.now, Facts{Parent: parent, MaxTTL: uint32(zoneTTL / time.Second)}, w.rand)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, e := range events {
		w.log = append(w.log, strings.ReplaceAll(fmt.Sprintf("day %6.2f: %s %s", w.now.Sub(now).Hours()/24, roleOf(e.Key), e.What), ":  ", ": zone "))
	}
	w.state, w.next = s, next
	w.publish()
	w.parent()
	w.check()
}

// say notes what the operator does.
func (w *world) say(what string) {
	w.log = append(w.log, fmt.Sprintf("day %6.2f: -> %s", w.now.Sub(now).Hours()/24, what))
}

// roleOf leaves out the tag, which tells a reader nothing.
func roleOf(key string) string { r, _, _ := strings.Cut(key, " "); return r }

func (w *world) publish() {
	p := w.state.Policy
	m := moment{at: w.now, ttl: zoneTTL}
	for _, k := range w.state.Published() {
		m.keys = append(m.keys, keyID{k.Tag(), k.Algorithm})
		if k.Role.secure() {
			m.sigs = append(m.sigs, keyID{k.Tag(), k.Algorithm})
		}
	}
	for _, k := range w.state.Signing() {
		m.data = append(m.data, keyID{k.Tag(), k.Algorithm})
	}
	if p != nil {
		m.keyTTL = p.TTL.D()
		cds, _ := ParentSets(w.name, &w.state, p)
		m.delete = len(cds) == 1 && len(cds[0]) == 5
		if !m.delete {
			for _, k := range w.state.DSKeys() {
				if len(cds) > 0 {
					m.cds = append(m.cds, k.DSFor(w.name))
				}
			}
		}
	}
	w.zone = append(w.zone, m)
}

// parent acts on CDS some time after it appears.
func (w *world) parent() {
	m := w.zone[len(w.zone)-1]
	cur := w.ds[len(w.ds)-1].set
	wants := m.delete && len(cur) > 0 || len(m.cds) > 0 && !slices.Equal(m.cds, cur)
	switch {
	case !wants:
		w.acts = time.Time{}
	case w.acts.IsZero():
		w.acts = w.now.Add(w.lag)
	case !w.now.Before(w.acts):
		w.ds = append(w.ds, dsMoment{w.now, m.cds})
		w.acts = time.Time{}
	}
}

// check asks: can a validator that holds any DS set, any DNSKEY set and any
// data that it may have cached within their TTLs, from servers that are up to
// the propagation time late, validate?
func (w *world) check() {
	w.t.Helper()
	lag := time.Hour // Propagation
	dsSets := sets(w.ds, w.now, 24*time.Hour, func(m dsMoment) time.Time { return m.at })
	for _, d := range dsSets {
		if len(d.set) == 0 {
			continue // insecure: anything goes
		}
		zones := within(w.zone, w.now, lag, func(m moment) time.Duration { return max(m.keyTTL, time.Duration(0)) })
		datas := within(w.zone, w.now, lag, func(m moment) time.Duration { return m.ttl })
		for _, k := range zones {
			if why := chain(d.set, k, w.name, w.state.Keys); why != "" {
				w.fail("DS of %s with DNSKEY of %s: %s", d.at, k.at, why)
			}
			for _, s := range datas {
				if why := answers(k, s); why != "" {
					w.fail("DNSKEY of %s with data of %s: %s", k.at, s.at, why)
				}
			}
		}
	}
}

func (w *world) fail(format string, args ...any) {
	w.t.Helper()
	w.t.Fatalf("at %s a validator fails: %s\n%s", w.now, fmt.Sprintf(format, args...), strings.Join(w.log, "\n"))
}

// sets gives what may be in a cache of what was published at times: the
// current one, and those replaced less than ttl ago.
func sets[M any](list []M, now time.Time, ttl time.Duration, at func(M) time.Time) []M {
	var out []M
	for i, m := range list {
		if i+1 == len(list) || at(list[i+1]).Add(ttl).After(now) {
			out = append(out, m)
		}
	}
	return out
}

func within(list []moment, now time.Time, lag time.Duration, ttl func(moment) time.Duration) []moment {
	var out []moment
	for i, m := range list {
		if i+1 == len(list) || list[i+1].at.Add(lag+ttl(m)).After(now) {
			out = append(out, m)
		}
	}
	return out
}

// chain: the DNSKEY set has a signature for each algorithm of the DS set, of a
// key that the DS set points to (RFC 4035 section 2.2).
func chain(ds []DS, m moment, _ fleet.Name, _ []Key) string {
	for _, d := range ds {
		ok := slices.ContainsFunc(ds, func(o DS) bool {
			return o.Algorithm == d.Algorithm && slices.Contains(m.sigs, keyID{o.KeyTag, o.Algorithm})
		})
		if !ok {
			return fmt.Sprintf("no signature by algorithm %d", d.Algorithm)
		}
	}
	return ""
}

// answers: for each algorithm of the DNSKEY set the data has a signature by a
// key of the set.
func answers(m, data moment) string {
	for _, k := range m.keys {
		ok := slices.ContainsFunc(data.data, func(s keyID) bool { return s.alg == k.alg && slices.Contains(m.keys, s) })
		if !ok {
			return fmt.Sprintf("no signature by algorithm %d", k.alg)
		}
	}
	return ""
}

// until runs the world up to a time, by the hour and whenever the keys ask
// for it.
func (w *world) until(end time.Time) {
	w.t.Helper()
	for w.now.Before(end) {
		to := w.now.Add(time.Hour)
		if w.next.After(w.now) && w.next.Before(to) {
			to = w.next
		}
		w.now = to
		w.step()
	}
}

func (w *world) days(n float64) {
	w.t.Helper()
	w.until(w.now.Add(time.Duration(n * 24 * float64(time.Hour))))
}

func lifetimes(zsk, ksk time.Duration) func(*fleet.DNSSECPolicy) {
	return func(p *fleet.DNSSECPolicy) {
		z, k := fleet.Duration(zsk), fleet.Duration(ksk)
		p.ZSKLifetime, p.KSKLifetime = &z, &k
	}
}

const day = 24 * time.Hour

// RFC 7583 §3.2.1: a ZSK is rolled by pre-publication: no cache ever holds data whose key it cannot get.
// RFC 7583 §3.3.1: a KSK is rolled by double signature, and the old one is withdrawn only when no cache holds its DS.
// RFC 6781 §4.1.1: roll-overs happen by age, one after another.
func TestRFC7583AYearOfRollOvers(t *testing.T) {
	w := newWorld(t, policy(t, lifetimes(30*day, 120*day)))
	w.days(400)
	rolled := map[string]int{}
	for _, line := range w.log {
		if strings.Contains(line, "removed") {
			rolled[strings.Fields(line)[2]]++
		}
	}
	if rolled["zsk"] < 10 || rolled["ksk"] < 2 {
		t.Errorf("in 400 days only %v were rolled\n%s", rolled, strings.Join(w.log, "\n"))
	}
}

// RFC 7583 §3: a single key that signs all is rolled as ZSK and KSK at once.
func TestRFC7583SingleKey(t *testing.T) {
	w := newWorld(t, policy(t, func(p *fleet.DNSSECPolicy) { lifetimes(0, 60*day)(p); p.SingleKey = true }))
	w.days(200)
	if n := strings.Count(strings.Join(w.log, "\n"), "removed"); n < 2 {
		t.Errorf("only %d removed\n%s", n, strings.Join(w.log, "\n"))
	}
}

// RFC 6781 §4.1.4: the algorithm is rolled conservatively: signatures before keys before DS, and out again in reverse.
// RFC 4035 §2.2: at every moment whatever a cache holds is signed by each algorithm of the keys that another may hold.
func TestRFC6781AlgorithmRollOver(t *testing.T) {
	w := newWorld(t, policy(t, nil))
	w.days(10)
	w.policy = policy(t, func(p *fleet.DNSSECPolicy) { p.Algorithm = fleet.Ed25519 })
	w.days(20)
	for _, k := range w.state.Keys {
		if k.Algorithm != algEd25519 || k.DNSKEY.State != Omnipresent {
			t.Errorf("left: %s %+v", k, k)
		}
	}
	w.days(1)
	w.policy = policy(t, func(p *fleet.DNSSECPolicy) { p.SingleKey = true })
	w.days(20)
	if len(w.state.Keys) != 1 || w.state.Keys[0].Role != CSK {
		t.Errorf("left: %v\n%s", w.state.Keys, strings.Join(w.log, "\n"))
	}
}

// RFC 8078 §4: a zone is unsigned only when the parent has taken its DS away and no cache has it.
// RFC 7344 §4: the zone asks for that, and for its first DS, by CDS.
func TestRFC8078ToSignedAndBack(t *testing.T) {
	w := newWorld(t, policy(t, nil))
	w.days(7)
	if len(w.ds) != 2 || !w.state.secure() {
		t.Fatalf("the parent has no DS after a week\n%s", strings.Join(w.log, "\n"))
	}
	w.policy = nil
	w.days(1)
	if !w.state.Signed() {
		t.Fatal("unsigned at once")
	}
	w.days(7)
	if w.state.Signed() || len(w.state.Keys) > 0 {
		t.Fatalf("still signed\n%s", strings.Join(w.log, "\n"))
	}
	w.policy = policy(t, nil)
	w.days(7)
	if !w.state.secure() || len(w.state.Keys) != 2 {
		t.Errorf("not signed again\n%s", strings.Join(w.log, "\n"))
	}
}

// Whatever policies follow each other at whatever times, with rolls by hand
// between, a validator never fails.
func TestAnyChangesOfPolicyKeepValidatorsHappy(t *testing.T) {
	t.Parallel()
	rounds := 12
	if testing.Short() {
		rounds = 4
	}
	for seed := range rounds {
		r := rand.New(rand.NewPCG(uint64(seed), 7))
		w := newWorld(t, policy(t, nil))
		w.lag = time.Duration(1+r.IntN(100)) * time.Hour
		w.log = append(w.log, fmt.Sprintf("seed %d", seed))
		for range 12 {
			switch r.IntN(6) {
			case 0:
				w.policy = nil
			case 1:
				if len(w.state.Keys) > 0 {
					_ = w.state.Ask(w.state.Keys[r.IntN(len(w.state.Keys))].Role)
				}
			case 2:
				w.lag = time.Duration(1+r.IntN(300)) * time.Hour
			default:
				w.policy = policy(t, func(p *fleet.DNSSECPolicy) {
					lifetimes(time.Duration(r.IntN(20))*day, time.Duration(r.IntN(40))*day)(p)
					p.SingleKey = r.IntN(2) == 0
					p.Revoke = r.IntN(3) == 0
					p.TTL = fleet.Duration(time.Duration(1+r.IntN(24)) * time.Hour)
					if r.IntN(2) == 0 {
						p.Algorithm = fleet.Ed25519
					}
				})
				w.log = append(w.log, fmt.Sprintf("day %6.2f: policy: csk %v, %s, ttl %s", w.now.Sub(now).Hours()/24, w.policy.SingleKey, w.policy.Algorithm, w.policy.TTL))
			}
			w.days(r.Float64() * 20)
			if t.Failed() {
				return
			}
		}
		w.policy = policy(t, lifetimes(0, 0))
		w.days(90) // it always comes to rest
		for _, k := range w.state.Keys {
			if k.Retired || k.DNSKEY.State != Omnipresent {
				t.Fatalf("seed %d: not at rest: %s %+v\n%s", seed, k, k, strings.Join(w.log, "\n"))
			}
		}
	}
}
