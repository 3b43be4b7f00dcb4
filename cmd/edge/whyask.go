package main

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
	"net/http/httptrace"
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"

	"meridian/edge/l7/why"
)

// resolution is what a resolver said.
type resolution struct {
	Resolver  string       `json:"resolver"`
	Name      string       `json:"name"`
	Addresses []netip.Addr `json:"addresses"`
	Records   []string     `json:"records"` // in master-file form
	TTL       uint32       `json:"ttl"`     // the least, in seconds
	Scope     *uint8       `json:"scope,omitempty"`
	Took      int64        `json:"took_us"`
}

// resolve4and6 asks for the addresses of both families; IPv4's come first.
func resolve4and6(ctx context.Context, host, resolver string, client netip.Prefix) (*resolution, error) {
	r := &resolution{Resolver: resolver, Name: host, Addresses: []netip.Addr{}, Records: []string{}}
	if resolver == "" {
		c, err := dns.ClientConfigFromFile("/etc/resolv.conf")
		if err != nil || len(c.Servers) == 0 {
			return r, errors.New("the system names no resolver; give one with --resolver")
		}
		r.Resolver = net.JoinHostPort(c.Servers[0], c.Port)
	} else if ap, err := withPort(resolver, 53); err == nil {
		r.Resolver = ap.String()
	} else {
		return r, fmt.Errorf("--resolver: %q is not ADDRESS or ADDRESS:PORT", resolver)
	}
	begin := time.Now()
	defer func() { r.Took = time.Since(begin).Microseconds() }()
	for _, kind := range []uint16{dns.TypeA, dns.TypeAAAA} {
		if err := r.ask(ctx, kind, client); err != nil {
			return r, fmt.Errorf("resolver %s: %w", r.Resolver, err)
		}
	}
	if len(r.Addresses) == 0 {
		return r, fmt.Errorf("resolver %s: %s has no address", r.Resolver, host)
	}
	return r, nil
}

func (r *resolution) ask(ctx context.Context, kind uint16, client netip.Prefix) error {
	q := new(dns.Msg)
	q.SetQuestion(dns.Fqdn(r.Name), kind)
	q.SetEdns0(1232, false)
	if client.IsValid() {
		family := uint16(1)
		if client.Addr().Is6() {
			family = 2
		}
		opt := q.IsEdns0()
		opt.Option = append(opt.Option, &dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: family, SourceNetmask: uint8(client.Bits()), Address: client.Masked().Addr().AsSlice()})
	}
	a, _, err := (&dns.Client{Timeout: whyLimit}).ExchangeContext(ctx, q, r.Resolver)
	if err == nil && a.Truncated {
		a, _, err = (&dns.Client{Net: "tcp", Timeout: whyLimit}).ExchangeContext(ctx, q, r.Resolver)
	}
	if err != nil {
		return err
	}
	if a.Rcode != dns.RcodeSuccess {
		return fmt.Errorf("%s for %s", dns.RcodeToString[a.Rcode], r.Name)
	}
	for _, rr := range a.Answer {
		switch v := rr.(type) {
		case *dns.A:
			r.add(v.A)
		case *dns.AAAA:
			r.add(v.AAAA)
		case *dns.RRSIG:
			continue
		}
		if ttl := rr.Header().Ttl; len(r.Records) == 0 || ttl < r.TTL {
			r.TTL = ttl
		}
		r.Records = append(r.Records, strings.ReplaceAll(rr.String(), "\t", " "))
	}
	if opt := a.IsEdns0(); opt != nil {
		for _, o := range opt.Option {
			if s, ok := o.(*dns.EDNS0_SUBNET); ok {
				r.Scope = &s.SourceScope
			}
		}
	}
	return nil
}

func (r *resolution) add(ip net.IP) {
	if a, ok := netip.AddrFromSlice(ip); ok {
		r.Addresses = append(r.Addresses, a.Unmap())
	}
}

// maxBody is how much of an answer is read to time it, in octets.
const maxBody = 1 << 20

// request asks the first address that can be reached.
func (j *journey) request(ctx context.Context, to []netip.AddrPort) error {
	ctx, cancel := context.WithTimeout(ctx, whyLimit)
	defer cancel()
	tr, err := j.transport(to)
	if err != nil {
		return err
	}
	defer tr.CloseIdleConnections()
	var begun, connected time.Time
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		TLSHandshakeStart: func() { begun = time.Now() },
		TLSHandshakeDone: func(tls.ConnectionState, error) {
			j.story.Timings.TLS = time.Since(begun).Microseconds()
		},
		GotConn:              func(httptrace.GotConnInfo) { connected = time.Now() },
		GotFirstResponseByte: func() { j.story.Timings.Answer = time.Since(connected).Microseconds() },
	})
	req, err := http.NewRequestWithContext(ctx, j.flags.method, j.url.String(), nil)
	if err != nil {
		return err
	}
	req.Header.Set("X-Edge-Why", j.token)
	req.Header.Set("User-Agent", "meridian-edge-why")
	res, err := tr.RoundTrip(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	j.story.Status, j.story.Proto = res.StatusCode, res.Proto
	first := time.Now()
	io.Copy(io.Discard, io.LimitReader(res.Body, maxBody))
	j.story.Timings.Body = time.Since(first).Microseconds()
	return j.read(res.Header.Values("X-Edge-Why"))
}

// read takes the gateway's report.
func (j *journey) read(fields []string) error {
	if len(fields) != 1 {
		return fmt.Errorf("%s gives no report: it is no gateway of this fleet, or its clock or key is another, or it refuses the token", j.story.Address)
	}
	var r why.Report
	if err := json.Unmarshal([]byte(fields[0]), &r); err != nil {
		return fmt.Errorf("the report of %s: %w", j.story.Address, err)
	}
	j.story.Report = &r
	return nil
}

func (j *journey) transport(to []netip.AddrPort) (*http.Transport, error) {
	config := &tls.Config{InsecureSkipVerify: j.flags.insecure}
	pem, err := j.flags.authorities()
	if err != nil {
		return nil, fmt.Errorf("--cacert: %w", err)
	}
	if pem != nil {
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("--cacert: %s holds no certificate in PEM", j.flags.ca)
		}
	}
	return &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true, DisableCompression: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var errs []error
		for _, at := range to {
			begin := time.Now()
			c, err := (&net.Dialer{Timeout: whyLimit / time.Duration(len(to)+1)}).DialContext(ctx, "tcp", at.String())
			if err == nil {
				j.story.Address, j.story.Timings.Connect = at, time.Since(begin).Microseconds()
				return c, nil
			}
			errs = append(errs, err)
		}
		return nil, errors.Join(errs...)
	}}, nil
}
