//go:build linux

package lab

import (
	"fmt"
	"strings"
	"time"
)

// guide says how to look at the running fleet, and how to act on it.
func (d *demo) guide() {
	top := d.lab.Topology
	d.say("\nThe fleet serves. Look at it:\n")
	d.say("  dashboard   http://127.0.0.1:%d/", portalDashboard)
	for _, id := range []string{"berlin", "tokyo", "sao-paulo"} {
		for _, c := range top.Cities {
			if c.ID == id {
				d.say("  %-11s dig @127.0.0.1 -p %d %s +subnet=%s", c.Name, portalDNS, RegionalName, c.Subnet)
			}
		}
	}
	for i, c := range top.Cities {
		if c.ID == "berlin" || c.ID == "tokyo" {
			port := portalHTTPS + i
			host := RegionalName
			if top.HTTPSPort != 443 {
				host = fmt.Sprintf("%s:%d", RegionalName, top.HTTPSPort)
			}
			d.say("  %-11s curl --cacert %s --connect-to ::127.0.0.1:%d https://%s/", c.Name, d.lab.path(caFile), port, host)
		}
	}
	var own []string
	for i, r := range top.Regions {
		own = append(own, fmt.Sprintf("%d %s", portalDNS+1+i, r.ID))
	}
	d.say("  nameservers of the regions at ports %s; logs and data in %s", strings.Join(own, ", "), d.lab.Dir)
	d.say("\nAct on it, here or as `gslb demo kill fra` from another shell:\n")
	d.say("  k REGION  kill it: all links down, all processes gone      r REGION  restore it, or take shifts back")
	d.say("  d REGION  drain it                                         s REGION [PERCENT]  shift clients elsewhere")
	d.say("  q         quit\n")
}

// A board tells the visitor where each city is served from, when that changes
// and now and then.
type board struct {
	lab  *Lab
	say  func(format string, args ...any)
	told map[string]string
	at   time.Time // of the last summary
}

// summaryEvery is the time between two summaries.
const summaryEvery = 15 * time.Second

func (b *board) update(seen *tally) {
	now := map[string]string{}
	for id, r := range seen.last() {
		where := "not served (" + reason(r.err) + ")"
		if r.err == nil {
			where = r.region
		}
		now[id] = where
	}
	for i := range b.lab.Topology.Cities {
		c := &b.lab.Topology.Cities[i]
		if b.told != nil && now[c.ID] != b.told[c.ID] && now[c.ID] != "" {
			b.say("%s  %s: %s, was %s", time.Now().Format(time.TimeOnly), c.Name, now[c.ID], b.told[c.ID])
		}
	}
	b.told = now
	if time.Since(b.at) < summaryEvery {
		return
	}
	b.at = time.Now()
	var parts []string
	for i := range b.lab.Topology.Cities {
		c := &b.lab.Topology.Cities[i]
		if r, ok := seen.last()[c.ID]; ok && r.err == nil {
			parts = append(parts, fmt.Sprintf("%s %s %d ms", c.Name, r.region, r.took.Milliseconds()))
		} else {
			parts = append(parts, c.Name+" "+now[c.ID])
		}
	}
	n := seen.counts()
	b.say("%s  %d requests, %d failed. %s", b.at.Format(time.TimeOnly), n.Total, n.Failed, strings.Join(parts, ", "))
}

// reason shortens an error to what a visitor needs.
func reason(err error) string {
	if err == nil {
		return ""
	}
	s := err.Error()
	if i := strings.LastIndex(s, ": "); i >= 0 {
		s = s[i+2:]
	}
	return s
}
