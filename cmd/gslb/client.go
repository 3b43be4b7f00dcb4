package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"meridian/cli"
	"meridian/controlplane/api"
	"meridian/dns/answer"
	"meridian/fleet"
	"meridian/rules"
)

// clientCommands are those that speak to a node's admin API, and those that an
// operator needs before there is one.
func clientCommands() []cli.Command {
	return []cli.Command{
		{Name: "check", Summary: "check a Spec and all that it refers to", Run: runCheck},
		{Name: "keygen", Summary: "make a fleet key", Run: runKeygen},
		{Name: "apply", Summary: "make a Spec the fleet's configuration", Run: runApply},
		{Name: "diff", Summary: "show what a Spec would change", Run: runDiff},
		{Name: "rollback", Summary: "go back to an earlier revision", Run: runRollback},
		{Name: "status", Summary: "show the fleet's nodes, revisions and health", Run: runStatus},
		{Name: "shift", Summary: "move a share of a region's clients elsewhere for a while", Run: runShift},
		{Name: "drain", Summary: "take all clients from a region", Run: runDrain},
		{Name: "undrain", Summary: "give a drained region its clients back", Run: runUndrain},
	}
}

// adminFlags are where the admin API is and how to show what it says.
type adminFlags struct {
	url   string
	token string
	json  bool
}

func (a *adminFlags) register(fs *flag.FlagSet) {
	fs.StringVar(&a.url, "admin", "http://127.0.0.1:8053", "`URL` of a node's admin API")
	fs.StringVar(&a.token, "token-file", filepath.Join("/var/lib/gslb", api.TokenFile), "`FILE` with that node's admin token")
	fs.BoolVar(&a.json, "json", false, "print JSON")
}

// callLimit bounds one call of the admin API.
const callLimit = time.Minute

func (a *adminFlags) client() (*api.Client, error) {
	token, err := api.LoadToken(a.token)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w; name the file with --token-file (a node keeps its token in its data directory)", err)
	}
	if err != nil {
		return nil, err
	}
	url := a.url
	if !strings.Contains(url, "://") {
		url = "http://" + url
	}
	return &api.Client{URL: url, Token: token, HTTP: &http.Client{Timeout: callLimit}}, nil
}

// show prints v as JSON, or as text does.
func (a *adminFlags) show(w io.Writer, v any, text func(io.Writer)) error {
	if !a.json {
		text(w)
		return nil
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// table prints lines of cells in columns.
func table(w io.Writer, rows [][]string) {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, r := range rows {
		fmt.Fprintln(tw, strings.Join(r, "\t"))
	}
	_ = tw.Flush()
}

// one gives the only argument of a command.
func one(fs *flag.FlagSet, rest []string, name, what string) (string, error) {
	if len(rest) != 1 {
		return "", cli.Usagef(fs, "gslb %s: expected %s", name, what)
	}
	return rest[0], nil
}

// showChanges prints what changes, and how much traffic that would move.
func showChanges(w io.Writer, changes []rules.Difference, impact any) {
	for _, d := range changes {
		fmt.Fprintln(w, " ", d)
	}
	showMoves(w, movesOf(impact))
}

// movesOf reads the impact as it came over the API.
func movesOf(impact any) []answer.Move {
	var out []answer.Move
	if b, err := json.Marshal(impact); err != nil || json.Unmarshal(b, &out) != nil {
		return nil
	}
	return out
}

// located puts the Spec's file before the lines of its errors.
func located(file string, err error) error {
	fields := fleet.FieldErrors(err)
	if len(fields) == 0 {
		return err
	}
	lines := make([]string, 0, len(fields)+1)
	lines = append(lines, fmt.Sprintf("%s has %d errors:", file, len(fields)))
	if len(fields) == 1 {
		lines[0] = file + " has an error:"
	}
	for _, f := range fields {
		at := file
		if f.Line > 0 { // 0: what is wrong is that it is missing
			at = fmt.Sprintf("%s:%d", file, f.Line)
		}
		lines = append(lines, fmt.Sprintf("%s: %s: %s", at, f.Path, f.Msg))
	}
	return errors.New(strings.Join(lines, "\n"))
}
