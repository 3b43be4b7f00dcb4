package answer

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"meridian/fleet"
)

// recorded is how many decisions each half of the test below records and makes
// again.
const recorded = 50_000

// Every answer, of plain zones and of signed ones, is a function of what its record names: 100,000 random queries
// under random Views and shifts, written as a log and read back, are answered
// with the same bytes.
func TestRecordedDecisionsReplayToTheSameBytes(t *testing.T) {
	t.Run("plain", func(t *testing.T) { replay(t, policyWorld(t)) })
	t.Run("signed", func(t *testing.T) { replay(t, signedPolicies(t)) })
}

func replay(t *testing.T, w *fleet.World) {
	r := rand.New(rand.NewPCG(3, 4))
	source := randomAtlas(r)
	first, err := Compile(id, w, source, nil, now, nil)
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	enc := json.NewEncoder(&log)
	const views = 40
	p := first
	var worker Worker
	out := make([]byte, MaxStream)
	for range views {
		next := *w
		next.Shifts = randomShifts(r)
		if p, err = Compile(id, &next, source, randomView(r, w.Snapshot), now, p); err != nil {
			t.Fatal(err)
		}
		m, err := p.Moment()
		if err != nil {
			t.Fatal(err)
		}
		if err := enc.Encode(LogLine{Moment: m}); err != nil {
			t.Fatal(err)
		}
		for range recorded / views {
			q, c := randomQuery(t, r)
			n, _ := p.Answer(&worker, q, c, out)
			rec := worker.Record(m.Hash(), q, c, out[:n])
			if err := enc.Encode(LogLine{Record: &rec}); err != nil {
				t.Fatal(err)
			}
		}
	}
	replayed := 0
	plans := map[string]*Plan{}
	for line := range bytes.Lines(log.Bytes()) {
		var l LogLine
		if err := json.Unmarshal(line, &l); err != nil {
			t.Fatal(err)
		}
		if l.Moment != nil {
			if plans[l.Moment.Hash()], err = first.AtMoment(l.Moment); err != nil {
				t.Fatal(err)
			}
			continue
		}
		got := plans[l.Record.Moment].Replay(l.Record)
		if !bytes.Equal(got, l.Record.Answer) {
			t.Fatalf("query %x of %s:\nwas    %x\nreplay %x", l.Record.Query, l.Record.Client, l.Record.Answer, got)
		}
		replayed++
	}
	if replayed != recorded {
		t.Errorf("%d of %d decisions were replayed", replayed, recorded)
	}
}

func randomQuery(t *testing.T, r *rand.Rand, changes ...func(*dns.Msg)) ([]byte, Client) {
	t.Helper()
	name := fmt.Sprintf("p%d.p.test", r.IntN(len(policies)+1))
	qtype := []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeHTTPS, dns.TypeANY, dns.TypeMX}[r.IntN(5)]
	c := Client{Addr: netip.AddrFrom4([4]byte{10, byte(r.IntN(256)), byte(r.IntN(256)), byte(r.IntN(256))}), Stream: r.IntN(5) == 0}
	if r.IntN(3) == 0 {
		changes = append(changes, func(m *dns.Msg) { m.SetEdns0(1232, true) })
	}
	if r.IntN(2) == 0 {
		p, _ := netip.AddrFrom4([4]byte{10, byte(r.IntN(256)), byte(r.IntN(256)), byte(r.IntN(256))}).Prefix(r.IntN(33))
		changes = append(changes, subnetOf(p.String()))
	}
	m := query(name, qtype, changes...)
	m.Id = uint16(r.Uint32())
	return pack(t, m), c
}

// A moment of another Spec or another database is refused.
func TestMomentsOfSomethingElseAreRefused(t *testing.T) {
	p := newPlan(t, nil)
	m, err := p.Moment()
	if err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*Moment){
		"another geo database": func(m *Moment) { m.Geo = "other" },
		"the Spec with hash":   func(m *Moment) { m.Config = strings.Repeat("0", 64) },
	} {
		other := *m
		change(&other)
		if _, err := p.AtMoment(&other); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	if _, err := Zones(id, nil).Moment(); err == nil {
		t.Error("a plan without a fleet has a moment")
	}
	if _, err := p.AtMoment(m); err != nil {
		t.Error(err)
	}
}
