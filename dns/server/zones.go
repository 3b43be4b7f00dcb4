package server

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"meridian/dns/zone"
	"meridian/fleet"
)

// LoadDir serves the zones of a folder, NAME.zone each and root.zone for the
// root, and no others. Of a file that cannot be a zone the error tells file
// and line, and the zone of that name that was served stays; the others are
// taken into use nevertheless.
func (s *Server) LoadDir(dir string) error {
	files, err := filepath.Glob(filepath.Join(dir, "*.zone"))
	if err != nil {
		return fmt.Errorf("zones: %w", err)
	}
	if _, err := os.ReadDir(dir); err != nil {
		return fmt.Errorf("zones: %w", err)
	}
	if len(files) == 0 {
		return fmt.Errorf("zones: %s holds no file that ends in .zone", dir)
	}
	old := map[fleet.Name]*zone.Zone{}
	for _, z := range s.Plan().List() {
		old[z.Name] = z
	}
	fsys := os.DirFS(dir)
	zones, errs := make([]*zone.Zone, len(files)), make([]error, len(files))
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i, path := range files {
		g.Go(func() error {
			file := filepath.Base(path)
			name, err := zoneName(file)
			if err != nil {
				errs[i] = fmt.Errorf("%s: %w", path, err)
				return nil
			}
			if zones[i], errs[i] = zone.LoadFS(name, fsys, file, dir); errs[i] != nil {
				zones[i] = old[name]
			}
			return nil
		})
	}
	_ = g.Wait() // errors are gathered by file
	zones = slices.DeleteFunc(zones, func(z *zone.Zone) bool { return z == nil })
	for _, z := range zones {
		for _, w := range z.Warnings {
			if old[z.Name] != z {
				s.log.Warn("zone", "zone", z.Name, "warning", w)
			}
		}
	}
	if len(zones) > 0 {
		s.SetZones(zones)
	}
	return errors.Join(errs...)
}

func zoneName(file string) (fleet.Name, error) {
	base := strings.TrimSuffix(file, ".zone")
	if base == "root" {
		return ".", nil
	}
	return fleet.ParseName(base)
}
