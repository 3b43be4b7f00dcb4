// Package stub asks other nameservers what the fleet needs to know of names
// that are not its own: the addresses of aliases' targets, from resolvers, and
// a zone's DS at its parent, from every nameserver of the parent. And it tells
// whom the parent names of new CDS records.
//
// Adapter floor: it holds the DNS client of miekg/dns, over UDP with TCP where
// an answer is truncated. It implements dns/keeper's Resolver; cmd wires it.
package stub

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"

	"meridian/dns/sign"
	"meridian/fleet"
)

// Config says whom to ask.
type Config struct {
	Resolvers []netip.AddrPort // empty: those of the system
	Timeout   time.Duration    // for one question to one server; 0 for 3 s
	Port      uint16           // of nameservers; 0 for 53
}

// Stub asks. Its methods are safe for concurrent use.
type Stub struct {
	timeout time.Duration
	port    uint16

	mu        sync.Mutex // guards resolvers
	resolvers []netip.AddrPort
	system    bool
}

// resolvConf is where the system keeps its resolvers (resolv.conf(5)).
const resolvConf = "/etc/resolv.conf"

// New sends nothing.
func New(cfg Config) *Stub {
	s := &Stub{timeout: cfg.Timeout, port: cfg.Port}
	if s.timeout <= 0 {
		s.timeout = 3 * time.Second
	}
	if s.port == 0 {
		s.port = 53
	}
	s.Use(cfg.Resolvers)
	return s
}

// Use sets the resolvers, as the Spec may change them; empty: those of the
// system.
func (s *Stub) Use(resolvers []netip.AddrPort) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.resolvers, s.system = slices.Clone(resolvers), len(resolvers) == 0
}

func (s *Stub) servers() ([]netip.AddrPort, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.system {
		return s.resolvers, nil
	}
	cfg, err := dns.ClientConfigFromFile(resolvConf) // it may change at any time
	if err != nil {
		return nil, fmt.Errorf("the system's resolvers: %w", err)
	}
	var out []netip.AddrPort
	for _, host := range cfg.Servers {
		if a, err := netip.ParseAddr(host); err == nil {
			out = append(out, netip.AddrPortFrom(a, 53))
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%s names no resolver", resolvConf)
	}
	return out, nil
}

// ErrNoName is given for a name that does not exist.
var ErrNoName = errors.New("the name does not exist")

// Addresses gives the A or AAAA records of a name, through CNAMEs, and the
// least TTL on the way; for a name without such records how long that holds.
func (s *Stub) Addresses(ctx context.Context, name fleet.Name, v6 bool) ([]netip.Addr, time.Duration, error) {
	t := dns.TypeA
	if v6 {
		t = dns.TypeAAAA
	}
	m, err := s.resolve(ctx, name, t)
	if err != nil {
		return nil, 0, err
	}
	if m.Rcode == dns.RcodeNameError {
		return nil, 0, fmt.Errorf("%s: %w", name, ErrNoName)
	}
	var out []netip.Addr
	ttl := uint32(3600)
	for _, rr := range m.Answer {
		ttl = min(ttl, rr.Header().Ttl)
		var ip net.IP
		switch rr := rr.(type) {
		case *dns.A:
			ip = rr.A
		case *dns.AAAA:
			ip = rr.AAAA
		}
		if a, ok := netip.AddrFromSlice(ip); ok && rr.Header().Rrtype == t {
			if t == dns.TypeA {
				a = a.Unmap()
			}
			out = append(out, a)
		}
	}
	if len(out) == 0 {
		ttl = 60
		for _, rr := range m.Ns {
			if soa, ok := rr.(*dns.SOA); ok {
				ttl = min(soa.Hdr.Ttl, soa.Minttl)
			}
		}
	}
	return out, time.Duration(ttl) * time.Second, nil
}

// CNAME gives the name that another is an alias of, "" where it is none.
func (s *Stub) CNAME(ctx context.Context, name fleet.Name) (fleet.Name, error) {
	m, err := s.resolve(ctx, name, dns.TypeCNAME)
	if err != nil {
		return "", err
	}
	for _, rr := range m.Answer {
		if c, ok := rr.(*dns.CNAME); ok && strings.EqualFold(c.Hdr.Name, string(name)) {
			return fleet.ParseName(c.Target)
		}
	}
	return "", nil
}

// ParentDS asks every address of every nameserver of the zone's parent for the
// zone's DS. All of them must answer with authority: else it is an error, and
// nothing is known.
func (s *Stub) ParentDS(ctx context.Context, zone fleet.Name) (*sign.ParentDS, error) {
	parent, hosts, err := s.parent(ctx, zone)
	if err != nil {
		return nil, err
	}
	var addrs []netip.Addr
	for _, h := range hosts {
		found := 0
		for _, v6 := range []bool{false, true} {
			list, _, err := s.Addresses(ctx, h, v6)
			if err == nil {
				addrs = append(addrs, list...)
				found += len(list)
			}
		}
		if found == 0 {
			return nil, fmt.Errorf("nameserver %s of %s has no address", h, parent)
		}
	}
	return s.askAll(ctx, zone, addrs)
}

// DS asks all resolvers at once for a zone's DS and takes the first good
// answer; none and no error: it has none.
func (s *Stub) DS(ctx context.Context, zone fleet.Name) ([]sign.DS, error) {
	if zone == "." {
		return nil, nil
	}
	servers, err := s.servers()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		m   *dns.Msg
		err error
	}
	results := make(chan result, len(servers))
	for _, a := range servers {
		go func() {
			m, err := s.exchange(ctx, question(zone, dns.TypeDS), a)
			if err == nil && m.Rcode != dns.RcodeSuccess && m.Rcode != dns.RcodeNameError {
				err = fmt.Errorf("%s says %s", a, dns.RcodeToString[m.Rcode])
			}
			results <- result{m, err}
		}()
	}
	var errs []error
	for range servers {
		r := <-results
		if r.err == nil {
			return merge(zone, []*dns.Msg{r.m}).Any, nil
		}
		errs = append(errs, r.err)
	}
	return nil, fmt.Errorf("%s DS: %w", zone, errors.Join(errs...))
}

// parent finds the zone above another: the first name above with NS records.
func (s *Stub) parent(ctx context.Context, zone fleet.Name) (fleet.Name, []fleet.Name, error) {
	if zone == "." {
		return "", nil, errors.New("the root has no parent")
	}
	for at := string(zone); at != "."; {
		off, end := dns.NextLabel(at, 0)
		if at = at[off:]; end || at == "" {
			at = "."
		}
		m, err := s.resolve(ctx, fleet.Name(at), dns.TypeNS)
		if err != nil {
			return "", nil, fmt.Errorf("looking for the parent of %s: %w", zone, err)
		}
		var hosts []fleet.Name
		for _, rr := range m.Answer {
			if ns, ok := rr.(*dns.NS); ok && strings.EqualFold(ns.Hdr.Name, at) {
				if n, err := fleet.ParseName(ns.Ns); err == nil {
					hosts = append(hosts, n)
				}
			}
		}
		if len(hosts) > 0 {
			return fleet.Name(at), hosts, nil
		}
	}
	return "", nil, fmt.Errorf("no zone above %s has nameservers", zone)
}

func (s *Stub) askAll(ctx context.Context, zone fleet.Name, addrs []netip.Addr) (*sign.ParentDS, error) {
	var wg sync.WaitGroup
	answers := make([]*dns.Msg, len(addrs))
	errs := make([]error, len(addrs))
	for i, a := range addrs {
		wg.Go(func() {
			q := question(zone, dns.TypeDS)
			q.RecursionDesired = false
			answers[i], errs[i] = s.exchange(ctx, q, netip.AddrPortFrom(a, s.port))
			if errs[i] == nil && (!answers[i].Authoritative || answers[i].Rcode != dns.RcodeSuccess && answers[i].Rcode != dns.RcodeNameError) {
				errs[i] = fmt.Errorf("%s says %s, not with authority", a, dns.RcodeToString[answers[i].Rcode])
			}
		})
	}
	wg.Wait()
	reached := 0
	for i, err := range errs {
		if err == nil {
			reached++
		} else if noRoute(err) && addrs[i].Is6() {
			errs[i] = nil // this machine has no IPv6; the same server has IPv4, or none counts
			answers[i] = nil
		}
	}
	if err := errors.Join(errs...); err != nil || reached == 0 {
		return nil, fmt.Errorf("DS of %s at the parent: %w", zone, errors.Join(err, errIf(reached == 0, "no server answered")))
	}
	return merge(zone, answers), nil
}

func errIf(is bool, text string) error {
	if !is {
		return nil
	}
	return errors.New(text)
}

func noRoute(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && (strings.Contains(err.Error(), "network is unreachable") || strings.Contains(err.Error(), "cannot assign requested address"))
}

// merge gives what all servers have, and what any has.
func merge(zone fleet.Name, answers []*dns.Msg) *sign.ParentDS {
	out := &sign.ParentDS{}
	count := map[sign.DS]int{}
	servers := 0
	for _, m := range answers {
		if m == nil {
			continue
		}
		servers++
		for _, rr := range m.Answer {
			ds, ok := rr.(*dns.DS)
			if !ok || !strings.EqualFold(ds.Hdr.Name, string(zone)) {
				continue
			}
			d := sign.DS{KeyTag: ds.KeyTag, Algorithm: ds.Algorithm, DigestType: ds.DigestType, Digest: strings.ToLower(ds.Digest)}
			if count[d]++; count[d] == 1 {
				out.Any = append(out.Any, d)
			}
			out.TTL = max(out.TTL, ds.Hdr.Ttl)
		}
	}
	// Nameservers give them in an order that changes, and what is made of them
	// is compared.
	slices.SortFunc(out.Any, func(a, b sign.DS) int {
		return cmp.Or(cmp.Compare(a.KeyTag, b.KeyTag), cmp.Compare(a.Algorithm, b.Algorithm),
			cmp.Compare(a.DigestType, b.DigestType), cmp.Compare(a.Digest, b.Digest))
	})
	for _, d := range out.Any {
		if count[d] == servers {
			out.All = append(out.All, d)
		}
	}
	return out
}

func question(name fleet.Name, t uint16) *dns.Msg {
	m := new(dns.Msg)
	m.SetQuestion(string(name), t)
	m.SetEdns0(1232, false)
	return m
}

// resolve asks the resolvers one after another until one answers.
func (s *Stub) resolve(ctx context.Context, name fleet.Name, t uint16) (*dns.Msg, error) {
	servers, err := s.servers()
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, a := range servers {
		m, err := s.exchange(ctx, question(name, t), a)
		if err == nil && (m.Rcode == dns.RcodeSuccess || m.Rcode == dns.RcodeNameError) {
			return m, nil
		}
		if err == nil {
			err = fmt.Errorf("%s says %s", a, dns.RcodeToString[m.Rcode])
		}
		errs = append(errs, err)
		if ctx.Err() != nil {
			break
		}
	}
	return nil, fmt.Errorf("%s %s: %w", name, dns.Type(t), errors.Join(errs...))
}

// exchange asks one server, by TCP where UDP gives a truncated answer.
func (s *Stub) exchange(ctx context.Context, q *dns.Msg, server netip.AddrPort) (*dns.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	c := &dns.Client{Timeout: s.timeout, UDPSize: 1232}
	m, _, err := c.ExchangeContext(ctx, q, server.String())
	if err == nil && m.Truncated {
		c.Net = "tcp"
		m, _, err = c.ExchangeContext(ctx, q, server.String())
	}
	if err != nil {
		return nil, fmt.Errorf("asking %s: %w", server, err)
	}
	if len(m.Question) != 1 || m.Question[0].Qtype != q.Question[0].Qtype || !strings.EqualFold(m.Question[0].Name, q.Question[0].Name) {
		return nil, fmt.Errorf("asking %s: the answer is to another question", server)
	}
	return m, nil
}
