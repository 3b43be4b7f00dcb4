package xdp

import (
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

// MaxMemory is the most that Config.Memory may be: half of what can be told apart,
// since a change puts the new beside the old.
const MaxMemory = maxBlocks / 2 * (32 << 10)

// Path answers queries that come to a device. It implements server.Fast, and
// belongs to the network namespace of the goroutine that calls Serve.
type Path struct {
	cfg   Config
	key   uint64
	zones *zoneNumbers
	built chan built // holds at most the one image that is being made

	make     func(*answer.Plan) (*image, error) // compile; tests hold it up
	building bool
	image    *image    // in use; nil before the first
	paid     time.Time // until when the work that was done counts
	listen   []netip.AddrPort
	limiter  *limit.Limiter // that the kernel goes by
	link     link.Link
	retry    time.Time
	samples  *samples // nil before the first image

	mu     sync.Mutex // guards what follows
	kernel *kernel
	holds  holds
	mode   Mode // while attached
	debts  *limit.Table
	fails  uint64
	swaps  uint64
	mended uint64 // zones
}

// built is an image with its program in the kernel.
type built struct {
	image *image
	took  time.Duration
	err   error
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
	if cfg.Memory < 0 || cfg.Memory > MaxMemory {
		return nil, fmt.Errorf("dns xdp: memory of %d octets: expected 0 to %d", cfg.Memory, MaxMemory)
	}
	var b [8]byte
	if _, err := rand.Read(b[:]); err != nil {
		return nil, fmt.Errorf("dns xdp: %w", err)
	}
	p := &Path{cfg: cfg, key: binary.LittleEndian.Uint64(b[:]), zones: newZoneNumbers(), built: make(chan built, 1)}
	p.make = func(plan *answer.Plan) (*image, error) {
		return compile(plan, p.key, p.zones, cfg.Memory/(32<<10))
	}
	return p, nil
}

// retryAfter is how long what the kernel refused is left alone.
const retryAfter = 30 * time.Second

// Serve brings the kernel in line. When it returns, no answer is given that is
// older than the plan: what is decided of clients is in force, and zones that
// have changed are the sockets' until they are mended, which later calls go on
// with. What cannot be mended has another image made beside the one in use.
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
	resting := s.Now.Before(p.retry)
	err := p.hold(s, resting)
	if resting {
		return err
	}
	if err = errors.Join(err, p.mend(s)); err != nil {
		p.mu.Lock()
		p.fails++
		p.mu.Unlock()
		p.retry = s.Now.Add(retryAfter)
	}
	return err
}

// hold brings all in line that answers go by. Where that fails the program is
// taken off the device: it would answer by what holds no longer. Resting, what is
// not there is not tried again.
func (p *Path) hold(s *server.Serving, resting bool) error {
	err := p.follow(s)
	var taken error
	if err == nil && !resting {
		taken = p.take(s)
	}
	if err == nil && (!resting || p.link != nil) {
		err = p.keep(s)
	}
	if err != nil {
		p.detach()
	}
	return errors.Join(err, taken)
}

// follow brings the image in use in line.
func (p *Path) follow(s *server.Serving) error {
	if p.image == nil {
		return nil
	}
	err := errors.Join(p.image.follow(s.Plan), p.image.kernel.tick(s.Now))
	p.note()
	return err
}

// take takes an image into use that has been made, and has one made where
// there is none, or not one that can be mended.
func (p *Path) take(s *server.Serving) error {
	select {
	case b := <-p.built:
		p.building = false
		if b.err != nil {
			return b.err
		}
		err := b.image.follow(s.Plan)
		if err == nil {
			err = p.swap(&b)
		}
		if err != nil {
			b.image.kernel.Close()
			return err
		}
	default:
	}
	if p.building || p.image != nil && p.image.worn == "" || !p.rested(s) {
		return nil
	}
	p.building = true
	p.mu.Lock()
	old := p.kernel
	p.mu.Unlock()
	go func(plan *answer.Plan) {
		begin := time.Now()
		b := built{}
		if b.image, b.err = p.make(plan); b.err == nil {
			_, b.err = load(b.image, s.Now, old)
		}
		b.took = time.Since(begin)
		p.built <- b
		s.Again()
	}(s.Plan)
	return nil
}

// swap takes an image into use, which is in line: no query is lost.
func (p *Path) swap(b *built) error {
	k := b.image.kernel
	if p.link != nil {
		if err := p.link.Update(k.Dns); err != nil {
			return fmt.Errorf("dns xdp: put another program in place: %w", err)
		}
	}
	why := "none were there"
	if p.image != nil {
		why = p.image.worn
	}
	p.mu.Lock()
	old := p.kernel
	p.kernel = k
	p.swaps++
	p.mu.Unlock()
	p.image, p.listen, p.limiter = b.image, nil, nil
	p.note()
	p.pay(b.took)
	p.cfg.Log.Info("made the kernel's DNS answers anew", "why", why, "zones", len(b.image.parts), "names", len(b.image.nodes), "took", b.took)
	if left := b.image.left(); len(left) > 0 {
		p.cfg.Log.Warn("zones that have no room in the kernel are answered by the sockets", "zones", len(left), "among", left[:min(8, len(left))])
	}
	if old != nil {
		old.Close()
	}
	return nil
}

// mend brings some of the zones that wait into force again.
func (p *Path) mend(s *server.Serving) error {
	im := p.image
	if im == nil || im.worn != "" || len(im.waiting) == 0 || !p.rested(s) {
		return nil
	}
	begin := time.Now()
	zones, err := im.mend()
	took := time.Since(begin)
	p.mu.Lock()
	p.mended += uint64(zones)
	p.mu.Unlock()
	p.note()
	p.pay(took)
	p.cfg.Log.Debug("changed zones among the kernel's DNS answers", "zones", zones, "waiting", len(im.waiting), "took", took, "worn", im.worn)
	if len(im.waiting) > 0 || im.worn != "" {
		s.Again()
	}
	return err
}

// What making answers may take of the time of one CPU, where changes never
// end: a share of it, after so much as is free.
const (
	workShare = 4
	workFree  = 10 * time.Second
)

// pay counts work.
func (p *Path) pay(took time.Duration) {
	if least := time.Now().Add(-workShare * workFree); p.paid.Before(least) {
		p.paid = least
	}
	p.paid = p.paid.Add(workShare * took)
}

// rested says whether more work may be done now; else it will be later.
func (p *Path) rested(s *server.Serving) bool {
	wait := time.Until(p.paid)
	if wait <= 0 {
		return true
	}
	time.AfterFunc(wait, s.Again)
	return false
}

// keep says what else holds now, and attaches the program where it is not.
func (p *Path) keep(s *server.Serving) error {
	if p.image == nil {
		return nil
	}
	fast := p.image.plan.Fast()
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
		if b := <-p.built; b.err == nil {
			b.image.kernel.Close()
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
