package main

import (
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"

	"meridian/edge/l7/balance"
	"meridian/edge/l7/why"
)

// showStory prints a journey in the order in which it was made. What others
// have said of it cannot act on the terminal.
func showStory(out io.Writer, s *story) {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-10s %s\n", name, fmt.Sprintf(format, args...))
	}
	line("request", "%s", s.URL)
	if d := s.DNS; d != nil {
		line("resolver", "%s, %s", d.Resolver, micros(d.Took))
		for _, r := range d.Records {
			line("answer", "%s", r)
		}
		if d.Scope != nil {
			line("", "for clients that share %d bits of the address", *d.Scope)
		}
	}
	if s.Steered != nil {
		for i, l := range strings.Split(strings.TrimSpace(s.Steered.String()), "\n") {
			line([]string{"steering", ""}[min(i, 1)], "%s", l)
		}
	}
	if s.Steered == nil && s.DNS != nil {
		line("steering", "not asked: --admin names a nameserver's API")
	}
	if s.Address.IsValid() {
		tls := ""
		if s.Timings.TLS > 0 {
			tls = ", TLS " + micros(s.Timings.TLS)
		}
		line("VIP", "%s, connected in %s%s", s.Address, micros(s.Timings.Connect), tls)
	}
	if r := s.Report; r != nil {
		showReport(line, r)
	}
	if s.Status != 0 {
		line("answer", "%d by %s, first octet after %s, body %s", s.Status, s.Proto, micros(s.Timings.Answer), micros(s.Timings.Body))
	}
	if s.Report != nil {
		showHops(line, s)
	}
	for _, t := range s.Trouble {
		line("trouble", "%s", t)
	}
	io.WriteString(out, strings.Map(func(r rune) rune {
		if r != '\n' && !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, b.String()))
}

// showHops prints how long each part of the way took.
func showHops(line lineFunc, s *story) {
	r := s.Report
	text := "client to VIP: connected in " + micros(s.Timings.Connect)
	if r.RTT > 0 {
		text += ", round trip " + micros(r.RTT)
	}
	line("hops", "%s", text)
	if r.Arrival > 0 {
		line("", "layer 4 to gateway: %s", micros(r.Arrival))
	} else {
		line("", "layer 4 to gateway: not measured (see layer4.latency_of)")
	}
	line("", "gateway: %s", micros(r.Timers.Wait))
	line("", "gateway to endpoint: connection %s, answer %s", micros(r.Timers.Connect), micros(r.Timers.Answer))
	if rest := s.Timings.Answer - r.Timers.Total - r.Arrival; rest > 0 {
		line("", "the rest, the network both ways among it: %s", micros(rest))
	}
}

// lineFunc prints one line of a story.
type lineFunc = func(name, format string, args ...any)

func showReport(line lineFunc, r *why.Report) {
	if r.Slot != nil {
		showSlot(line, r.Slot)
	}
	line("gateway", "%s in region %s, revision %d", r.Node, r.Region, r.Revision)
	from := r.Client.String()
	if r.Peer.Addr() != r.Client {
		from += " by " + r.Peer.String()
	}
	line("request", "%s, %s from %s to %s", r.ID, r.Proto, from, r.VIP)
	if r.Trace != "" {
		line("", "trace %s", r.Trace)
	}
	showRoute(line, r)
	for _, f := range r.Filters {
		line("filter", "%s: %s", f.Name, f.Decision)
	}
	if len(r.Candidates) > 0 {
		line("balance", "%s", orNone(r.Policy))
	}
	for i := range r.Candidates {
		line("", "%s", candidateText(&r.Candidates[i]))
	}
	if r.More > 0 {
		line("", "and %d more", r.More)
	}
	for i, t := range r.Tries {
		how := "new connection " + micros(t.Connect) + ", answer " + micros(t.Answer)
		switch {
		case t.Reused:
			how = "kept connection, answer " + micros(t.Answer)
		case t.Answer == 0:
			how = "no connection for " + micros(t.Connect)
		}
		outcome := t.Outcome
		if t.Status != 0 {
			outcome = fmt.Sprintf("%s %d", outcome, t.Status)
		}
		at := t.Endpoint
		if t.Region != "" {
			at = "gateways of region " + t.Region + " at " + at
		}
		line(fmt.Sprintf("try %d", i+1), "%s after %s: %s, %s", at, micros(t.Begin), outcome, how)
		if t.Gateway != nil {
			showReport(func(name, format string, args ...any) {
				line("", "  %-10s %s", name, fmt.Sprintf(format, args...))
			}, t.Gateway)
		}
	}
	if r.Flag != "" {
		line("fault", "%s", r.Flag)
	}
	line("timers", "waited %s, connect %s, endpoint %s: %s", micros(r.Timers.Wait), micros(r.Timers.Connect), micros(r.Timers.Answer), micros(r.Timers.Total))
}

func showSlot(line lineFunc, s *why.Slot) {
	line("layer 4", "slot %d of %d of ring %s, service %s", s.Slot, s.Slots, s.Ring, s.Service)
	switch {
	case s.GoesTo != "" && s.GoesTo != s.Owner:
		line("", "the slot is %s's, the flow goes to %s", s.Owner, s.GoesTo)
	case s.Owner != "":
		line("", "the flow goes to %s", s.Owner)
	}
	line("", "%s", s.Reason)
}

func showRoute(line lineFunc, r *why.Report) {
	if r.Service == "" {
		line("route", "no service has host %s", r.Host)
		return
	}
	line("route", "host %s: service %s, pool %s", r.Host, r.Service, orNone(r.Pool))
	if r.Route == nil {
		return
	}
	for _, p := range r.Route.Passed {
		line("", "not %s: %s", p.Name, p.Why)
	}
	if r.Route.Place != "" {
		line("", "%s (%s): %s", r.Route.Name, r.Route.Place, r.Route.Asks)
	} else {
		line("", "no route takes the request")
	}
}

func candidateText(c *balance.Candidate) string {
	text := fmt.Sprintf("%s %s, score %.4g, %d under way", c.Name, c.State, c.Score, c.Active)
	if c.Latency > 0 {
		text += ", latency " + micros(c.Latency.Microseconds())
	}
	if c.Weight < 1 {
		text += fmt.Sprintf(", at %.0f %% of its weight", 100*c.Weight)
	}
	if c.Zone != "" {
		text += ", zone " + c.Zone
	}
	if c.Panic {
		text += ", too few are healthy"
	}
	if c.Ejected > 0 {
		text += fmt.Sprintf(", ejected for %s", c.Ejected.Round(time.Second))
	}
	return text + ": " + string(c.Reason)
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

func micros(us int64) string { return (time.Duration(us) * time.Microsecond).String() }
