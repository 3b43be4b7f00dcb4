package dashboard

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"net/http"
	"time"
)

const (
	// coalesce is the least time between two patches.
	coalesce = 100 * time.Millisecond
	// refresh brings in what changes by time alone, as the end of a shift.
	refresh = time.Second
	// heartbeat is the time between two signs of life on a stream.
	heartbeat = 15 * time.Second
	// writeLimit is how long one write to a client may take.
	writeLimit = 10 * time.Second
)

// Config is what a Dashboard needs.
type Config struct {
	Source     Source
	MaxStreams int          // open streams at most; 0 for 64
	Log        *slog.Logger // nil for none
}

// Dashboard serves the page. It is an http.Handler for / and everything below
// /dashboard/; Run keeps what it serves current.
type Dashboard struct {
	src    Source
	log    *slog.Logger
	hub    *hub
	assets *assets
	page   *template.Template
	world  template.HTML
	mux    *http.ServeMux
}

// New checks the configuration and prepares the assets.
func New(cfg Config) (*Dashboard, error) {
	if cfg.Source == nil {
		return nil, errors.New("dashboard: expected a Source")
	}
	if cfg.MaxStreams == 0 {
		cfg.MaxStreams = 64
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	d := &Dashboard{src: cfg.Source, log: cfg.Log, mux: http.NewServeMux()}
	var err error
	if d.assets, err = loadAssets(); err != nil {
		return nil, fmt.Errorf("dashboard: %w", err)
	}
	if d.page, err = template.ParseFS(files, "assets/page.html"); err != nil {
		return nil, fmt.Errorf("dashboard: %w", err)
	}
	world, err := files.ReadFile("assets/world.svg")
	if err != nil {
		return nil, fmt.Errorf("dashboard: %w", err)
	}
	d.world = template.HTML(world)
	d.hub = newHub(d.assets.build, cfg.MaxStreams)
	if err := d.hub.publish(d.src.State()); err != nil {
		return nil, fmt.Errorf("dashboard: %w", err)
	}
	d.mux.HandleFunc("/{$}", d.servePage)
	d.mux.HandleFunc("/dashboard/state", d.serveState)
	d.mux.HandleFunc("/dashboard/events", d.serveEvents)
	d.mux.Handle(assetPath, d.assets)
	return d, nil
}

// Run publishes changes until ctx ends; then it ends every stream.
func (d *Dashboard) Run(ctx context.Context) error {
	defer d.hub.close()
	poke := make(chan struct{}, 1)
	defer d.src.Subscribe(func() {
		select {
		case poke <- struct{}{}:
		default:
		}
	})()
	refreshed, beat := time.NewTicker(refresh), time.NewTicker(heartbeat)
	defer refreshed.Stop()
	defer beat.Stop()
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-beat.C:
			d.hub.beat()
			continue
		case <-poke:
		case <-refreshed.C:
		}
		select {
		case <-ctx.Done():
			return nil
		case <-pause.C:
		}
		if err := d.hub.publish(d.src.State()); err != nil {
			d.log.Error("dashboard cannot publish", "err", err)
		}
		pause.Reset(coalesce)
	}
}

// policy lets the page load only what this server gives.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; " +
	"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// ServeHTTP implements http.Handler.
func (d *Dashboard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	head := w.Header()
	head.Set("Content-Security-Policy", policy)
	head.Set("X-Content-Type-Options", "nosniff")
	head.Set("Referrer-Policy", "no-referrer")
	head.Set("Cross-Origin-Opener-Policy", "same-origin")
	head.Set("Cross-Origin-Resource-Policy", "same-origin")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		head.Set("Allow", "GET, HEAD")
		http.Error(w, "the dashboard only reads: use GET or HEAD", http.StatusMethodNotAllowed)
		return
	}
	d.mux.ServeHTTP(w, r)
}

// servePage gives the page with the state in it, so that it is complete
// before the first further request.
func (d *Dashboard) servePage(w http.ResponseWriter, r *http.Request) {
	st, doc, _, err := d.hub.state()
	if err != nil {
		d.fail(w, err)
		return
	}
	var page bytes.Buffer
	err = d.page.Execute(&page, map[string]any{
		"Assets": assetPath[1:] + d.assets.build, "World": d.world, "JSON": template.JS(doc), "State": st,
	})
	if err != nil {
		d.fail(w, err)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	d.send(w, r, page.Bytes())
}

func (d *Dashboard) serveState(w http.ResponseWriter, r *http.Request) {
	_, doc, id, err := d.hub.state()
	if err != nil {
		d.fail(w, err)
		return
	}
	head := w.Header()
	head.Set("Content-Type", "application/json")
	head.Set("Cache-Control", "no-cache")
	head.Set("ETag", `W/"`+id+`"`)
	d.send(w, r, doc)
}

// send answers with a body that is compressed where the client takes that.
func (d *Dashboard) send(w http.ResponseWriter, r *http.Request, body []byte) {
	w.Header().Set("Vary", "Accept-Encoding")
	if takesGzip(r) {
		w.Header().Set("Content-Encoding", "gzip")
		body = zip(body, gzip.DefaultCompression)
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
}

func (d *Dashboard) fail(w http.ResponseWriter, err error) {
	d.log.Error("dashboard cannot answer", "err", err)
	http.Error(w, "the dashboard cannot answer", http.StatusInternalServerError)
}

// serveEvents streams the state and its changes (server-sent events). A
// client goes on where it was by Last-Event-ID, or by since in the query.
func (d *Dashboard) serveEvents(w http.ResponseWriter, r *http.Request) {
	last := r.Header.Get("Last-Event-ID")
	if last == "" {
		last = r.URL.Query().Get("since")
	}
	head := w.Header()
	head.Set("Content-Type", "text/event-stream")
	head.Set("Cache-Control", "no-store")
	head.Set("X-Accel-Buffering", "no") // proxies that hold back responses
	if r.Method == http.MethodHead {
		return
	}
	missed, messages, err := d.hub.join(last)
	if err != nil {
		head.Set("Content-Type", "text/plain; charset=utf-8")
		head.Set("Retry-After", "5")
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	defer d.hub.leave(messages)
	control := http.NewResponseController(w)
	write := func(m message) bool {
		// Not every ResponseWriter has deadlines; without one the queue's
		// bound still drops a client that does not read.
		_ = control.SetWriteDeadline(time.Now().Add(writeLimit))
		_, err := w.Write(m)
		return err == nil
	}
	ok := write(message("retry: 1000\n\n"))
	for _, m := range missed {
		ok = ok && write(m)
	}
	for ok && control.Flush() == nil {
		select {
		case <-r.Context().Done():
			return
		case m, open := <-messages:
			ok = open && write(m)
		}
	}
}
