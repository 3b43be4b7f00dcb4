package keeper

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"meridian/dns/sign"
	"meridian/dns/zone"
	"meridian/fleet"
)

// notices is a signed zone at its Keeper, in a parent that it can notify.
type notices struct {
	*bench
	log   strings.Builder
	shown time.Time // when CDS was there first
}

func newNotices(t *testing.T) *notices {
	spec := strings.Replace(signedZone, "zones:", "dns: {dnssec: [{policy: default, ttl: 1h, propagation: 1h}]}\nzones:", 1)
	n := &notices{bench: newBench(t, spec+records(plain))}
	n.logTo(&n.log)
	n.now = time.Now()
	n.net.ds = map[fleet.Name][]sign.DS{}
	return n
}

// answer says what comes of notifications from now on, and forgets those before.
func (n *notices) answer(target, rcode string, err error) {
	n.net.mu.Lock()
	defer n.net.mu.Unlock()
	n.net.tells = func() (string, string, error) { return target, rcode, err }
	n.net.told = nil
}

// pass lets time pass, and gives when the parent was told since answer.
func (n *notices) pass(d time.Duration) []time.Time {
	n.t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); {
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		n.now = time.Now()
		n.ok()
		if n.shown.IsZero() && n.zone("example.test.").Apex().Get(zone.TypeCDS) != nil {
			n.shown = n.now
		}
	}
	n.net.mu.Lock()
	defer n.net.mu.Unlock()
	return n.net.told
}

// count is how many notifications had a result.
func (n *notices) count(result string) float64 {
	r := prometheus.NewPedanticRegistry()
	n.k.Register(r)
	list, _ := r.Gather()
	for _, f := range list {
		for _, m := range f.Metric {
			if f.GetName() == "meridian_keeper_parent_notices_total" && m.Label[0].GetValue() == result {
				return m.GetCounter().GetValue()
			}
		}
	}
	return 0
}

// parentActs gives the parent the DS that the zone asks for.
func (n *notices) parentActs() {
	n.net.mu.Lock()
	defer n.net.mu.Unlock()
	n.net.ds["example.test."] = nil
	for _, k := range n.k.zones["example.test."].state.DSKeys() {
		n.net.ds["example.test."] = append(n.net.ds["example.test."], k.DSFor("example.test."))
	}
}

// roll asks for a new KSK, as gslb keys roll does.
func (n *notices) roll() {
	n.t.Helper()
	state := n.k.zones["example.test."].state
	if err := state.Ask(sign.KSK); err != nil {
		n.t.Fatal(err)
	}
	enc, _ := state.Encode()
	_, version, _ := n.store.Load(n.t.Context(), "example.test.")
	if err := n.store.Save(n.t.Context(), "example.test.", enc, version); err != nil {
		n.t.Fatal(err)
	}
	n.k.Invalidate("example.test.")
}

// RFC 9859 §4.2: when the CDS set is new or changes, and every secondary has it, whom the parent names is told, and daily again while the parent has not acted.
// RFC 9859 §4.2.1: a notification that nobody answers is sent again, at growing intervals and five times in all.
func TestRFC9859ParentIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNotices(t)
		go func() { _ = n.k.Run(t.Context()) }()
		n.answer("scan.test.:5300", "NOERROR", nil)
		n.ok()
		told := n.pass(12 * time.Hour)
		if len(told) != 1 || n.shown.IsZero() || told[0].Before(n.shown.Add(time.Hour)) || told[0].After(n.shown.Add(2*time.Hour)) {
			t.Fatalf("CDS at %s, told at %s", n.shown, told)
		}
		if told = n.pass(72 * time.Hour); len(told) != 4 {
			t.Errorf("told %d times in three and a half days without a DS", len(told))
		}
		if lines := strings.Count(n.log.String(), "new CDS"); lines != 1 || n.count("acknowledged") != 4 {
			t.Errorf("%d lines, %v counted\n%s", lines, n.count("acknowledged"), n.log.String())
		}
		n.parentActs()
		n.pass(time.Hour)
		n.answer("scan.test.:5300", "", errAway)
		if told = n.pass(96 * time.Hour); len(told) != 0 {
			t.Errorf("told %d times though the parent has acted", len(told))
		}

		n.roll()
		told = n.pass(12 * time.Hour)
		if len(told) != noticeTries || told[1].Sub(told[0]) < noticeRetry || told[4].Sub(told[3]) < 8*noticeRetry {
			t.Errorf("without an answer it was sent at %s", told)
		}
		if lines := strings.Count(n.log.String(), "could not be told"); lines != 1 || n.count("failed") != noticeTries {
			t.Errorf("%d lines, %v counted\n%s", lines, n.count("failed"), n.log.String())
		}
		n.answer("", "", nil)
		if told = n.pass(24 * time.Hour); len(told) != 1 || n.count("none") != 1 {
			t.Errorf("told %d times where nobody is named, %v counted", len(told), n.count("none"))
		}
		n.parentActs()
		n.answer("scan.test.:5300", "REFUSED", nil)
		if told = n.pass(96 * time.Hour); len(told) != 0 {
			t.Errorf("told %d times after the roll-over", len(told))
		}
		n.spec("zones:\n- zone: example.test\n  records: " + records(plain)) // asks for its DS to go
		if told = n.pass(6 * time.Hour); len(told) != 1 || n.count("refused") != 1 {
			t.Errorf("told %d times of the deletion, %v counted", len(told), n.count("refused"))
		}
	})
}
