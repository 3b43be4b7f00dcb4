package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/miekg/dns"

	"meridian/daemon"
	"meridian/dns/answer"
	"meridian/dns/server"
	"meridian/dns/zone"
	"meridian/fleet"
	"meridian/internal/testkit"
)

// watchRig is a nameserver whose folder of zones is kept in step.
type watchRig struct {
	*server.Server
	t     testing.TB
	dir   string
	r     *reloader
	log   *testkit.Buffer
	live  chan string   // what is served anew or no longer, as "a.test. 2" or "a.test. gone"
	noted chan string   // files that the kernel told of, as far as there is room
	looks chan string   // "begun" and "ended", of each look at all files
	hold  chan struct{} // a look at all files waits for it, unless nil
	stop  func()
}

func (w *watchRig) LoadDir(ctx context.Context, dir string) ([]fleet.Name, error) {
	if w.hold != nil {
		<-w.hold
	}
	return w.Server.LoadDir(ctx, dir)
}

func (w *watchRig) ReadsFile(file string) bool {
	defer func() {
		select {
		case w.noted <- file:
		default:
		}
	}()
	return w.Server.ReadsFile(file)
}

const rigZone = "$TTL 60\n@ SOA ns h %d 2 3 4 5\n@ NS ns\nns A 192.0.2.53\n"

// newWatchRig makes a folder of a.test. to c.test., all of serial 1; c.test.
// includes sub/hosts.
func newWatchRig(t testing.TB, eager bool) *watchRig {
	t.Helper()
	w := &watchRig{t: t, dir: filepath.Join(t.TempDir(), "zones"), log: new(testkit.Buffer), live: make(chan string, 1000000),
		noted: make(chan string, 1000), looks: make(chan string, 1000)}
	log := slog.New(slog.NewTextHandler(w.log, nil))
	var err error
	if w.Server, err = server.New(server.Config{Logger: log, Identity: answer.Identity{Node: "n"},
		Listen: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}}); err != nil {
		t.Fatal(err)
	}
	looking := func() func() {
		w.looks <- "begun"
		return func() { w.looks <- "ended" }
	}
	w.r = newReloader(w.dir, w, eager, looking, log)
	for _, name := range []string{"a", "b", "c"} {
		w.write(name+".test.zone", fmt.Sprintf(rigZone, 1))
	}
	w.write("c.test.zone", fmt.Sprintf(rigZone, 1)+"$INCLUDE sub/hosts\n")
	w.write("sub/hosts", "www A 192.0.2.1\n")
	return w
}

// begin reads the folder and keeps it in step until the test's end.
func (w *watchRig) begin() *watchRig {
	w.t.Helper()
	w.do(w.r.Load(w.t.Context()))
	w.run()
	return w
}

// run is begin after Load.
func (w *watchRig) run() {
	w.OnZone(func(old, new *zone.Zone) {
		if new == nil {
			w.live <- string(old.Name) + " gone"
		} else {
			w.live <- fmt.Sprint(new.Name, " ", new.Serial)
		}
	})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := w.r.Run(ctx); err != nil {
			w.t.Error(err)
		}
	})
	w.stop = sync.OnceFunc(func() {
		cancel()
		if w.hold != nil {
			close(w.hold)
		}
		wg.Wait()
	})
	w.t.Cleanup(w.stop)
}

func (w *watchRig) path(file string) string { return filepath.Join(w.dir, filepath.FromSlash(file)) }

func (w *watchRig) write(file, text string) {
	w.t.Helper()
	if err := os.MkdirAll(filepath.Dir(w.path(file)), 0o700); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(w.path(file), []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

func (w *watchRig) do(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// expect waits until all that is wanted has come by, in any order; others that come
// before do not matter.
func (w *watchRig) expect(from chan string, want ...string) {
	w.t.Helper()
	var seen []string
	late := time.After(20 * time.Second)
	for len(want) > 0 {
		select {
		case got := <-from:
			if i := slices.Index(want, got); i >= 0 {
				want = slices.Delete(want, i, i+1)
			} else {
				seen = append(seen, got)
			}
		case <-late:
			w.t.Fatalf("no %q; seen were %q", want, seen)
		}
	}
}

// What was changed before SIGHUP is served before all files are looked at: in
// whichever way it was changed.
func TestSIGHUPReadsAtOnceWhatHasChanged(t *testing.T) {
	two := fmt.Sprintf(rigZone, 2)
	for what, c := range map[string]struct {
		change func(w *watchRig)
		live   []string
	}{
		"written in place": {func(w *watchRig) { w.write("a.test.zone", two) }, []string{"a.test. 2"}},
		"replaced, as editors do": {func(w *watchRig) {
			w.write(".a.test.zone.swp", two)
			w.do(os.Rename(w.path("a.test.zone"), w.path("a.test.zone~")))
			w.do(os.Rename(w.path(".a.test.zone.swp"), w.path("a.test.zone")))
		}, []string{"a.test. 2"}},
		"moved in from elsewhere": {func(w *watchRig) {
			w.write("../elsewhere", two)
			w.do(os.Rename(w.path("../elsewhere"), w.path("d.test.zone")))
		}, []string{"d.test. 2"}},
		"a new file":        {func(w *watchRig) { w.write("d.test.zone", two) }, []string{"d.test. 2"}},
		"a deleted file":    {func(w *watchRig) { w.do(os.Remove(w.path("b.test.zone"))) }, []string{"b.test. gone"}},
		"a file moved away": {func(w *watchRig) { w.do(os.Rename(w.path("b.test.zone"), w.path("b.off"))) }, []string{"b.test. gone"}},
		"a file renamed": {func(w *watchRig) { w.do(os.Rename(w.path("b.test.zone"), w.path("d.test.zone"))) },
			[]string{"d.test. 1", "b.test. gone"}},
		"an included file": {func(w *watchRig) { w.write("sub/hosts", "www A 192.0.2.2\n") }, []string{"c.test. 1"}},
		"a link": {func(w *watchRig) {
			w.write("../other", two)
			w.do(os.Remove(w.path("a.test.zone")))
			w.do(os.Symlink("../other", w.path("a.test.zone")))
		}, []string{"a.test. 2"}},
	} {
		t.Run(what, func(t *testing.T) {
			w := newWatchRig(t, false)
			w.begin()
			w.hold = make(chan struct{})
			c.change(w)
			w.r.Reload()
			w.expect(w.live, c.live...)
			w.expect(w.looks, "begun") // and again, while all are being looked at
			w.write("z.test.zone", two)
			w.r.Reload()
			w.expect(w.live, "z.test. 2")
		})
	}
}

// Nothing is read before SIGHUP, or at once with --watch.
func TestChangesAreReadWhenAskedForOrWatched(t *testing.T) {
	w := newWatchRig(t, false).begin()
	w.write("a.test.zone", fmt.Sprintf(rigZone, 2))
	w.expect(w.noted, "a.test.zone")
	w.stop()
	if z := w.Zone("a.test."); z.Serial != 1 {
		t.Errorf("serial %d is served before SIGHUP", z.Serial)
	}
	w = newWatchRig(t, true).begin()
	w.write("a.test.zone", fmt.Sprintf(rigZone, 2))
	w.expect(w.live, "a.test. 2")
	w.write("sub/hosts", "www A 192.0.2.2\n")
	w.expect(w.live, "c.test. 1")
	w.do(os.Remove(w.path("b.test.zone")))
	w.expect(w.live, "b.test. gone")
}

// While many changed files are being read, one more is not held up.
func TestOneChangeIsNotHeldUpByMany(t *testing.T) {
	w := newWatchRig(t, false).begin()
	for i := range many + 1 {
		w.write(fmt.Sprintf("z%d.test.zone", i), fmt.Sprintf(rigZone, 1))
	}
	w.expect(w.noted, fmt.Sprintf("z%d.test.zone", many))
	w.hold = make(chan struct{})
	w.r.Reload()
	w.expect(w.looks, "begun")
	w.write("a.test.zone", fmt.Sprintf(rigZone, 2))
	w.r.Reload()
	w.expect(w.live, "a.test. 2")
	w.hold <- struct{}{}
	w.expect(w.live, fmt.Sprintf("z%d.test. 1", many))
}

// What the kernel does not tell of is found by the look at all files that
// follows on SIGHUP.
func TestSIGHUPFindsWhatTheKernelDoesNotTell(t *testing.T) {
	two := fmt.Sprintf(rigZone, 2)
	t.Run("no watch is to be had", func(t *testing.T) {
		w := newWatchRig(t, false)
		w.do(w.r.Load(w.t.Context()))
		w.do(w.r.watcher.Close())
		w.r.watcher = nil
		w.run()
		w.write("a.test.zone", two)
		w.r.Reload()
		w.expect(w.live, "a.test. 2")
	})
	t.Run("the file that a link points to", func(t *testing.T) {
		w := newWatchRig(t, false)
		w.write("../elsewhere", fmt.Sprintf(rigZone, 1))
		w.do(os.Symlink("../elsewhere", w.path("d.test.zone")))
		w.begin()
		w.write("../elsewhere", two)
		w.r.Reload()
		w.expect(w.live, "d.test. 2")
	})
	t.Run("another folder in its place", func(t *testing.T) {
		w := newWatchRig(t, false).begin()
		w.do(os.Rename(w.dir, w.dir+".old"))
		w.write("a.test.zone", two)
		w.r.Reload()
		w.expect(w.live, "a.test. 2")
		w.expect(w.live, "c.test. gone")
		w.expect(w.looks, "ended")
		w.hold = make(chan struct{})
		w.write("a.test.zone", fmt.Sprintf(rigZone, 3)) // the new one is watched
		w.r.Reload()
		w.expect(w.live, "a.test. 3")
	})
}

// With --watch, all files are looked at where the kernel says that it has lost
// changes, or tells of a folder or of a link: many files may have changed at once.
func TestWatchedFolderIsLookedAtWhereTheKernelSaysTooLittle(t *testing.T) {
	w := newWatchRig(t, true)
	w.write("1/d.test.zone", fmt.Sprintf(rigZone, 1))
	w.write("2/d.test.zone", fmt.Sprintf(rigZone, 2))
	w.do(os.Symlink("1", w.path("..data"))) // as Kubernetes mounts files
	w.do(os.Symlink("..data/d.test.zone", w.path("d.test.zone")))
	w.begin()
	w.expect(w.looks, "ended") // sub was not watched when it was read first
	w.do(os.Symlink("2", w.path("..new")))
	w.do(os.Rename(w.path("..new"), w.path("..data")))
	w.expect(w.live, "d.test. 2")

	w.write("2/d.test.zone", fmt.Sprintf(rigZone, 3))
	w.r.watcher.Errors <- fsnotify.ErrEventOverflow
	w.expect(w.live, "d.test. 3")
}

// A file that is no zone is told of with its line, once for a SIGHUP, and in
// gslb status, until it is repaired; what was served of it stays.
func TestFilesThatAreNotUsable(t *testing.T) {
	w := newWatchRig(t, false).begin()
	if p := w.r.Problem(); p != "" {
		t.Errorf("all is well, and the problem is %q", p)
	}
	w.write("a.test.zone", fmt.Sprintf(rigZone, 2)+"www A nonsense\n")
	w.write("b.test.zone", fmt.Sprintf(rigZone, 2))
	w.r.Reload()
	w.expect(w.live, "b.test. 2")
	w.expect(w.looks, "ended")
	where := w.path("a.test.zone") + ":5: "
	if p := w.r.Problem(); !strings.Contains(p, where) {
		t.Errorf("the problem is %q, want %q", p, where)
	}
	if z := w.Zone("a.test."); z == nil || z.Serial != 1 {
		t.Errorf("served is %v", z)
	}
	w.write("a.test.zone", fmt.Sprintf(rigZone, 3))
	w.r.Reload()
	w.expect(w.live, "a.test. 3")
	if p := w.r.Problem(); p != "" {
		t.Errorf("all is well again, and the problem is %q", p)
	}
	w.expect(w.looks, "ended")
	w.stop()
	if n := strings.Count(w.log.String(), where); n != 1 {
		t.Errorf("the log tells %d times of the file:\n%s", n, w.log)
	}
}

// A folder without a zone file, or away, leaves what is served.
func TestEmptiedFolderLeavesWhatIsServed(t *testing.T) {
	for what, empty := range map[string]func(w *watchRig) error{
		"emptied": func(w *watchRig) error {
			for _, name := range []string{"a", "b", "c"} {
				w.do(os.Remove(w.path(name + ".test.zone")))
			}
			return nil
		},
		"away": func(w *watchRig) error { return os.Rename(w.dir, w.dir+".away") },
	} {
		t.Run(what, func(t *testing.T) {
			w := newWatchRig(t, false).begin()
			w.do(empty(w))
			w.r.Reload()
			w.expect(w.looks, "ended")
			for limit := time.After(10 * time.Second); !strings.Contains(w.log.String(), "level=ERROR"); {
				select {
				case <-limit:
					t.Fatalf("the log says nothing:\n%s", w.log)
				case <-time.After(time.Millisecond):
				}
			}
			w.stop()
			if n := w.Plan().Len(); n != 3 {
				t.Errorf("%d zones are served", n)
			}
		})
	}
}

// BenchmarkSIGHUPOneOf100000 is the time from SIGHUP, sent right after a zone
// file among 100,000 was written, to the answer by UDP that has it. All files
// are looked at after each; that is waited for outside the figure, or with
// "WhileLooking" goes on meanwhile. The worst is told besides.
func BenchmarkSIGHUPOneOf100000(b *testing.B) {
	w := newWatchRig(b, false)
	for i := range 100_000 {
		w.write(fmt.Sprintf("z%d.test.zone", i), fmt.Sprintf(rigZone, 1))
	}
	ctx, cancel := context.WithCancel(context.Background())
	w.begin()
	w.do(w.Open(ctx))
	var wg sync.WaitGroup
	wg.Go(func() { _ = w.Run(ctx) })
	b.Cleanup(func() { cancel(); wg.Wait() })
	b.Cleanup(daemon.OnHangup(w.r.Reload))
	b.Cleanup(w.stop)
	conn, err := dns.Dial("udp", w.Addrs()[0].String())
	w.do(err)
	b.Cleanup(func() { conn.Close() })
	q := new(dns.Msg).SetQuestion("z7.test.", dns.TypeSOA)
	serial := uint32(1)
	change := func(b *testing.B, calm bool) {
		worst := time.Duration(0)
		for b.Loop() {
			b.StopTimer()
			if calm && serial > 1 {
				w.expect(w.looks, "ended")
			}
			serial++
			w.write("z7.test.zone", fmt.Sprintf(rigZone, serial))
			b.StartTimer()
			begun := time.Now()
			w.do(syscall.Kill(os.Getpid(), syscall.SIGHUP))
			for live := false; !live; {
				w.do(conn.WriteMsg(q))
				r, err := conn.ReadMsg()
				w.do(err)
				live = r.Answer[0].(*dns.SOA).Serial == serial
			}
			worst = max(worst, time.Since(begun))
		}
		b.ReportMetric(float64(worst.Microseconds())/1000, "worst-ms")
	}
	b.Run("Calm", func(b *testing.B) { change(b, true) })
	b.Run("WhileLooking", func(b *testing.B) { change(b, false) })
}
