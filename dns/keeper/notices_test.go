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

// RFC 9859 §4.2: when the CDS set is new or changes, and every secondary has it, whom the parent names is told, and daily again while the parent has not acted.
// RFC 9859 §4.2.1: a notification that nobody answers is sent again, at growing intervals and five times in all.
func TestRFC9859ParentIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, strings.Replace(signedZone, "zones:", "dns: {dnssec: [{policy: default, ttl: 1h, propagation: 1h}]}\nzones:", 1)+records(plain))
		var log strings.Builder
		b.logTo(&log)
		b.now = time.Now()
		b.net.ds = map[fleet.Name][]sign.DS{}
		answer := func(target, rcode string, err error) {
			b.net.mu.Lock()
			defer b.net.mu.Unlock()
			b.net.tells = func() (string, string, error) { return target, rcode, err }
			b.net.told = nil
		}
		var shown time.Time
		pass := func(d time.Duration) []time.Time {
			t.Helper()
			for end := time.Now().Add(d); time.Now().Before(end); {
				time.Sleep(10 * time.Minute)
				synctest.Wait()
				b.now = time.Now()
				b.ok()
				if shown.IsZero() && b.zone("example.test.").Apex().Get(zone.TypeCDS) != nil {
					shown = b.now
				}
			}
			b.net.mu.Lock()
			defer b.net.mu.Unlock()
			return b.net.told
		}
		count := func(result string) float64 {
			r := prometheus.NewPedanticRegistry()
			b.k.Register(r)
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
		go func() { _ = b.k.Run(t.Context()) }()
		answer("scan.test.:5300", "NOERROR", nil)
		b.ok()

		told := pass(12 * time.Hour)
		if len(told) != 1 || shown.IsZero() || told[0].Before(shown.Add(time.Hour)) || told[0].After(shown.Add(2*time.Hour)) {
			t.Fatalf("CDS at %s, told at %s", shown, told)
		}
		if told = pass(72 * time.Hour); len(told) != 4 {
			t.Errorf("told %d times in three and a half days without a DS", len(told))
		}
		if n := strings.Count(log.String(), "new CDS"); n != 1 || count("acknowledged") != 4 {
			t.Errorf("%d lines, %v counted\n%s", n, count("acknowledged"), log.String())
		}
		set := func() {
			b.net.mu.Lock()
			defer b.net.mu.Unlock()
			b.net.ds["example.test."] = nil
			for _, k := range b.k.zones["example.test."].state.DSKeys() {
				b.net.ds["example.test."] = append(b.net.ds["example.test."], k.DSFor("example.test."))
			}
		}
		set()
		pass(time.Hour)
		answer("scan.test.:5300", "", errAway)
		if told = pass(96 * time.Hour); len(told) != 0 {
			t.Errorf("told %d times though the parent has acted", len(told))
		}

		state := b.k.zones["example.test."].state
		if err := state.Ask(sign.KSK); err != nil { // as gslb keys roll does
			t.Fatal(err)
		}
		enc, _ := state.Encode()
		_, version, _ := b.store.Load(t.Context(), "example.test.")
		if err := b.store.Save(t.Context(), "example.test.", enc, version); err != nil {
			t.Fatal(err)
		}
		b.k.Invalidate("example.test.")
		told = pass(12 * time.Hour)
		if len(told) != noticeTries || told[1].Sub(told[0]) < noticeRetry || told[4].Sub(told[3]) < 8*noticeRetry {
			t.Errorf("without an answer it was sent at %s", told)
		}
		if n := strings.Count(log.String(), "could not be told"); n != 1 || count("failed") != noticeTries {
			t.Errorf("%d lines, %v counted\n%s", n, count("failed"), log.String())
		}
		answer("", "", nil)
		if told = pass(24 * time.Hour); len(told) != 1 || count("none") != 1 {
			t.Errorf("told %d times where nobody is named, %v counted", len(told), count("none"))
		}
		set()
		answer("scan.test.:5300", "REFUSED", nil)
		if told = pass(96 * time.Hour); len(told) != 0 {
			t.Errorf("told %d times after the roll-over", len(told))
		}
		b.spec("zones:\n- zone: example.test\n  records: " + records(plain)) // asks for its DS to go
		if told = pass(6 * time.Hour); len(told) != 1 || count("refused") != 1 {
			t.Errorf("told %d times of the deletion, %v counted", len(told), count("refused"))
		}
	})
}
