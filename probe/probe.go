// Package probe runs one fleet.Probe and says what came of it: a TCP
// handshake (rtt, tcp), an HTTP request (http, https), a gRPC health check
// (grpc, grpcs), a DNS query (dns) or any datagram (udp).
// The synthetic prober, the gateway's and layer 4's health checks all use it,
// through an interface of their own.
//
// It is an adapter room: it imports fleet alone, and only the programs and lab import it.
package probe

import (
	"context"
	"crypto/x509"
	"net"
	"sync"
	"time"

	"meridian/fleet"
)

// Config is what a Prober may be given.
type Config struct {
	// Dial opens connections, to an address and port, of network tcp or udp;
	// nil for the machine's own network.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Prober runs Probes. It is safe for concurrent use.
type Prober struct {
	dial func(ctx context.Context, network, address string) (net.Conn, error)

	mu    sync.Mutex
	pools map[string]*x509.CertPool // by PEM text; parsed once
}

// New makes a Prober.
func New(cfg Config) *Prober {
	p := &Prober{dial: cfg.Dial, pools: map[string]*x509.CertPool{}}
	if p.dial == nil {
		d := &net.Dialer{KeepAlive: -1}
		d.SetMultipathTCP(false)
		p.dial = d.DialContext
	}
	return p
}

// Probe runs one check. It returns when the check has ended, its timeout has
// passed or ctx has ended, whichever comes first, and leaves nothing open.
func (p *Prober) Probe(ctx context.Context, pr fleet.Probe) fleet.ProbeResult {
	if pr.Timeout <= 0 || !pr.Address.IsValid() || pr.Address.Port() == 0 {
		return fleet.ProbeResult{Cause: fleet.CauseOther, Detail: "probe without a timeout or an address"}
	}
	start := time.Now()
	ctx, cancel := context.WithTimeout(ctx, pr.Timeout)
	defer cancel()
	var out fleet.ProbeResult
	var err error
	switch pr.Check {
	case "rtt", "tcp":
		err = p.connect(ctx, &pr)
	case "http", "https":
		out.Expiry, err = p.request(ctx, &pr)
	case "grpc", "grpcs":
		out.Expiry, err = p.serving(ctx, &pr)
	case "dns":
		err = p.query(ctx, &pr)
	case "udp":
		err = p.exchange(ctx, &pr)
	default:
		err = failf(fleet.CauseOther, "no check is called %q", pr.Check)
	}
	out.Latency = time.Since(start)
	out.Cause, out.Detail = classify(err)
	out.OK = err == nil
	return out
}

// connect makes a TCP handshake: one round trip. rtt then resets the
// connection, so that several a second leave nothing behind on either side;
// tcp closes it in order.
func (p *Prober) connect(ctx context.Context, pr *fleet.Probe) error {
	c, err := p.dial(ctx, "tcp", pr.Address.String())
	if err != nil {
		return err
	}
	if l, ok := c.(interface{ SetLinger(sec int) error }); ok && pr.Check == "rtt" {
		_ = l.SetLinger(0)
	}
	return c.Close()
}
