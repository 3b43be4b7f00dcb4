package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"meridian/cli"
	"meridian/controlplane"
	"meridian/controlplane/api"
	"meridian/dns/zone"
	"meridian/fleet"
	"meridian/rules"
)

// zoneCommand is one of gslb zone's own commands.
type zoneCommand struct {
	name, args, summary, example string
	run                          func(ctx context.Context, z *zoneFlags, fs *flag.FlagSet, rest []string) error
	remote                       bool // it may be asked of a node or a nameserver
}

// zoneFlags are those of gslb zone's commands; each command has some.
type zoneFlags struct {
	adminFlags
	transferFlags
	name    string // of the command
	served  bool
	strict  bool
	ifMatch string
	out     string
	from    string
	zones   string
}

// commandsOfZone lists them in the order of their help.
func commandsOfZone() []zoneCommand {
	return []zoneCommand{
		{"check", "[NAME] FILE", "check a zone file: all errors and warnings with file and line", "gslb zone check example.com.zone", checkZone, false},
		{"diff", "A B", "show which records differ between two files, or a file and a zone that is served", "gslb zone diff old/example.com.zone example.com", diffZones, true},
		{"list", "", "list the fleet's zones", "gslb zone list", listZones, true},
		{"show", "NAME", "show a zone as its writer wrote it", "gslb zone show example.com", showZone, true},
		{"export", "NAME", "write a zone as nameservers serve it, with its signatures, as a master file", "gslb zone export example.com > example.com.zone", exportZone, true},
		{"put", "NAME FILE", "make or replace a zone", "gslb zone put example.com example.com.zone", putZone, true},
		{"set", "NAME RRNAME TYPE TTL DATA...", "replace one RRset; each DATA is one record", "gslb zone set example.com www A 60 192.0.2.1 192.0.2.2", setRecords, true},
		{"del", "NAME [RRNAME TYPE]", "remove one RRset, or the whole zone", "gslb zone del example.com www A", deleteRecords, true},
		{"notify", "NAME", "tell the zone's secondaries that it has changed", "gslb zone notify example.com", zoneAction, true},
		{"refresh", "NAME", "ask the zone's primaries whether it has changed", "gslb zone refresh example.com", zoneAction, true},
		{"retransfer", "NAME", "transfer the zone whole from its primaries", "gslb zone retransfer example.com", zoneAction, true},
		{"import", "FILE|DIR...", "turn named.conf, PowerDNS zones, gdnsd's configuration or Route 53's JSON into a Spec and zone files", "gslb zone import --from bind --out imported /etc/bind/named.conf", importZones, false},
	}
}

// zoneCommands is gslb zone.
func zoneCommands() []cli.Command {
	return []cli.Command{{Name: "zone", Summary: "check, show, change and import zones", Run: runZone}}
}

func runZone(ctx context.Context, args []string) error {
	commands := commandsOfZone()
	if len(args) > 0 {
		for _, c := range commands {
			if c.name == args[0] {
				return c.call(ctx, args[1:])
			}
		}
	}
	w := os.Stdout
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") && args[0] != "help" {
		w = os.Stderr
		fmt.Fprintf(w, "gslb zone: unknown command %q\n\n", args[0])
	}
	fmt.Fprint(w, "Usage: gslb zone COMMAND [flags]\n\n")
	var rows [][]string
	for _, c := range commands {
		rows = append(rows, []string{"  " + c.name, c.args, c.summary})
	}
	table(w, rows)
	fmt.Fprint(w, "\nEach command has --help with an example.\n")
	if w == os.Stderr {
		return cli.ErrUsage
	}
	return nil
}

func (c *zoneCommand) call(ctx context.Context, args []string) error {
	fs := cli.Flags(strings.TrimSpace("gslb zone "+c.name+" "+c.args)+" [flags]", c.example)
	z := zoneFlags{name: c.name}
	if c.remote {
		z.adminFlags.register(fs)
	} else {
		fs.BoolVar(&z.json, "json", false, "print JSON")
	}
	switch c.name {
	case "check":
		fs.BoolVar(&z.strict, "strict", false, "warnings are errors")
	case "diff", "show", "export":
		z.transferFlags.register(fs)
		if c.name != "export" {
			fs.BoolVar(&z.served, "served", false, "the zone as nameservers serve it, with its signatures")
		}
	case "put", "set", "del":
		fs.StringVar(&z.ifMatch, "if-match", "", "`ETAG` that the zone must have; * for any, - for a zone that must not be there yet")
	case "import":
		fs.StringVar(&z.from, "from", "", "`KIND` of what is imported: bind, powerdns, gdnsd or route53")
		fs.StringVar(&z.out, "out", "imported", "`DIR` to write to; it must not be there yet, or be empty")
		fs.StringVar(&z.zones, "zones", "", "gdnsd: `DIR` of its zone files (default zones beside its config)")
	}
	rest, err := cli.Parse(fs, args)
	if err != nil {
		return err
	}
	return c.run(ctx, &z, fs, rest)
}

// arguments asks for a number of them.
func (z *zoneFlags) arguments(fs *flag.FlagSet, rest []string, least, most int) error {
	if len(rest) < least || most >= 0 && len(rest) > most {
		return cli.Usagef(fs, "gslb zone %s: wrong number of arguments", z.name)
	}
	return nil
}

// zoneOfFile gives the zone that a file is named after: NAME.zone, root.zone
// for the root.
func zoneOfFile(path string) (fleet.Name, error) {
	base := filepath.Base(path)
	for _, ext := range []string{".zone", ".db", ".txt"} {
		base = strings.TrimSuffix(base, ext)
	}
	if base == "root" {
		return ".", nil
	}
	n, err := fleet.ParseName(strings.TrimPrefix(base, "db."))
	if err != nil {
		return "", fmt.Errorf("%s: the file is not named after its zone; give NAME before it: %w", path, err)
	}
	return n, nil
}

// loadFile reads a zone file with what it includes from its folder.
func loadFile(name fleet.Name, path string) (*zone.Zone, error) {
	dir, base := filepath.Split(path)
	if dir == "" {
		dir = "."
	}
	return zone.LoadFS(name, os.DirFS(dir), base, filepath.Dir(path))
}

// checked is what a check came to.
type checked struct {
	Zone     fleet.Name `json:"zone"`
	File     string     `json:"file"`
	Good     bool       `json:"good"`
	Serial   uint32     `json:"serial,omitempty"`
	Records  int        `json:"records,omitempty"`
	Signed   bool       `json:"signed,omitempty"`
	Errors   []string   `json:"errors,omitempty"`
	Warnings []string   `json:"warnings,omitempty"`
}

func checkZone(_ context.Context, z *zoneFlags, fs *flag.FlagSet, rest []string) error {
	if err := z.arguments(fs, rest, 1, 2); err != nil {
		return err
	}
	file := rest[len(rest)-1]
	name, err := zoneOfFile(file)
	if len(rest) == 2 {
		name, err = fleet.ParseName(rest[0])
	}
	if err != nil {
		return err
	}
	out := checked{Zone: name, File: file}
	loaded, err := loadFile(name, file)
	if err != nil {
		out.Errors = strings.Split(err.Error(), "\n")
	} else {
		out.Good = !z.strict || len(loaded.Warnings) == 0
		out.Serial, out.Records, out.Signed, out.Warnings = loaded.Serial, loaded.Records(), loaded.Signed, loaded.Warnings
	}
	if err := z.show(os.Stdout, out, func(w io.Writer) {
		for _, e := range out.Errors {
			fmt.Fprintln(w, "error:", e)
		}
		for _, e := range out.Warnings {
			fmt.Fprintln(w, "warning:", e)
		}
		if out.Good {
			fmt.Fprintf(w, "zone %s is good: serial %d, %d records\n", name, out.Serial, out.Records)
		}
	}); err != nil {
		return err
	}
	if !out.Good {
		return fmt.Errorf("zone %s is not good; errors: %d, warnings: %d", name, len(out.Errors), len(out.Warnings))
	}
	return nil
}

func listZones(ctx context.Context, z *zoneFlags, fs *flag.FlagSet, rest []string) error {
	if err := z.arguments(fs, rest, 0, 0); err != nil {
		return err
	}
	c, err := z.client()
	if err != nil {
		return err
	}
	all := []controlplane.ZoneInfo{}
	for after := ""; ; {
		var page api.ZoneList
		if err := c.Do(ctx, http.MethodGet, "/zones?limit=1000&after="+url.QueryEscape(after), nil, &page); err != nil {
			return err
		}
		all = append(all, page.Zones...)
		if after = page.Next; after == "" {
			break
		}
	}
	return z.adminFlags.show(os.Stdout, all, func(w io.Writer) {
		rows := [][]string{{"ZONE", "SOURCE", "SERIAL", "RECORDS", "SIGNED", "STATE"}}
		for _, i := range all {
			rows = append(rows, []string{string(i.Zone), i.Source, fmt.Sprint(i.Serial), fmt.Sprint(i.Records), fmt.Sprint(i.Signed), i.State})
		}
		table(w, rows)
		for _, i := range all {
			for _, text := range i.Warnings {
				fmt.Fprintf(w, "warning: zone %s: %s\n", i.Zone, text)
			}
		}
	})
}

// fetch brings a zone over the admin API, or with --axfr from a nameserver.
func (z *zoneFlags) fetch(ctx context.Context, name fleet.Name) (*zone.Zone, error) {
	if z.server != "" {
		return z.transfer(ctx, name)
	}
	c, err := z.client()
	if err != nil {
		return nil, err
	}
	path := api.ZonePath(name)
	if z.served {
		path += "?served=1"
	}
	_, text, err := c.Raw(ctx, http.MethodGet, path, nil, nil)
	if err != nil {
		return nil, err
	}
	return zone.Load(name, text, string(name))
}

func showZone(ctx context.Context, z *zoneFlags, fs *flag.FlagSet, rest []string) error {
	if err := z.arguments(fs, rest, 1, 1); err != nil {
		return err
	}
	name, err := fleet.ParseName(rest[0])
	if err != nil {
		return err
	}
	loaded, err := z.fetch(ctx, name)
	if err != nil {
		return err
	}
	var text bytes.Buffer
	if err := loaded.WriteText(&text); err != nil {
		return err
	}
	return z.adminFlags.show(os.Stdout, rules.RRsets(loaded, z.served || z.server != ""), func(w io.Writer) { _, _ = text.WriteTo(w) })
}

func exportZone(ctx context.Context, z *zoneFlags, fs *flag.FlagSet, rest []string) error {
	z.served = true
	return showZone(ctx, z, fs, rest)
}

// conditions are the header fields of a change.
func (z *zoneFlags) conditions() http.Header {
	h := http.Header{}
	switch z.ifMatch {
	case "":
	case "-":
		h.Set("If-None-Match", "*")
	case "*":
		h.Set("If-Match", "*")
	default:
		h.Set("If-Match", `"`+strings.Trim(z.ifMatch, `"`)+`"`)
	}
	return h
}

// change makes one change by the admin API and shows what came of it.
func (z *zoneFlags) change(ctx context.Context, method string, name fleet.Name, body []byte) error {
	c, err := z.client()
	if err != nil {
		return err
	}
	_, text, err := c.Raw(ctx, method, api.ZonePath(name), z.conditions(), body)
	if err != nil {
		return err
	}
	if z.json {
		_, err = os.Stdout.Write(text)
		return err
	}
	if len(text) == 0 {
		fmt.Printf("zone %s is gone\n", name)
		return nil
	}
	var info controlplane.ZoneInfo
	if err := decodeInto(text, &info); err != nil {
		return err
	}
	fmt.Printf("zone %s: serial %d, %d records, ETag %s\n", info.Zone, info.Serial, info.Records, info.ETag)
	for _, w := range info.Warnings {
		fmt.Println("warning:", w)
	}
	return nil
}

func putZone(ctx context.Context, z *zoneFlags, fs *flag.FlagSet, rest []string) error {
	if err := z.arguments(fs, rest, 2, 2); err != nil {
		return err
	}
	name, err := fleet.ParseName(rest[0])
	if err != nil {
		return err
	}
	loaded, err := loadFile(name, rest[1]) // here, so that errors have the file's name and includes work
	if err != nil {
		return err
	}
	var text bytes.Buffer
	if err := loaded.WriteText(&text); err != nil {
		return err
	}
	return z.change(ctx, http.MethodPut, name, text.Bytes())
}

func setRecords(ctx context.Context, z *zoneFlags, fs *flag.FlagSet, rest []string) error {
	if err := z.arguments(fs, rest, 5, -1); err != nil {
		return err
	}
	name, err := fleet.ParseName(rest[0])
	if err != nil {
		return err
	}
	ttl, err := parseTTL(rest[3])
	if err != nil {
		return cli.Usagef(fs, "gslb zone set: %v", err)
	}
	return z.patch(ctx, name, rules.RRset{Name: rest[1], Type: rest[2], TTL: &ttl, Records: rest[4:]})
}

func deleteRecords(ctx context.Context, z *zoneFlags, fs *flag.FlagSet, rest []string) error {
	if err := z.arguments(fs, rest, 1, 3); err != nil {
		return err
	}
	name, err := fleet.ParseName(rest[0])
	switch {
	case err != nil:
		return err
	case len(rest) == 1:
		return z.change(ctx, http.MethodDelete, name, nil)
	case len(rest) == 2:
		return cli.Usagef(fs, "gslb zone del: expected the type of %s too", rest[1])
	}
	return z.patch(ctx, name, rules.RRset{Name: rest[1], Type: rest[2], Delete: true})
}

func zoneAction(ctx context.Context, z *zoneFlags, fs *flag.FlagSet, rest []string) error {
	if err := z.arguments(fs, rest, 1, 1); err != nil {
		return err
	}
	name, err := fleet.ParseName(rest[0])
	if err != nil {
		return err
	}
	c, err := z.client()
	if err != nil {
		return err
	}
	return c.Do(ctx, http.MethodPost, api.ZonePath(name)+"/"+z.name, nil, nil)
}

var errDiffer = errors.New("the zones differ")
