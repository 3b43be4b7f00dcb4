package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"meridian/cli"
	"meridian/edge/xdp"
	"meridian/fleet"
)

func runTop(ctx context.Context, args []string) error {
	fs := cli.Flags("edge top [flags]", "edge top --interval 2s")
	var c client
	c.register(fs)
	interval := fs.Duration("interval", time.Second, "how long one look takes")
	asJSON := fs.Bool("json", false, "look once and print it as JSON")
	lines := fs.Int("lines", 10, "`N` lines of each kind")
	var want fleet.PacketSampling
	fs.IntVar(&want.Rate, "rate", 100, "find talkers by one in `N` packets")
	fs.IntVar(&want.PerSecond, "per-second", 5000, "but by at most `N` packets a second")
	rest, err := cli.Parse(fs, args)
	if err != nil {
		return err
	}
	if len(rest) > 0 || *interval <= 0 || *lines < 1 || want.Rate < 1 || want.PerSecond < 1 {
		return cli.Usagef(fs, "edge top: expected no arguments, and positive numbers")
	}
	w := newWatch(&c, *lines)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var reading sync.WaitGroup
	reading.Go(func() {
		if err := c.samples(ctx, want, w.add); err != nil {
			cancel(err)
		}
	})
	defer reading.Wait()
	defer cancel(nil)
	for first := true; ; first = false {
		look, err := w.look(ctx, *interval)
		switch {
		case ctx.Err() != nil:
			return stopped(ctx)
		case err != nil:
			return err
		case *asJSON:
			enc := json.NewEncoder(os.Stdout)
			enc.SetIndent("", "  ")
			return enc.Encode(look)
		case first:
			fmt.Print("\x1b[2J") // clear the screen
		}
		fmt.Print("\x1b[H") // to its beginning
		if err := look.show(os.Stdout); err != nil {
			return err
		}
		fmt.Print("\x1b[J") // and clear what is left
	}
}

// stopped gives why ctx ended; nil: the user wants no more.
func stopped(ctx context.Context) error {
	if err := context.Cause(ctx); err != context.Canceled {
		return err
	}
	return nil
}

// look is what went on in one interval, in packets a second.
type look struct {
	Time    time.Time `json:"time"`
	Packets float64   `json:"packets"` // all that came to the device
	Dropped float64   `json:"dropped"`
	Reasons []counted `json:"reasons"` // what became of them, the most first
	VIPs    []counted `json:"vips"`    // without what was dropped before
	Talkers []talker  `json:"talkers"` // by samples
	Sampled int       `json:"sampled"`
}

type counted struct {
	Name    string  `json:"name"`
	Service string  `json:"service,omitempty"`
	Packets float64 `json:"packets"`
	Bits    float64 `json:"bits,omitempty"`
}

type talker struct {
	Source  netip.Addr `json:"source"`
	Packets float64    `json:"packets"`
	Bits    float64    `json:"bits"`
	Dropped float64    `json:"dropped"` // of the packets
	To      string     `json:"to"`      // where most of them went
	Reason  string     `json:"reason"`  // what became of most
}

// watch gathers samples between two looks. It is safe for concurrent use.
type watch struct {
	c      *client
	lines  int
	before *xdp.Traffic
	last   time.Time

	mu      sync.Mutex
	samples []*xdp.Sample
}

func newWatch(c *client, lines int) *watch { return &watch{c: c, lines: lines} }

func (w *watch) add(s *xdp.Sample) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.samples = append(w.samples, s)
	return true
}

// look waits for the interval's end and gives what went on in it.
func (w *watch) look(ctx context.Context, interval time.Duration) (*look, error) {
	if w.before == nil {
		w.before = new(xdp.Traffic)
		if err := w.c.ask(ctx, http.MethodGet, "/traffic", nil, w.before); err != nil {
			return nil, err
		}
		w.last = time.Now()
	}
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(interval):
	}
	now := new(xdp.Traffic)
	if err := w.c.ask(ctx, http.MethodGet, "/traffic", nil, now); err != nil {
		return nil, err
	}
	w.mu.Lock()
	samples := w.samples
	w.samples = nil
	w.mu.Unlock()
	at := time.Now()
	l := lookAt(w.before, now, samples, at.Sub(w.last).Seconds(), w.lines)
	l.Time, w.before, w.last = at, now, at
	return l, nil
}

// lookAt compares two readings of the counters, and sums up the samples taken
// between them.
func lookAt(before, now *xdp.Traffic, samples []*xdp.Sample, seconds float64, lines int) *look {
	l := &look{Reasons: []counted{}, VIPs: []counted{}, Talkers: talkers(samples, seconds), Sampled: len(samples)}
	rate := func(now, before uint64) float64 { return float64(now-min(before, now)) / seconds }
	for reason, n := range now.Reasons {
		r := rate(n, before.Reasons[reason])
		l.Packets += r
		if strings.HasPrefix(reason, "drop_") {
			l.Dropped += r
		}
		if r > 0 {
			l.Reasons = append(l.Reasons, counted{Name: reason, Packets: r})
		}
	}
	was := map[string]xdp.VIPTraffic{}
	for _, v := range before.VIPs {
		was[v.VIP] = v
	}
	for _, v := range now.VIPs {
		if r := rate(v.Packets, was[v.VIP].Packets); r > 0 {
			l.VIPs = append(l.VIPs, counted{v.VIP, v.Service, r, 8 * rate(v.Octets, was[v.VIP].Octets)})
		}
	}
	most := func(a, b counted) int { return cmp.Or(cmp.Compare(b.Packets, a.Packets), cmp.Compare(a.Name, b.Name)) }
	slices.SortFunc(l.Reasons, most)
	slices.SortFunc(l.VIPs, most)
	l.Reasons, l.VIPs = l.Reasons[:min(lines, len(l.Reasons))], l.VIPs[:min(lines, len(l.VIPs))]
	l.Talkers = l.Talkers[:min(lines, len(l.Talkers))]
	return l
}

// talkers sums samples up by source, the most first.
func talkers(samples []*xdp.Sample, seconds float64) []talker {
	type sum struct {
		talker
		to, reasons map[string]int
	}
	sums := map[netip.Addr]*sum{}
	for _, s := range samples {
		if !s.Source.IsValid() {
			continue
		}
		t := sums[s.Source.Addr()]
		if t == nil {
			t = &sum{talker{Source: s.Source.Addr()}, map[string]int{}, map[string]int{}}
			sums[t.Source] = t
		}
		weight := float64(s.Rate) / seconds
		t.Packets += weight
		t.Bits += weight * 8 * float64(s.Length)
		if strings.HasPrefix(s.Reason, "drop_") {
			t.Dropped += weight
		}
		t.to[s.Destination.String()]++
		t.reasons[s.Reason]++
	}
	out := make([]talker, 0, len(sums))
	for _, t := range sums {
		t.To, t.Reason = most(t.to), most(t.reasons)
		out = append(out, t.talker)
	}
	slices.SortFunc(out, func(a, b talker) int {
		return cmp.Or(cmp.Compare(b.Packets, a.Packets), a.Source.Compare(b.Source))
	})
	return out
}

// most gives the key with the greatest count, the first in order among equals.
func most(counts map[string]int) string {
	return slices.MaxFunc(slices.Sorted(maps.Keys(counts)), func(a, b string) int { return cmp.Compare(counts[a], counts[b]) })
}

// show prints it for people.
func (l *look) show(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(cells ...string) { fmt.Fprint(tw, strings.Join(cells, "\t"), "\x1b[K\n") } // and clear the rest of the line
	line(fmt.Sprintf("%s  %s packets/s, %s dropped; talkers by %d samples", l.Time.Format(time.TimeOnly), short(l.Packets), short(l.Dropped), l.Sampled))
	line("")
	line("WHAT BECAME OF THEM", "PACKETS/S")
	for _, r := range l.Reasons {
		line(r.Name, short(r.Packets))
	}
	line("")
	line("VIP", "PACKETS/S", "BITS/S", "SERVICE")
	for _, v := range l.VIPs {
		line(v.Name, short(v.Packets), short(v.Bits), v.Service)
	}
	line("")
	line("SOURCE", "PACKETS/S", "BITS/S", "DROPPED/S", "MOSTLY TO", "MOSTLY")
	for _, t := range l.Talkers {
		line(t.Source.String(), short(t.Packets), short(t.Bits), short(t.Dropped), t.To, t.Reason)
	}
	return tw.Flush()
}

// short writes a number in three digits or so.
func short(v float64) string {
	for _, unit := range []string{"", "k", "M", "G"} {
		if v < 999.5 {
			if unit != "" && v < 99.95 {
				return fmt.Sprintf("%.1f%s", v, unit)
			}
			return fmt.Sprintf("%.0f%s", v, unit)
		}
		v /= 1000
	}
	return fmt.Sprintf("%.1fT", v)
}
