package mmdb

import (
	"context"
	"log/slog"
	"os"
	"slices"
	"time"

	"meridian/geo"
)

// Watch looks every interval whether one of the files has been replaced, and
// then opens them anew and hands the result to use. Files that cannot be read
// are logged, and what was in use stays. It returns when ctx ends. Start it
// with the files as Open has just read them.
func Watch(ctx context.Context, log *slog.Logger, interval time.Duration, use func(geo.Source), paths ...string) {
	seen := stamps(paths)
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := stamps(paths)
		if slices.Equal(now, seen) {
			continue
		}
		seen = now
		source, err := Open(paths...)
		if err != nil {
			log.Error("geo database not replaced; the old one stays", "err", err)
			continue
		}
		log.Info("geo database replaced", "source", source.String())
		use(source)
	}
}

// stamp tells one state of a file from another.
type stamp struct {
	size  int64
	mtime time.Time
}

func stamps(paths []string) []stamp {
	out := make([]stamp, len(paths))
	for i, p := range paths {
		if fi, err := os.Stat(p); err == nil {
			out[i] = stamp{fi.Size(), fi.ModTime()}
		}
	}
	return out
}
