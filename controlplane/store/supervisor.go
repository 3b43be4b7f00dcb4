package store

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"meridian/identity"
)

// SupervisorConfig is how to run the store's child process.
type SupervisorConfig struct {
	Command     []string              // the own program and its store-child subcommand
	Child       ChildConfig           // Cert, Key and CA are filled in
	Credentials *identity.Credentials // of this node
	Authority   []byte                // identity.AuthorityPEM
	Logger      *slog.Logger
}

// Supervisor keeps the store's child process running.
type Supervisor struct {
	cfg    SupervisorConfig
	log    *slog.Logger
	starts atomic.Int64
	pid    atomic.Int64
}

const (
	minBackoff = 250 * time.Millisecond
	maxBackoff = 10 * time.Second
	settled    = 30 * time.Second // a child that lived this long starts the backoff afresh
	stopLimit  = 12 * time.Second // from SIGTERM to SIGKILL
	remintEach = 24 * time.Hour
)

// NewSupervisor checks the configuration.
func NewSupervisor(cfg SupervisorConfig) (*Supervisor, error) {
	if len(cfg.Command) == 0 || cfg.Child.Dir == "" || cfg.Child.Name == "" || cfg.Credentials == nil {
		return nil, errors.New("store supervisor: expected a command, a directory, a name and credentials")
	}
	tls := filepath.Join(cfg.Child.Dir, "tls")
	cfg.Child.Cert = filepath.Join(tls, "node.pem")
	cfg.Child.Key = filepath.Join(tls, "node.key")
	cfg.Child.CA = filepath.Join(tls, "authority.pem")
	if _, err := cfg.Child.embed(); err != nil {
		return nil, err
	}
	return &Supervisor{cfg: cfg, log: cfg.Logger}, nil
}

// PID is the child's process id, 0 while there is none.
func (s *Supervisor) PID() int { return int(s.pid.Load()) }

// Register adds the supervisor's metrics.
func (s *Supervisor) Register(r prometheus.Registerer) {
	r.MustRegister(
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "meridian_store_child_starts_total", Help: "Starts of the store's child process.",
		}, func() float64 { return float64(s.starts.Load()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "meridian_store_child_up", Help: "1 while the store's child process runs.",
		}, func() float64 { return float64(min(s.pid.Load(), 1)) }),
	)
}

// Run starts the child and starts it again whenever it ends, until ctx ends;
// then it stops the child and returns when it is gone.
func (s *Supervisor) Run(ctx context.Context) error {
	// The kernel ties the child's life to the thread that started it
	// (PR_SET_PDEATHSIG), so that thread must not go away before.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	backoff := minBackoff
	for {
		began := time.Now()
		err := s.once(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if time.Since(began) > settled {
			backoff = minBackoff
		}
		wait := backoff/2 + rand.N(backoff)
		s.log.Error("store child ended; starting it again", "error", err, "after", time.Since(began).Round(time.Millisecond), "in", wait.Round(time.Millisecond))
		backoff = min(backoff*2, maxBackoff)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

// once runs the child until it ends or ctx does.
func (s *Supervisor) once(ctx context.Context) error {
	if err := s.writeTLS(); err != nil {
		return err
	}
	config, err := json.Marshal(s.cfg.Child)
	if err != nil {
		return fmt.Errorf("store child: %w", err)
	}
	cmd := exec.Command(s.cfg.Command[0], s.cfg.Command[1:]...)
	cmd.SysProcAttr = dieWithParent()
	stdin, err := cmd.StdinPipe() // stays open as long as this process lives
	if err != nil {
		return fmt.Errorf("store child: %w", err)
	}
	defer stdin.Close()
	stderr := &logPipe{log: s.log, ctx: ctx}
	cmd.Stdout, cmd.Stderr = stderr, stderr
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("store child: %w", err)
	}
	s.starts.Add(1)
	s.pid.Store(int64(cmd.Process.Pid))
	defer s.pid.Store(0)
	if _, err := stdin.Write(append(config, '\n')); err != nil {
		s.log.Warn("store child did not take its configuration", "error", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	remint := time.NewTicker(remintEach)
	defer remint.Stop()
	for {
		select {
		case err := <-ended:
			if err == nil {
				err = errors.New("exited")
			}
			return err
		case <-remint.C: // etcd reads the files at each handshake
			if err := s.writeTLS(); err != nil {
				s.log.Error("store certificate not renewed", "error", err)
			}
		case <-ctx.Done():
			_ = cmd.Process.Signal(syscall.SIGTERM)
			select {
			case <-ended:
			case <-time.After(stopLimit):
				s.log.Warn("store child did not stop in time; killed", "after", stopLimit)
				_ = cmd.Process.Kill()
				<-ended
			}
			return nil
		}
	}
}

// writeTLS writes the PEM files that etcd reads.
func (s *Supervisor) writeTLS() error {
	leaf, err := s.cfg.Credentials.Leaf()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(s.cfg.Child.Cert), 0o700); err != nil {
		return fmt.Errorf("store certificates: %w", err)
	}
	for path, data := range map[string][]byte{
		s.cfg.Child.Cert: leaf.CertPEM, s.cfg.Child.Key: leaf.KeyPEM, s.cfg.Child.CA: s.cfg.Authority,
	} {
		if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, data) {
			continue
		}
		tmp := path + ".new"
		if err := os.WriteFile(tmp, data, 0o600); err != nil {
			return fmt.Errorf("store certificates: %w", err)
		}
		if err := os.Rename(tmp, path); err != nil {
			return fmt.Errorf("store certificates: %w", err)
		}
	}
	return nil
}

// logPipe turns etcd's JSON lines into log records. os/exec writes to it from
// one goroutine.
type logPipe struct {
	log *slog.Logger
	ctx context.Context // once it has ended, complaints are part of stopping
	buf bytes.Buffer
}

// maxLine bounds a line of the child, in octets; longer ones are cut.
const maxLine = 16 << 10

func (p *logPipe) Write(b []byte) (int, error) {
	p.buf.Write(b)
	for {
		line, err := p.buf.ReadBytes('\n')
		if err == io.EOF {
			if len(line) < maxLine {
				p.buf.Write(line)
				return len(b), nil
			}
		}
		p.line(bytes.TrimSpace(line))
	}
}

func (p *logPipe) line(line []byte) {
	if len(line) == 0 {
		return
	}
	var rec map[string]any
	if json.Unmarshal(line, &rec) != nil {
		p.log.Warn("store child", "line", string(line))
		return
	}
	level := slog.LevelDebug
	switch rec["level"] {
	case "warn": // such as each lost connection of each of its streams
		level = slog.LevelInfo
	case "error", "dpanic", "panic", "fatal":
		level = slog.LevelError
	}
	if p.ctx.Err() != nil {
		level = slog.LevelDebug
	}
	args := []any{"what", rec["msg"]}
	for _, key := range []string{"error", "remote-peer-id", "took", "endpoint"} {
		if v, ok := rec[key]; ok {
			args = append(args, key, v)
		}
	}
	p.log.Log(p.ctx, level, "store child", args...)
}
