package acme

import (
	"crypto/x509"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"testing"
	"time"

	acmeapi "github.com/mholt/acmez/v3/acme"

	"meridian/fleet"
	"meridian/rules"
)

func TestACertificateIsRenewedWhenTheAuthoritySaysElseAfterTwoThirds(t *testing.T) {
	from := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	leaf := &x509.Certificate{NotBefore: from, NotAfter: from.Add(90 * 24 * time.Hour)}
	info := func(day int) acmeapi.RenewalInfo {
		var i acmeapi.RenewalInfo
		i.SelectedTime = from.Add(time.Duration(day) * 24 * time.Hour)
		i.SuggestedWindow.Start, i.SuggestedWindow.End = i.SelectedTime, i.SelectedTime.Add(time.Hour)
		return i
	}
	for name, c := range map[string]struct {
		info acmeapi.RenewalInfo
		day  int
	}{
		"it does not say":            {acmeapi.RenewalInfo{}, 60},
		"it says":                    {info(50), 50},
		"it says at once":            {info(-1), -1},
		"it says later than is safe": {info(89), 75},
	} {
		if got := renewAt(leaf, c.info); !got.Equal(from.Add(time.Duration(c.day) * 24 * time.Hour)) {
			t.Errorf("%s: %s", name, got)
		}
	}
}

func TestTriesBecomeRarerAndNeverTooRareForWhatIsLeft(t *testing.T) {
	for _, c := range []struct {
		failures int
		left     time.Duration
		want     time.Duration
	}{
		{1, 0, time.Minute}, {2, 0, 2 * time.Minute}, {5, 0, 16 * time.Minute}, {30, 0, maxBackoff},
		{30, 4 * time.Hour, time.Hour}, {30, time.Second, 10 * time.Second},
	} {
		if got := backoff(time.Minute, c.failures, c.left, 0.5); got != c.want {
			t.Errorf("%d failures, %s left: %s, expected %s", c.failures, c.left, got, c.want)
		}
		if lo, hi := backoff(time.Minute, c.failures, c.left, 0), backoff(time.Minute, c.failures, c.left, 0.999); lo < c.want*7/10 || hi > c.want*13/10 || lo >= hi {
			t.Errorf("%d failures: drawn out of %s to %s", c.failures, lo, hi)
		}
	}
}

// changing is a control plane at which something happens when it is asked.
type changing struct {
	Control
	happens func()
}

func (c changing) Current() *fleet.World { c.happens(); return &fleet.World{} }

func TestWhatChangesWhileItIsWorkedOnIsWorkedOnAgainAtOnce(t *testing.T) {
	var m *Manager
	work := &task{want: want{cert: &fleet.Certificate{ID: "web", ACME: &fleet.ACME{}}, name: "www.demo.test"}, with: objects{ca: []byte("none")}}
	other := want{cert: &fleet.Certificate{ID: "web", ACME: &fleet.ACME{Directory: fleet.Internal}}, name: "www.demo.test"}
	m, err := New(Config{Store: struct{ Store }{}, Logger: slog.New(slog.DiscardHandler), Control: changing{happens: func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		work.remake(other, &fleet.World{})
	}}})
	if err != nil {
		t.Fatal(err)
	}
	m.work(t.Context(), work) // which fails, since there is no such authority
	if work.want != other || !work.next.IsZero() || work.failures != 0 || work.busy {
		t.Errorf("%+v", work)
	}
}

func TestNewNamesAnHourAreBounded(t *testing.T) {
	var a allowance
	now := time.Unix(0, 0)
	taken := func(n int) (got int) {
		for range n {
			if a.take(10, now) {
				got++
			}
		}
		return got
	}
	if n := taken(50); n != 10 {
		t.Errorf("%d at once", n)
	}
	now = now.Add(30 * time.Minute)
	if n := taken(50); n != 5 {
		t.Errorf("%d after half an hour", n)
	}
	now = now.Add(100 * time.Hour)
	if n := taken(50); n != 10 {
		t.Errorf("%d after a long time", n)
	}
}

const planSpec = `
regions: [{id: a, location: {latitude: 1, longitude: 1}, vips: {v4: [192.0.2.1]}}]
nodes: [{name: n, region: a, roles: [l7, dns], addresses: {v4: 10.0.0.1}}]
zones: [{zone: demo.test, records: "@ 60 SOA ns host 1 3600 600 86400 60\n@ 60 NS ns\nns 60 A 127.0.0.1\n"}]
services: [{service: w, protocol: https, ports: [443], hosts: [WWW.demo.test, api.demo.test], pools: [{id: p, endpoints: [{address: "10.0.0.2:80"}]}]}]
certificates:
- {id: one, acme: {names: [api.demo.test]}}
- {id: rest, acme: {on_demand: {hosts: ["*.shops.test", one.test], zones: [demo.test]}}}
`

func planWorld(t *testing.T, live ...string) *fleet.World {
	t.Helper()
	s, err := rules.Compile([]byte(planSpec), 1)
	if err != nil {
		t.Fatal(err)
	}
	w := &fleet.World{Snapshot: s}
	var put []fleet.Object
	for _, id := range live {
		put = append(put, rules.LiveObject(fleet.Name(id), nil))
	}
	w.Live = w.Live.With(put, nil)
	return w
}

func TestWhatIsWantedFollowsTheSpecAndWhatWasAskedFor(t *testing.T) {
	w := planWorld(t, "certificate/rest/a.shops.test", "certificate/rest/a.b.shops.test", "certificate/rest/x.y.demo.test",
		"certificate/gone/www.demo.test", "certificate/one/old.demo.test", "token/t")
	list, gone := wanted(w)
	if got := fmt.Sprint(slices.Sorted(maps.Keys(list))); got != "[one/api.demo.test rest/a.shops.test rest/www.demo.test rest/x.y.demo.test]" {
		t.Errorf("wanted %s", got)
	}
	if got := fmt.Sprint(gone); got != "[certificate/gone/www.demo.test certificate/one/old.demo.test certificate/rest/a.b.shops.test]" {
		t.Errorf("gone %s", got)
	}
	if !list["rest/a.shops.test"].demanded || list["rest/www.demo.test"].demanded {
		t.Error("what clients asked for is not told from what the Spec names")
	}
	for name, want := range map[string]bool{"b.shops.test": true, "shops.test": false, "one.test": true, "two.test": false, "deep.er.demo.test": true, "": false, "*.shops.test": false} {
		if got := demandOf(w.Snapshot.Spec, name) != nil; got != want {
			t.Errorf("%q: %v", name, got)
		}
	}
}
