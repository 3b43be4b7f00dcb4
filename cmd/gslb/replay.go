package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/miekg/dns"

	"meridian/cli"
	"meridian/dns/answer"
)

// appendRecord appends an explanation's record, and its moment before it, to a
// log of JSON lines.
func appendRecord(file string, e *answer.Explanation) error {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("--record: %w", err)
	}
	enc := json.NewEncoder(f)
	err = errors.Join(enc.Encode(answer.LogLine{Moment: e.Moment}), enc.Encode(answer.LogLine{Record: e.Record}), f.Close())
	if err != nil {
		return fmt.Errorf("--record: %w", err)
	}
	return nil
}

// replayed is what came of a log.
type replayed struct {
	Records int      `json:"records"`
	Same    int      `json:"same"`             // answered with the same bytes
	Cookies int      `json:"cookies"`          // the same but for cookies, whose secrets are not at hand
	Other   []string `json:"others,omitempty"` // answered otherwise, ten at most shown
}

func runReplay(_ context.Context, args []string) error {
	fs := cli.Flags("gslb replay FILE --spec FILE [--views FILE] [flags]", "gslb replay answers.jsonl --spec fleet.yaml")
	spec := fs.String("spec", "", "the Spec in `FILE` by which the answers were given, with its zones as they were")
	views := fs.String("views", "", "`FILE` with the moments of the records, where they are not among them")
	asJSON := fs.Bool("json", false, "print JSON")
	var databases cli.List
	fs.Var(&databases, "geo", "geo database `FILE` of then (default the embedded country database)")
	rest, err := cli.Parse(fs, args)
	if err != nil {
		return err
	}
	file, err := one(fs, rest, "replay", "the log's file")
	if err != nil {
		return err
	}
	if *spec == "" {
		return cli.Usagef(fs, "gslb replay: --spec is missing")
	}
	out, err := replayLog(file, *spec, *views, databases)
	if err != nil {
		return err
	}
	if err := (&adminFlags{json: *asJSON}).show(os.Stdout, out, out.show); err != nil {
		return err
	}
	return out.err()
}

// replayLog answers the records of a log again, by a Spec.
func replayLog(file, spec, views string, databases []string) (*replayed, error) {
	w, unread, err := readZones(spec)
	if err != nil {
		return nil, located(spec, err)
	}
	source, err := openGeo(databases)
	if err != nil {
		return nil, err
	}
	p, err := answer.Compile(answer.Identity{}, w, source, nil, time.Time{}, nil)
	if err != nil {
		return nil, errors.Join(unread, err)
	}
	r := replayer{plan: p, moments: map[string]*answer.Plan{}}
	for _, name := range []string{views, file} {
		if name == "" {
			continue
		}
		if err := r.read(name); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return &r.out, nil
}

// err says so where some records are answered otherwise.
func (r *replayed) err() error {
	if n := r.Records - r.Same - r.Cookies; n > 0 {
		return fmt.Errorf("%d of %d records are answered otherwise", n, r.Records)
	}
	return nil
}

func (r *replayed) show(w io.Writer) {
	fmt.Fprintf(w, "%d of %d records are answered with the same bytes\n", r.Same, r.Records)
	if r.Cookies > 0 {
		fmt.Fprintf(w, "%d more are the same but for their cookies\n", r.Cookies)
	}
	for _, line := range r.Other {
		fmt.Fprintln(w, line)
	}
}

// replayer answers the records of a log again.
type replayer struct {
	plan    *answer.Plan
	moments map[string]*answer.Plan
	out     replayed
}

// maxLine bounds one line of a log.
const maxLine = 64 << 20

func (r *replayer) read(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	in := bufio.NewScanner(f)
	in.Buffer(nil, maxLine)
	for line := 1; in.Scan(); line++ {
		var l answer.LogLine
		if err := json.Unmarshal(in.Bytes(), &l); err != nil {
			return fmt.Errorf("line %d: %w", line, err)
		}
		if l.Moment != nil {
			if r.moments[l.Moment.Hash()], err = r.plan.AtMoment(l.Moment); err != nil {
				return fmt.Errorf("line %d: %w", line, err)
			}
		}
		if l.Record == nil {
			continue
		}
		p := r.moments[l.Record.Moment]
		if p == nil {
			return fmt.Errorf("line %d: no moment with hash %q stands before it", line, l.Record.Moment)
		}
		r.compare(l.Record, p.Replay(l.Record), line)
	}
	return in.Err()
}

func (r *replayer) compare(rec *answer.Record, got []byte, line int) {
	r.out.Records++
	was, is := plainText(rec.Answer), plainText(got)
	switch {
	case bytes.Equal(rec.Answer, got):
		r.out.Same++
	case was == is:
		r.out.Cookies++
	case len(r.out.Other) < 10:
		r.out.Other = append(r.out.Other, fmt.Sprintf("line %d, client %s:\n%s\nnow:\n%s", line, rec.Client, was, is))
	}
}

// plainText renders a message without its cookie.
func plainText(b []byte) string {
	var m dns.Msg
	if err := m.Unpack(b); err != nil {
		return fmt.Sprintf("%x", b)
	}
	if o := m.IsEdns0(); o != nil {
		kept := o.Option[:0]
		for _, opt := range o.Option {
			if opt.Option() != dns.EDNS0COOKIE {
				kept = append(kept, opt)
			}
		}
		o.Option = kept
	}
	return m.String()
}
