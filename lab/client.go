//go:build linux

package lab

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// A client is the people of one city: their resolver, which keeps answers for
// their TTL and asks on behalf of the city's subnet, and their browsers, which
// make a new connection for every request.
type client struct {
	lab     *Lab
	city    *City
	servers []netip.AddrPort // nameservers, nearest first
	trust   *x509.CertPool

	mu    sync.Mutex
	cache map[question]answer
}

type question struct {
	name  string
	qtype uint16
}

type answer struct {
	addrs   []netip.Addr
	expires time.Time
}

// attempt limits one try of a resolver at one nameserver; total limits one
// request of a browser.
const (
	attempt = 500 * time.Millisecond
	total   = 4 * time.Second
)

// newClient makes the client of a city.
func newClient(l *Lab, c *City) (*client, error) {
	cl := &client{lab: l, city: c, trust: x509.NewCertPool(), cache: map[question]answer{}}
	ca, err := os.ReadFile(l.path(caFile))
	if err != nil {
		return nil, fmt.Errorf("client in %s: %w", c.Name, err)
	}
	cl.trust.AppendCertsFromPEM(ca)
	home := l.Topology.Region(c.Region)
	for _, r := range append([]*Region{home}, l.Topology.nearest(home)...) {
		v4, _ := l.Topology.Addr(r, r.Of(Gslb)[0])
		cl.servers = append(cl.servers, netip.AddrPortFrom(v4, l.Topology.DNSPort))
	}
	return cl, nil
}

// lookup gives the addresses of a name, from the cache while their TTL lasts,
// else from the first nameserver that answers.
func (c *client) lookup(ctx context.Context, q question) ([]netip.Addr, error) {
	c.mu.Lock()
	had, ok := c.cache[q]
	c.mu.Unlock()
	if ok && time.Now().Before(had.expires) {
		return had.addrs, nil
	}
	var errs []error
	for _, server := range c.servers {
		addrs, ttl, err := ask(ctx, c.lab, c.city.ID, server, q, c.city.Subnet)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		c.mu.Lock()
		c.cache[q] = answer{addrs, time.Now().Add(ttl)}
		c.mu.Unlock()
		return addrs, nil
	}
	return nil, fmt.Errorf("resolve %s: %w", q.name, errors.Join(errs...))
}

// ask sends one query with Client Subnet (RFC 7871) from a machine.
func ask(ctx context.Context, l *Lab, from string, server netip.AddrPort, q question, subnet netip.Prefix) ([]netip.Addr, time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, attempt)
	defer cancel()
	conn, err := l.Dial(ctx, from, "udp", server.String())
	if err != nil {
		return nil, 0, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(attempt)); err != nil {
		return nil, 0, err
	}
	reply, err := exchange(&dns.Conn{Conn: conn, UDPSize: 1232}, query(q, subnet))
	if err != nil {
		return nil, 0, fmt.Errorf("%s: %w", server, err)
	}
	return addresses(reply)
}

func query(q question, subnet netip.Prefix) *dns.Msg {
	m := new(dns.Msg)
	m.SetQuestion(dns.Fqdn(q.name), q.qtype)
	m.RecursionDesired = false
	m.SetEdns0(1232, false)
	family := uint16(1)
	if subnet.Addr().Is6() {
		family = 2
	}
	m.IsEdns0().Option = append(m.IsEdns0().Option, &dns.EDNS0_SUBNET{
		Code: dns.EDNS0SUBNET, Family: family, SourceNetmask: uint8(subnet.Bits()), Address: subnet.Addr().AsSlice(),
	})
	return m
}

func exchange(conn *dns.Conn, m *dns.Msg) (*dns.Msg, error) {
	if err := conn.WriteMsg(m); err != nil {
		return nil, err
	}
	for {
		reply, err := conn.ReadMsg()
		if err != nil {
			return nil, err
		}
		if reply.Id == m.Id {
			return reply, nil
		}
	}
}

// addresses takes the addresses of an answer and the least of their TTLs.
func addresses(m *dns.Msg) ([]netip.Addr, time.Duration, error) {
	if m.Rcode != dns.RcodeSuccess {
		return nil, 0, errors.New(dns.RcodeToString[m.Rcode])
	}
	var out []netip.Addr
	ttl := time.Hour
	for _, rr := range m.Answer {
		var ip net.IP
		switch rr := rr.(type) {
		case *dns.A:
			ip = rr.A.To4()
		case *dns.AAAA:
			ip = rr.AAAA
		}
		if a, ok := netip.AddrFromSlice(ip); ok {
			out = append(out, a)
			ttl = min(ttl, time.Duration(rr.Header().Ttl)*time.Second)
		}
	}
	if len(out) == 0 {
		return nil, 0, errors.New("no address in the answer")
	}
	return out, ttl, nil
}

// result is one request of a client and what came of it.
type result struct {
	city    *City
	name    string
	qtype   uint16
	at      time.Time // when it began
	took    time.Duration
	address netip.Addr // where it went
	region  string     // which region served it
	backend string
	err     error
}

// get makes one request: resolve, connect, TLS, GET.
func (c *client) get(ctx context.Context, q question) result {
	r := result{city: c.city, name: q.name, qtype: q.qtype, at: time.Now()}
	ctx, cancel := context.WithTimeout(ctx, total)
	defer cancel()
	var body BackendAnswer
	addrs, err := c.lookup(ctx, q)
	if err == nil {
		r.address = addrs[0]
		body, err = c.fetch(ctx, q.name, addrs[0])
	}
	r.took, r.err, r.region, r.backend = time.Since(r.at), err, body.Region, body.Backend
	return r
}

func (c *client) fetch(ctx context.Context, host string, to netip.Addr) (BackendAnswer, error) {
	var a BackendAnswer
	at := netip.AddrPortFrom(to, c.lab.Topology.HTTPSPort)
	tr := &http.Transport{
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return c.lab.Dial(ctx, c.city.ID, network, at.String())
		},
		TLSClientConfig:   &tls.Config{RootCAs: c.trust},
		DisableKeepAlives: true,
		ForceAttemptHTTP2: true,
	}
	defer tr.CloseIdleConnections()
	if at.Port() != 443 {
		host = fmt.Sprintf("%s:%d", host, at.Port())
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+host+"/", nil)
	if err != nil {
		return a, err
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return a, fmt.Errorf("%s: %w", at, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return a, fmt.Errorf("%s: status %s", at, resp.Status)
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, 4096)).Decode(&a); err != nil {
		return a, fmt.Errorf("%s: %w", at, err)
	}
	return a, nil
}

// questions are the names and families that clients use, in turn.
func (t *Topology) questions() []question {
	qs := []question{{RegionalName, dns.TypeA}}
	if !t.Loopback {
		qs = append(qs, question{AnycastName, dns.TypeA}, question{RegionalName, dns.TypeAAAA}, question{AnycastName, dns.TypeAAAA})
	}
	return slices.Clip(qs)
}

// requestEvery is the time between two requests of one city.
const requestEvery = 250 * time.Millisecond

// run makes requests until ctx ends and tells of each when it is done. A slow
// one does not delay the next.
func (c *client) run(ctx context.Context, done func(result)) {
	qs := c.lab.Topology.questions()
	var wg sync.WaitGroup
	defer wg.Wait()
	tick := time.NewTicker(requestEvery)
	defer tick.Stop()
	for i := c.city.Index; ; i++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		wg.Go(func() {
			// A request that has begun may end: stopping is not a failure.
			done(c.get(context.WithoutCancel(ctx), qs[i%len(qs)]))
		})
	}
}
