package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"meridian/cli"
	"meridian/dns/imports"
)

// importZones reads what another nameserver is configured with and writes
// spec.yaml, zone files and keys; what does not map it lists, and writes to
// notes.txt.
func importZones(_ context.Context, z *zoneFlags, fset *flag.FlagSet, rest []string) error {
	if err := z.arguments(fset, rest, 1, -1); err != nil {
		return err
	}
	var r *imports.Result
	var err error
	switch z.from {
	case "bind":
		r, err = importBind(rest)
	case "powerdns":
		r, err = importPowerDNS(rest)
	case "gdnsd":
		r, err = z.importGdnsd(rest)
	case "route53":
		r, err = importRoute53(rest)
	default:
		return cli.Usagef(fset, "gslb zone import: --from: expected bind, powerdns, gdnsd or route53")
	}
	if err != nil {
		return err
	}
	if err := z.write(r); err != nil {
		return err
	}
	sum := struct {
		Out   string         `json:"out"`
		Zones int            `json:"zones"`
		Notes []imports.Note `json:"notes"`
	}{z.out, len(r.Spec.Zones), r.Notes}
	return z.show(os.Stdout, sum, func(w io.Writer) {
		for _, n := range r.Notes {
			fmt.Fprintln(w, n)
		}
		fmt.Fprintf(w, "wrote %s: %d zones, %d services, %d regions; %d notes on what does not map (notes.txt)\n",
			filepath.Join(z.out, "spec.yaml"), len(r.Spec.Zones), len(r.Spec.Services), len(r.Spec.Regions), len(r.Notes))
	})
}

// beside reads files relative to another one's folder.
func beside(path string) imports.Files {
	dir := filepath.Dir(path)
	return func(name string) ([]byte, error) {
		if !filepath.IsAbs(name) {
			name = filepath.Join(dir, name)
		}
		return os.ReadFile(name)
	}
}

func importBind(args []string) (*imports.Result, error) {
	if len(args) != 1 {
		return nil, errors.New("expected one named.conf")
	}
	text, err := os.ReadFile(args[0])
	if err != nil {
		return nil, err
	}
	return imports.Named(text, beside(args[0]))
}

// importPowerDNS reads zones as pdnsutil list-zone prints them, or the
// named.conf of the bind backend.
func importPowerDNS(args []string) (*imports.Result, error) {
	if len(args) == 1 && strings.HasSuffix(args[0], ".conf") {
		return importBind(args)
	}
	zones, err := readFiles(args)
	if err != nil {
		return nil, err
	}
	return imports.PowerDNS(zones), nil
}

func (z *zoneFlags) importGdnsd(args []string) (*imports.Result, error) {
	if len(args) != 1 {
		return nil, errors.New("expected gdnsd's config, or its folder")
	}
	config := args[0]
	if info, err := os.Stat(config); err == nil && info.IsDir() {
		config = filepath.Join(config, "config")
	}
	text, err := os.ReadFile(config)
	if err != nil {
		return nil, err
	}
	dir := z.zones
	if dir == "" {
		dir = filepath.Join(filepath.Dir(config), "zones")
	}
	zones, err := readFiles([]string{dir})
	if err != nil {
		return nil, err
	}
	includes := beside(filepath.Join(dir, "x"))
	own := beside(config)
	return imports.GDNSD(text, zones, func(name string) ([]byte, error) {
		b, err := includes(name)
		if err != nil {
			return own(name)
		}
		return b, nil
	})
}

func importRoute53(args []string) (*imports.Result, error) {
	var all *imports.Result
	for _, path := range args {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		r, err := imports.Route53(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if all != nil {
			return nil, errors.New("expected one zone's record sets: import zones one by one")
		}
		all = r
	}
	return all, nil
}

// readFiles reads files, and of folders the files right in them, by name.
func readFiles(args []string) (map[string][]byte, error) {
	out := map[string][]byte{}
	for _, arg := range args {
		info, err := os.Stat(arg)
		if err != nil {
			return nil, err
		}
		paths := []string{arg}
		if info.IsDir() {
			paths = nil
			entries, err := os.ReadDir(arg)
			if err != nil {
				return nil, err
			}
			for _, e := range entries {
				if e.Type().IsRegular() && !strings.HasPrefix(e.Name(), ".") {
					paths = append(paths, filepath.Join(arg, e.Name()))
				}
			}
		}
		for _, p := range paths {
			b, err := os.ReadFile(p)
			if err != nil {
				return nil, err
			}
			out[filepath.Base(p)] = b
		}
	}
	return out, nil
}

// write puts an import's result into its folder, which must hold nothing yet.
func (z *zoneFlags) write(r *imports.Result) error {
	if entries, err := os.ReadDir(z.out); err == nil && len(entries) > 0 {
		return fmt.Errorf("--out: %s is not empty", z.out)
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("--out: %w", err)
	}
	r.Complete()
	doc, err := r.Spec.Document()
	if err != nil {
		return err
	}
	var notes strings.Builder
	for _, n := range r.Notes {
		fmt.Fprintln(&notes, n)
	}
	files := map[string][]byte{"spec.yaml": doc, "notes.txt": []byte(notes.String())}
	for name, b := range r.Zones {
		files[name] = b
	}
	for name, b := range files {
		if err := writeInto(z.out, name, b, 0o644); err != nil {
			return err
		}
	}
	for name, b := range r.Secrets {
		if err := writeInto(z.out, name, b, 0o600); err != nil {
			return err
		}
	}
	return nil
}

func writeInto(dir, name string, b []byte, mode os.FileMode) error {
	path := filepath.Join(dir, filepath.FromSlash(name))
	if !filepath.IsLocal(filepath.FromSlash(name)) {
		return fmt.Errorf("%q is not a file below %s", name, dir)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, b, mode)
}
