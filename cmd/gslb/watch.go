package main

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
)

// settle is how long a folder must be quiet before its changed files are read:
// editors and generators write in steps.
const settle = 20 * time.Millisecond

// watchZones calls load with the zone files of a folder that have changed, until
// ctx ends. Files that zones include, from elsewhere, are not seen: SIGHUP reads
// those.
func watchZones(ctx context.Context, dir string, load func(dir string, files []string) error, log *slog.Logger) error {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("--watch: %w", err)
	}
	defer w.Close()
	if err := w.Add(dir); err != nil {
		return fmt.Errorf("--watch: %w", err)
	}
	changed := map[string]bool{}
	quiet := time.NewTimer(0)
	defer quiet.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case e := <-w.Events:
			if strings.HasSuffix(e.Name, ".zone") {
				changed[filepath.Base(e.Name)] = true
				quiet.Reset(settle)
			}
		case err := <-w.Errors: // some changes were lost
			log.Error("watching zones; send SIGHUP to read all", "error", err)
		case <-quiet.C:
			if len(changed) == 0 {
				continue
			}
			files := make([]string, 0, len(changed))
			for f := range changed {
				files = append(files, f)
			}
			clear(changed)
			if err := load(dir, files); err != nil {
				log.Error("zones reloaded in part; what could not be read stays as it was", "error", err)
			} else {
				log.Info("zones reloaded", "files", files)
			}
		}
	}
}
