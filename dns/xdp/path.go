package xdp

import (
	"cmp"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/cilium/ebpf/link"

	"meridian/dns/answer"
	"meridian/dns/limit"
	"meridian/dns/server"
	"meridian/dns/zone"
)

// Mode is how a program is attached to a device.
type Mode string

// The modes. Auto is native where the device can, else generic.
const (
	Auto    Mode = ""
	Native  Mode = "native"
	Generic Mode = "generic"
)

// Config is what a Path needs.
type Config struct {
	Device string
	Mode   Mode
	Memory int // octets that answers may take in the kernel, but for the clients' table; 0 for DefaultMemory
	Log    *slog.Logger
}

// DefaultMemory is that of Config.Memory.
const DefaultMemory = 1 << 30

// Path answers queries that come to a device. It implements server.Fast, and
// belongs to the network namespace of the goroutine that calls Serve.
type Path struct {
	cfg   Config
	key   uint64
	zones *zoneNumbers
	built chan built // holds at most the one image that is being made

	building bool
	image    *image // in use; nil before the first
	pending  *answer.Plan
	decided  *answer.Plan // whose decisions are in force
	checked  *answer.Plan // that was last looked at for zones that have changed since
	listen   []netip.AddrPort
	limiter  *limit.Limiter // that the kernel goes by
	link     link.Link
	index    int // of the device that the link is at
	retry    time.Time
	samples  *samples // nil before the first image

	mu     sync.Mutex // guards what follows
	kernel *kernel
	mode   Mode // while attached
	debts  *limit.Table
	fails  uint64
	swaps  uint64
}

// built is an image with its program in the kernel.
type built struct {
	image  *image
	kernel *kernel
	plan   *answer.Plan
	err    error
}

// New checks the configuration; it opens nothing.
func New(cfg Config) (*Path, error) {
	if cfg.Device == "" || cfg.Log == nil {
		return nil, errors.New("dns xdp: no device or no logger")
	}
	if cfg.Mode != Auto && cfg.Mode != Native && cfg.Mode != Generic {
		return nil, fmt.Errorf("dns xdp: mode %q: expected native or generic", cfg.Mode)
	}
	if cfg.Memory == 0 {
		cfg.Memory = DefaultMemory
	}
	var b [8]byte
	if _, err := rand.Read(b[:]); err != nil {
		return nil, fmt.Errorf("dns xdp: %w", err)
	}
	return &Path{cfg: cfg, key: binary.LittleEndian.Uint64(b[:]), zones: newZoneNumbers(), built: make(chan built, 1)}, nil
}

// retryAfter is how long what the kernel refused is left alone.
const retryAfter = 30 * time.Second

// Serve brings the kernel in line. Where names have changed another image is
// made beside the one in use, and Serve is called again when it is ready;
// what is decided of clients is in force when Serve returns.
func (p *Path) Serve(s *server.Serving) error {
	if s.Limit != nil && !fitNetworks(s.Limit.Config().Exempt) {
		s.Off = fmt.Sprintf("dns.rate_limit.exempt: more than %d networks that lie apart", maxBounds/2)
	}
	if !fitNetworks(s.Proxies) {
		s.Off = fmt.Sprintf("dns.proxies: more than %d networks that lie apart", maxBounds/2)
	}
	if s.Off != "" {
		p.detach()
		return errors.New(s.Off)
	}
	if s.Now.Before(p.retry) {
		return errors.Join(p.expire(s.Plan), p.steer(s))
	}
	err := errors.Join(p.take(s), p.expire(s.Plan), p.steer(s), p.keep(s))
	if err != nil {
		p.mu.Lock()
		p.fails++
		p.mu.Unlock()
		p.retry = s.Now.Add(retryAfter)
	}
	return err
}

// take has an image made where the names are others than those in use, and
// takes into use the one that has been.
func (p *Path) take(s *server.Serving) error {
	select {
	case b := <-p.built:
		p.building = false
		if b.err != nil {
			p.pending = nil
			return b.err
		}
		if err := p.swap(&b); err != nil {
			b.kernel.Close()
			return err
		}
	default:
	}
	if p.building {
		return nil
	}
	if p.pending != nil {
		if names, _ := s.Plan.Same(p.pending); names {
			return nil
		}
	}
	p.building, p.pending = true, s.Plan
	var old *kernel
	p.mu.Lock()
	old = p.kernel
	p.mu.Unlock()
	go func(plan *answer.Plan) {
		b := built{plan: plan}
		if b.image, b.err = compile(plan, p.key, p.zones, p.cfg.Memory/(32<<10)); b.err == nil {
			b.kernel, b.err = load(b.image, s.Now, old)
		}
		p.built <- b
		s.Again()
	}(s.Plan)
	return nil
}

// swap takes an image into use: no query is lost.
func (p *Path) swap(b *built) error {
	if p.link != nil {
		if err := p.link.Update(b.kernel.Dns); err != nil {
			return fmt.Errorf("dns xdp: put another program in place: %w", err)
		}
	}
	p.mu.Lock()
	old := p.kernel
	p.kernel = b.kernel
	p.swaps++
	p.mu.Unlock()
	p.image, p.decided, p.checked, p.listen, p.limiter = b.image, b.plan, b.plan, nil, nil
	if left := b.image.compiler.left; len(left) > 0 {
		p.cfg.Log.Warn("zones that have no room in the kernel are answered by the sockets", "zones", len(left), "among", left[:min(8, len(left))])
	}
	if old != nil {
		old.Close()
	}
	return nil
}

// expire leaves to the sockets what has changed since the image was made.
func (p *Path) expire(now *answer.Plan) error {
	if p.image == nil || p.checked == now {
		return nil
	}
	made := p.image.plan
	for was, is := range now.Changed(made) {
		name := zone.Wire(cmp.Or(was, is).Name)
		if was == nil { // what was above it is no longer
			if was = made.Deepest(name); was == nil {
				continue
			}
		}
		if err := write(p.kernel.Stale, int(p.zones.of(was.Name)), []byte{1}); err != nil {
			return fmt.Errorf("dns xdp: zones that have changed: %w", err)
		}
	}
	p.checked = now
	return nil
}

// steer puts into force what is decided of clients, as far as it is about what
// the image has.
func (p *Path) steer(s *server.Serving) error {
	if p.image == nil || p.decided == s.Plan {
		return nil
	}
	if _, intent := s.Plan.Same(p.decided); !intent {
		return nil
	}
	ok, err := p.kernel.steer(p.image, s.Plan)
	if err != nil {
		return err
	}
	if p.decided = s.Plan; !ok {
		p.pending = nil // there is no room: all is made anew
	}
	return nil
}

// keep says what else holds now, and attaches the program where it is not.
func (p *Path) keep(s *server.Serving) error {
	if p.image == nil {
		return nil
	}
	fast := p.decided.Fast()
	if err := errors.Join(p.kernel.setDays(fast, s.Now), p.kernel.tick(s.Now)); err != nil {
		return err
	}
	if err := errors.Join(p.kernel.setProxies(s.Proxies), p.setLimit(s.Limit), p.sample(s)); err != nil {
		return err
	}
	listen, err := expand(s.Listen)
	if err != nil {
		return err
	}
	if !slices.Equal(listen, p.listen) {
		if err := p.kernel.listen(listen); err != nil {
			return err
		}
		p.listen = listen
	}
	return p.attach()
}

// setLimit tells the kernel the rate limit.
func (p *Path) setLimit(l *limit.Limiter) error {
	if l == p.limiter {
		return nil
	}
	if p.Debts() == nil {
		t, err := p.kernel.debtTable()
		if err != nil {
			return err
		}
		p.mu.Lock()
		p.debts = t
		p.mu.Unlock()
	}
	if err := p.kernel.setLimit(l, p.debts); err != nil {
		return err
	}
	p.limiter = l
	return nil
}

// Debts gives the table that the kernel's rate limit goes by, for the sockets'
// to go by it too; nil while there is none.
func (p *Path) Debts() *limit.Table {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.debts
}

// expand gives the machine's addresses in place of unspecified ones.
func expand(listen []netip.AddrPort) ([]netip.AddrPort, error) {
	var own []netip.Addr
	var out []netip.AddrPort
	for _, at := range listen {
		if !at.Addr().IsUnspecified() {
			out = append(out, at)
			continue
		}
		if own == nil {
			addrs, err := net.InterfaceAddrs()
			if err != nil {
				return nil, fmt.Errorf("dns xdp: the machine's addresses: %w", err)
			}
			for _, a := range addrs {
				if n, ok := a.(*net.IPNet); ok {
					if a, ok := netip.AddrFromSlice(n.IP); ok {
						own = append(own, a.Unmap())
					}
				}
			}
		}
		for _, a := range own {
			if a.Is4() || at.Addr().Is6() {
				out = append(out, netip.AddrPortFrom(a, at.Port()))
			}
		}
	}
	slices.SortFunc(out, netip.AddrPort.Compare)
	return slices.Compact(out), nil
}

// Attached gives the mode in which the program is at the device; false where it
// is not. It is safe for concurrent use.
func (p *Path) Attached() (Mode, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mode, p.mode != ""
}

// Close ends it: from then on the sockets get all queries.
func (p *Path) Close() error {
	p.detach()
	p.stopSamples()
	if p.building {
		if b := <-p.built; b.kernel != nil {
			b.kernel.Close()
		}
		p.building = false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.kernel == nil {
		return nil
	}
	return p.kernel.Close()
}
