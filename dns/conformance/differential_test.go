package conformance

import (
	"slices"
	"sync"
	"testing"
)

// TestDifferential asks Meridian, BIND, NSD and Knot the same questions about
// the same zones. Aspect by aspect Meridian must say what at least two of the
// three say; where all three differ, what one of them says; or else the
// difference must be in differences.txt with the clause that decides it, and
// what is listed there must occur.
func TestDifferential(t *testing.T) {
	list := readDifferences(t).without(aspectFile, aspectOdd)
	total := 0
	for _, w := range worlds(t) {
		t.Run(w.name, func(t *testing.T) { total += differential(t, w, list, meridian) })
	}
	if total < 5000 && !t.Failed() {
		t.Errorf("the corpus has %d questions, and must have 5000", total)
	}
	if !t.Failed() {
		list.unused(t)
	}
	t.Logf("%d questions", total)
}

// differential runs the servers and judges Meridian by the others.
func differential(t *testing.T, w world, list *differences, ours func(testing.TB, string) peer) int {
	servers := []peer{ours(t, w.dir), bind(t, w.zones), nsd(t, w.zones), knot(t, w.zones)}
	replies := make([][]normal, len(servers))
	var wg sync.WaitGroup
	for i, s := range servers {
		wg.Go(func() { replies[i] = askAll(s, w.queries) })
	}
	wg.Wait()
	sum := newSummary()
	for i, q := range w.queries {
		by := []normal{replies[0][i], replies[1][i], replies[2][i], replies[3][i]}
		sum.count(peers, by)
		if by[0].size > q.mode.limit() {
			t.Errorf("%s: Meridian's response has %d octets", q.key(), by[0].size)
		}
		whole(by, servers, q)
		row := sum.zone(q.zone)
		row[0]++
		for _, d := range judge(by) {
			if list.find(d, q, by) != "" {
				row[1]++
				continue
			}
			row[2]++
			t.Errorf("%s %s (%d, %d, %d, %d octets)\nours: %s\n%s", d.aspect, q.key(), by[0].size, by[1].size, by[2].size, by[3].size, d.ours, d.theirs)
		}
	}
	t.Log("\n" + sum.String())
	return len(w.queries)
}

// whole takes from TCP what a peer has truncated where Meridian has not: who
// finds room for all that is required need not set TC (RFC 2181 section 9),
// and has to give all of it.
func whole(by []normal, servers []peer, q query) {
	if by[0].tc {
		return
	}
	for i, s := range servers {
		if by[i].tc {
			c := client{addr: s.addr}
			by[i] = normalise(c.ask(q.wire(1), true), q.qt)
			c.close()
		}
	}
}

// TestPowerDNSForInformation asks PowerDNS what is not signed, beside the
// others; nothing is demanded of anyone.
func TestPowerDNSForInformation(t *testing.T) {
	w := worlds(t)[0].only(".plain.")
	servers := []peer{meridian(t, w.dir), bind(t, w.zones), nsd(t, w.zones), knot(t, w.zones), powerdns(t, w.zones)}
	replies := make([][]normal, len(servers))
	for i, s := range servers {
		replies[i] = askAll(s, w.queries)
	}
	sum := newSummary()
	for i := range w.queries {
		by := make([]normal, len(servers))
		for s := range servers {
			by[s] = replies[s][i]
		}
		sum.count(append(slices.Clone(peers), "powerdns"), by)
	}
	t.Log("\n" + sum.String())
}
