package main

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"meridian/cli"
	"meridian/dns/keeper"
	"meridian/dns/sign"
	"meridian/dns/zone"
	"meridian/fleet"
	"meridian/identity"
	"meridian/node"
)

// keyCommands look after zones' DNSSEC keys.
func keyCommands() []cli.Command {
	return []cli.Command{{Name: "keys", Summary: "list, roll, import, export and back up zones' DNSSEC keys; verify a signed zone", Run: runKeys}}
}

const keysSynopsis = `gslb keys COMMAND [flags]

  list [ZONE]              every zone's keys, or one zone's
  roll ZONE ksk|zsk|csk    replace keys as soon as that is safe
  ds ZONE                  the DS and CDS records for the parent
  parent ZONE TAG seen|gone  say of a parent that cannot be asked that it has a key's DS, or has it no more
  new ZONE                 make new keys for a zone without, though its parent has a DS of others
  export ZONE --out DIR    write keys as BIND reads them
  import ZONE FILE...      take in keys of BIND (.private, with the .key beside) or Knot (.pem, with --role)
  backup FILE              all keys in one file, sealed with the fleet key
  restore FILE             put the keys of such a file in place
  verify ZONEFILE          check all signatures and the denial of a signed zone

They ask the admin API; with --data and --fleet-key they work on the data
directory of a node that has its Spec from a file, whether it runs or not.`

// keysFlags are those of gslb keys.
type keysFlags struct {
	adminFlags
	data     string
	fleetKey string
	out      string
	role     string
	origin   string
}

func runKeys(ctx context.Context, args []string) error {
	fs := cli.Flags(keysSynopsis, "gslb keys roll example.com ksk\n  gslb keys ds example.com\n  gslb keys verify example.com.signed")
	var f keysFlags
	f.register(fs)
	fs.StringVar(&f.data, "data", "", "work on the data directory `DIR` of a node that has its Spec from a file")
	fs.StringVar(&f.fleetKey, "fleet-key", "", "`FILE` with the fleet key; with --data (default DIR/fleet.key)")
	fs.StringVar(&f.out, "out", "", "directory `DIR` to export to, made if absent; its owner alone can read the files")
	fs.StringVar(&f.role, "role", "", "import keys as `ksk|zsk|csk`; needed for PEM")
	fs.StringVar(&f.origin, "origin", "", "`NAME` of the zone to verify (default its file's name without .zone or .signed)")
	rest, err := cli.Parse(fs, args)
	if err != nil {
		return err
	}
	if len(rest) == 0 {
		return cli.Usagef(fs, "gslb keys: expected a command")
	}
	run := map[string]func(context.Context, *flag.FlagSet, []string) error{
		"list": f.list, "roll": f.roll, "ds": f.ds, "parent": f.parent, "new": f.newKeys, "export": f.export, "import": f.importKeys,
		"backup": f.backup, "restore": f.restore, "verify": f.verify,
	}[rest[0]]
	if run == nil {
		return cli.Usagef(fs, "gslb keys: unknown command %q", rest[0])
	}
	return run(ctx, fs, rest[1:])
}

// keys gives what the commands work on.
func (f *keysFlags) keys() (keeper.Keys, error) {
	if f.data == "" {
		c, err := f.client()
		return &remoteKeys{c}, err
	}
	path := f.fleetKey
	if path == "" {
		path = filepath.Join(f.data, "fleet.key")
	}
	key, err := node.LoadKey(path)
	if err != nil {
		return nil, err
	}
	id, err := identity.New(key)
	if err != nil {
		return nil, err
	}
	return &keeper.Admin{Store: keeper.NewDirStore(filepath.Join(f.data, keysDir), id), Identity: id, Rand: rand.Reader}, nil
}

// zoneArg reads the zone's name and counts the other arguments; n < 0 for one
// or more.
func zoneArg(fs *flag.FlagSet, rest []string, n int, usage string) (fleet.Name, error) {
	if n >= 0 && len(rest) != 1+n || n < 0 && len(rest) < 2 {
		return "", cli.Usagef(fs, "gslb keys: expected %s", usage)
	}
	name, err := fleet.ParseName(rest[0])
	if err != nil {
		return "", cli.Usagef(fs, "gslb keys: %v", err)
	}
	return name, nil
}

func (f *keysFlags) list(ctx context.Context, fs *flag.FlagSet, rest []string) error {
	keys, err := f.keys()
	if err != nil {
		return err
	}
	if len(rest) == 0 {
		all, err := keys.List(ctx)
		if err != nil {
			return err
		}
		return f.show(os.Stdout, all, func(w io.Writer) { printKeys(w, all...) })
	}
	name, err := zoneArg(fs, rest, 0, "list [ZONE]")
	if err != nil {
		return err
	}
	one, err := keys.Show(ctx, name)
	return f.showZone(one, err)
}

func (f *keysFlags) showZone(z *keeper.ZoneKeys, err error) error {
	if err != nil {
		return err
	}
	return f.show(os.Stdout, z, func(w io.Writer) { printKeys(w, *z) })
}

// age gives a duration for people: hours, and minutes of the first two days.
func age(d time.Duration) string {
	if d < 48*time.Hour {
		return d.Round(time.Minute).String()
	}
	return strings.TrimSuffix(d.Round(time.Hour).String(), "0m0s")
}

// printKeys prints keys in a table, and what is waited for.
func printKeys(w io.Writer, zones ...keeper.ZoneKeys) {
	rows := [][]string{{"ZONE", "ROLE", "TAG", "ALGORITHM", "AGE", "DNSKEY", "SIGNATURES", "DS", ""}}
	word := func(p sign.Phase, used bool) string {
		switch {
		case !used:
			return "-"
		case p.State == sign.Hidden:
			return "hidden"
		case p.Until.IsZero():
			return string(p.State)
		}
		return fmt.Sprintf("%s until %s", p.State, p.Until.UTC().Format("2006-01-02 15:04"))
	}
	for _, z := range zones {
		for _, k := range z.Keys {
			note := ""
			if k.Retired {
				note = "retired"
			}
			if !k.Revoked.IsZero() {
				note = "revoked " + k.Revoked.UTC().Format("2006-01-02 15:04")
			}
			rows = append(rows, []string{string(z.Zone), string(k.Role), strconv.Itoa(int(k.KeyTag)), k.Algorithm,
				age(time.Since(k.Created)), word(k.DNSKEY, true), word(k.RRSIG, k.Role != sign.KSK), word(k.DS, k.Role != sign.ZSK), note})
		}
	}
	table(w, rows)
	for _, z := range zones {
		if z.Error != "" {
			fmt.Fprintf(w, "%s: %s\n", z.Zone, z.Error)
		}
		for _, r := range z.Rolling {
			fmt.Fprintf(w, "%s: a new %s is asked for and not made yet\n", z.Zone, r)
		}
		if z.New {
			fmt.Fprintf(w, "%s: new keys are made when it is to be signed, whatever DS its parent has\n", z.Zone)
		}
		if z.Leaving {
			fmt.Fprintf(w, "%s: is being unsigned; waits until the parent has no DS and no cache has one\n", z.Zone)
		}
	}
}

func (f *keysFlags) roll(ctx context.Context, fs *flag.FlagSet, rest []string) error {
	name, err := zoneArg(fs, rest, 1, "roll ZONE ksk|zsk|csk")
	if err != nil {
		return err
	}
	role, err := sign.ParseRole(rest[1])
	if err != nil {
		return cli.Usagef(fs, "gslb keys roll: %v", err)
	}
	keys, err := f.keys()
	if err != nil {
		return err
	}
	return f.showZone(keys.Roll(ctx, name, role))
}

func (f *keysFlags) parent(ctx context.Context, fs *flag.FlagSet, rest []string) error {
	name, err := zoneArg(fs, rest, 2, "parent ZONE TAG seen|gone")
	if err != nil {
		return err
	}
	tag, err := strconv.ParseUint(rest[1], 10, 16)
	if err != nil {
		return cli.Usagef(fs, "gslb keys parent: %q is not a key tag", rest[1])
	}
	keys, err := f.keys()
	if err != nil {
		return err
	}
	return f.showZone(keys.Parent(ctx, name, uint16(tag), sign.HandCheck(rest[2])))
}

func (f *keysFlags) newKeys(ctx context.Context, fs *flag.FlagSet, rest []string) error {
	name, err := zoneArg(fs, rest, 0, "new ZONE")
	if err != nil {
		return err
	}
	keys, err := f.keys()
	if err != nil {
		return err
	}
	return f.showZone(keys.New(ctx, name))
}

func (f *keysFlags) ds(ctx context.Context, fs *flag.FlagSet, rest []string) error {
	name, err := zoneArg(fs, rest, 0, "ds ZONE")
	if err != nil {
		return err
	}
	keys, err := f.keys()
	if err != nil {
		return err
	}
	z, err := keys.Show(ctx, name)
	if err != nil {
		return err
	}
	return f.show(os.Stdout, z.DS, func(w io.Writer) {
		for _, t := range []string{"DS", "CDS"} {
			for _, d := range z.DS {
				fmt.Fprintf(w, "%s IN %s %s\n", name, t, d)
			}
		}
		if len(z.DS) == 0 {
			fmt.Fprintf(w, "; %s: no key is in every cache yet; ask again later\n", name)
		}
	})
}

func (f *keysFlags) export(ctx context.Context, fs *flag.FlagSet, rest []string) error {
	name, err := zoneArg(fs, rest, 0, "export ZONE --out DIR")
	if err != nil {
		return err
	}
	if f.out == "" {
		return cli.Usagef(fs, "gslb keys export: expected --out DIR")
	}
	keys, err := f.keys()
	if err != nil {
		return err
	}
	files, err := keys.Export(ctx, name)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(f.out, 0o700); err != nil {
		return err
	}
	var names []string
	for _, file := range files {
		path := filepath.Join(f.out, filepath.Base(strings.ReplaceAll(file.Name, "/", "_")))
		if err := writeNew(path, []byte(file.Text)); err != nil {
			return err
		}
		names = append(names, path)
	}
	return f.show(os.Stdout, names, func(w io.Writer) { fmt.Fprintln(w, strings.Join(names, "\n")) })
}

// writeNew writes a file of mode 0600 that must not be there yet.
func writeNew(path string, data []byte) error {
	h, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = h.Write(data)
	return errors.Join(err, h.Sync(), h.Close())
}

func (f *keysFlags) importKeys(ctx context.Context, fs *flag.FlagSet, rest []string) error {
	name, err := zoneArg(fs, rest, -1, "import ZONE FILE...")
	if err != nil {
		return err
	}
	role := sign.Role("")
	if f.role != "" {
		if role, err = sign.ParseRole(f.role); err != nil {
			return cli.Usagef(fs, "gslb keys import: --role: %v", err)
		}
	}
	files, err := keyFiles(rest[1:])
	if err != nil {
		return err
	}
	keys, err := f.keys()
	if err != nil {
		return err
	}
	return f.showZone(keys.Import(ctx, name, files, role))
}

// keyFiles reads files of keys, and the .key beside each .private.
func keyFiles(paths []string) ([]sign.File, error) {
	paths = slices.Clone(paths)
	for _, path := range paths {
		base, private := strings.CutSuffix(path, ".private")
		if _, err := os.Stat(base + ".key"); private && err == nil && !slices.Contains(paths, base+".key") {
			paths = append(paths, base+".key")
		}
	}
	var files []sign.File
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		files = append(files, sign.File{Name: filepath.Base(path), Text: string(b)})
	}
	return files, nil
}

func (f *keysFlags) backup(ctx context.Context, fs *flag.FlagSet, rest []string) error {
	file, err := one(fs, rest, "keys backup", "the file to write")
	if err != nil {
		return err
	}
	keys, err := f.keys()
	if err != nil {
		return err
	}
	b, err := keys.Backup(ctx)
	if err != nil {
		return err
	}
	if err := writeNew(file, b); err != nil {
		return err
	}
	fmt.Printf("wrote %s; it opens with the fleet key alone\n", file)
	return nil
}

func (f *keysFlags) restore(ctx context.Context, fs *flag.FlagSet, rest []string) error {
	file, err := one(fs, rest, "keys restore", "the backup's file")
	if err != nil {
		return err
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	keys, err := f.keys()
	if err != nil {
		return err
	}
	names, err := keys.Restore(ctx, b)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return f.show(os.Stdout, names, func(w io.Writer) { fmt.Fprintf(w, "keys restored; zones: %d\n", len(names)) })
}

// verified is what verify says of a zone.
type verified struct {
	Zone    fleet.Name `json:"zone"`
	Serial  uint32     `json:"serial"`
	Records int        `json:"records"`
	Expires time.Time  `json:"expires"` // when its first signature does
}

func (f *keysFlags) verify(_ context.Context, fs *flag.FlagSet, rest []string) error {
	file, err := one(fs, rest, "keys verify", "the zone's file")
	if err != nil {
		return err
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	name := f.origin
	if name == "" {
		name = strings.TrimSuffix(strings.TrimSuffix(filepath.Base(file), ".signed"), ".zone")
	}
	origin, err := fleet.ParseName(name)
	if err != nil {
		return cli.Usagef(fs, "gslb keys verify: --origin: %v", err)
	}
	z, err := zone.Load(origin, b, file)
	if err != nil {
		return err
	}
	now := time.Now()
	if err := sign.Verify(z, now); err != nil {
		return err
	}
	v := verified{z.Name, z.Serial, z.Records(), sign.Expires(z, now).UTC()}
	return f.show(os.Stdout, v, func(w io.Writer) {
		fmt.Fprintf(w, "%s (serial %d) is signed well: %d records; the first signature expires %s\n", v.Zone, v.Serial, v.Records, v.Expires.Format(time.RFC3339))
	})
}
