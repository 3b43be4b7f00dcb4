package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"meridian/cli"
	"meridian/controlplane"
	"meridian/controlplane/api"
	"meridian/fleet"
)

// standing is all that gslb status shows.
type standing struct {
	Status *api.StatusReply `json:"status"`
	Health *api.HealthReply `json:"health"`
	Shifts []fleet.Shift    `json:"shifts"`
}

func runStatus(ctx context.Context, args []string) error {
	fs := cli.Flags("gslb status [flags]", "gslb status --admin http://127.0.0.1:8053")
	var f adminFlags
	f.register(fs)
	rest, err := cli.Parse(fs, args)
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		return cli.Usagef(fs, "gslb status: unexpected argument %q", rest[0])
	}
	c, err := f.client()
	if err != nil {
		return err
	}
	var st standing
	if st.Status, err = c.Status(ctx); err != nil {
		return err
	}
	if st.Health, err = c.Health(ctx); err != nil {
		return err
	}
	if st.Shifts, err = c.Shifts(ctx); err != nil {
		st.Shifts = nil // a node without a control plane has none to tell of
	}
	return f.show(os.Stdout, st, func(w io.Writer) { showStatus(w, &st, time.Now()) })
}

func showStatus(w io.Writer, st *standing, now time.Time) {
	s := st.Status
	showSource(w, s, now)
	const most = 10
	for i, z := range s.ZoneProblems {
		if i == most {
			fmt.Fprintf(w, "and more zones with a problem; see gslb zone list\n")
			break
		}
		fmt.Fprintf(w, "zone %s: %s\n", z.Zone, z.Problem)
	}
	if f := st.Health.Fleet; f != nil {
		rows := [][]string{{"\nREGION", "STATE", "SINCE", "WHY"}}
		for _, r := range f.Regions {
			rows = append(rows, []string{r.Region, r.State, ago(r.Since, now), r.Why})
		}
		table(w, rows)
	}
	if len(s.Nodes) > 0 {
		rows := [][]string{{"\nNODE", "REVISION", "ANSWER", "CONNECTED", "ERROR"}}
		for _, n := range s.Nodes {
			rows = append(rows, nodeRow(n, now))
		}
		table(w, rows)
	}
	if len(st.Shifts) > 0 {
		rows := [][]string{{"\nSHIFT", "FROM", "SHARE", "ENDS", "REASON"}}
		for _, sh := range st.Shifts {
			ends := "when taken back"
			if !sh.Expires.IsZero() {
				ends = "in " + sh.Expires.Sub(now).Round(time.Second).String()
			}
			rows = append(rows, []string{sh.ID, sh.From, fmt.Sprintf("%g %%", sh.Share*100), ends, sh.Reason})
		}
		table(w, rows)
	}
}

// showSource tells what is served and where it comes from.
func showSource(w io.Writer, s *api.StatusReply, now time.Time) {
	switch {
	case s.Node == "":
		fmt.Fprintln(w, "this nameserver serves a folder of zones (--zones) and has no Spec; see gslb zone list")
	case s.Revision == 0 && s.Hash == "":
		next := "submit one with gslb apply"
		if s.Store.File != "" {
			next = "it comes from " + s.Store.File
		}
		fmt.Fprintf(w, "%s: there is no Spec yet; %s\n", s.Node, next)
	default:
		fmt.Fprintf(w, "%s: revision %d from %s, for %s\n", s.Node, s.Revision, s.Source, ago(s.Since, now))
	}
	switch {
	case s.Store.File != "" && s.Store.Error != "":
		fmt.Fprintf(w, "spec: %s IS NOT USABLE as it is now; what was served before stays:\n  %s\n", s.Store.File, strings.ReplaceAll(s.Store.Error, "\n", "\n  "))
	case s.Store.File != "":
		fmt.Fprintf(w, "spec: %s\n", s.Store.File)
	case s.Store.Connected:
		fmt.Fprintln(w, "store: connected")
	case s.Store.Error != "":
		fmt.Fprintf(w, "store: AWAY: %s\n", s.Store.Error)
	}
	if s.Problem != "" {
		fmt.Fprintf(w, "problem: %s\n", s.Problem)
	}
}

func nodeRow(a controlplane.Ack, now time.Time) []string {
	row := []string{a.Node, "none", "never seen", "no", a.Error}
	if a.Applied > 0 {
		row[1] = strconv.FormatUint(a.Applied, 10)
	}
	switch a.State {
	case controlplane.Sent:
		row[2] = fmt.Sprintf("sent %d %s ago", a.Revision, ago(a.SentAt, now))
	case controlplane.Acked:
		row[2] = fmt.Sprintf("acknowledged %s ago", ago(a.At, now))
	case controlplane.Nacked:
		row[2] = fmt.Sprintf("REFUSED %d %s ago", a.Revision, ago(a.At, now))
	}
	if a.Online {
		row[3] = "to " + a.Replica
	}
	return row
}

// ago gives the time since t in a form for people; "-" where t is not known.
func ago(t, now time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return max(now.Sub(t), 0).Round(time.Second).String()
}
