//go:build linux

package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"
)

// BackendConfig is what one backend serves.
type BackendConfig struct {
	Name, Region string
	Listen       string // ADDRESS:PORT
	Cert, Key    string // files in PEM
}

// BackendAnswer is what a backend says of itself and of the request.
type BackendAnswer struct {
	Region  string `json:"region"`
	Backend string `json:"backend"`
	Client  string `json:"client"` // as the gateway says
	Host    string `json:"host"`
	Path    string `json:"path"`
}

// RunBackend serves HTTPS until ctx ends: GET /health, and everything else
// with its name as JSON, or as one line of text for Accept: text/plain.
func RunBackend(ctx context.Context, cfg BackendConfig, log *slog.Logger) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		client := r.Header.Get("X-Forwarded-For")
		if client == "" {
			client = r.RemoteAddr
		}
		a := BackendAnswer{Region: cfg.Region, Backend: cfg.Name, Client: client, Host: r.Host, Path: r.URL.Path}
		if strings.Contains(r.Header.Get("Accept"), "text/plain") {
			fmt.Fprintf(w, "%s in %s, for %s\n", a.Backend, a.Region, a.Client)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(a); err != nil {
			log.Debug("answer not sent", "err", err) // the client has gone
		}
	})
	l, err := net.Listen("tcp", cfg.Listen)
	if err != nil {
		return fmt.Errorf("backend %s: %w", cfg.Name, err)
	}
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}
	stop := context.AfterFunc(ctx, func() { srv.Close() })
	defer stop()
	if err := srv.ServeTLS(l, cfg.Cert, cfg.Key); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("backend %s: %w", cfg.Name, err)
	}
	return nil
}
