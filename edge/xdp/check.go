package xdp

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"meridian/fleet"
)

// checker checks one target through its VIPs as often as its plan says.
type checker struct {
	plan    checkPlan
	node    string // vantage of the observations
	dial    func(ctx context.Context, way checkWay) (net.Conn, error)
	report  func(fleet.Observation)
	takes   func(fleet.Target, bool) // whether a gateway that answers takes SYN cookies; may be nil
	skip    func()                   // a check was not made, for want of a port; may be nil
	latency atomic.Int64             // smoothed, of passed checks
}

// run checks until ctx ends. Checks overlap where one takes longer than the
// interval, so that a slow answer does not delay the next question; the
// timeout bounds how many.
func (c *checker) run(ctx context.Context) {
	var pending sync.WaitGroup
	defer pending.Wait()
	// Checkers of one node begin apart.
	timer := time.NewTimer(rand.N(c.plan.interval))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return
	case <-timer.C:
	}
	tick := time.NewTicker(c.plan.interval)
	defer tick.Stop()
	for {
		pending.Go(func() { c.once(ctx) })
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// once makes one check by every way and reports it.
func (c *checker) once(ctx context.Context) {
	timeout := c.plan.timeout
	if timeout == 0 {
		timeout = checkTimeout(time.Duration(c.latency.Load()))
	}
	began := time.Now()
	cctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	results := make([]checkResult, len(c.plan.ways))
	var wg sync.WaitGroup
	for i, way := range c.plan.ways {
		wg.Go(func() { results[i] = c.by(cctx, way) })
	}
	wg.Wait()
	if ctx.Err() != nil {
		return
	}
	worst, made := worstOf(results)
	if !made {
		if c.skip != nil {
			c.skip()
		}
		return
	}
	took := time.Since(began)
	if worst.err == nil {
		old := c.latency.Load()
		c.latency.Store(old + (int64(took)-old)/4)
	}
	c.tell(worst, took)
}

// worstOf gives what counts of a check's results by its ways: a failure, else that
// it asks for no new work. false: none failed, but a way could not be gone.
func worstOf(results []checkResult) (worst checkResult, made bool) {
	made = true
	first := true
	for _, r := range results {
		switch {
		case errors.Is(r.err, errNoPort):
			made = false
		case first || worst.err == nil && (r.err != nil || r.draining):
			worst, first = r, false
		}
	}
	return worst, made || worst.err != nil
}

func (c *checker) tell(r checkResult, took time.Duration) {
	o := fleet.Observation{Target: c.plan.target, Vantage: c.node, Check: string(c.plan.kind), Time: time.Now(),
		OK: r.err == nil, Latency: took}
	if r.err != nil {
		o.Cause, o.Detail = causeOf(r.err), r.err.Error()
	}
	if r.err == nil && c.takes != nil {
		c.takes(o.Target, r.cookies)
	}
	c.report(o)
	if r.err == nil && c.plan.readyPath != "" {
		o.Check, o.OK = "ready", !r.draining
		if r.draining {
			o.Cause, o.Detail = fleet.CauseStatus, c.plan.readyPath+" is not 2xx"
		}
		c.report(o)
	}
}

// checkTimeout gives the time that a gateway's check may take, by its smoothed
// latency: never so long that three failures in a row would not fit into a
// second whatever the phase, and otherwise rather long than short, since a busy
// machine is no dead one.
func checkTimeout(latency time.Duration) time.Duration {
	return min(max(300*time.Millisecond, 100*time.Millisecond+8*latency), 450*time.Millisecond)
}

// checkResult is what came of a check by one way.
type checkResult struct {
	err      error
	draining bool // alive, but asks for no new work
	cookies  bool // it says that it takes SYN cookies
}

func (c *checker) by(ctx context.Context, way checkWay) checkResult {
	conn, err := c.open(ctx, way)
	if err != nil {
		return checkResult{err: err}
	}
	defer conn.Close()
	switch {
	case c.plan.kind == fleet.CheckTCP:
		return checkResult{}
	case c.plan.kind.Datagram():
		return checkResult{err: c.ask(conn)}
	}
	host := c.plan.host
	if host == "" {
		host = way.vip.String()
	}
	r := bufio.NewReader(conn)
	resp, err := get(conn, r, host, c.plan.path)
	if err == nil {
		err = c.judge(resp)
	}
	if err != nil || c.plan.readyPath == "" {
		return checkResult{err: err}
	}
	if resp.closes { // as servers do that are about to stop
		conn.Close()
		if conn, err = c.open(ctx, way); err != nil {
			return checkResult{err: err}
		}
		defer conn.Close()
		r = bufio.NewReader(conn)
	}
	if resp, err = get(conn, r, host, c.plan.readyPath); err != nil {
		return checkResult{err: err}
	}
	return checkResult{draining: !expected([]string{"2xx"}, resp.status), cookies: resp.cookies}
}

// open connects, and speaks TLS if the check is https.
func (c *checker) open(ctx context.Context, way checkWay) (net.Conn, error) {
	conn, err := c.dial(ctx, way)
	if err != nil {
		return nil, err
	}
	if d, ok := ctx.Deadline(); ok {
		conn.SetDeadline(d)
	}
	if c.plan.kind != fleet.CheckHTTPS {
		return conn, nil
	}
	t := tls.Client(conn, &tls.Config{
		ServerName: c.plan.host,
		// The question is whether the gateway answers. Whether its
		// certificates are good is for the probers to say, who ask as
		// clients do.
		InsecureSkipVerify: true,
	})
	if err := t.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, &tlsError{err}
	}
	return t, nil
}

// judge says what is wrong with the answer to the health path, if anything.
func (c *checker) judge(a answer) error {
	if !expected(c.plan.expect.Status, a.status) {
		return &statusError{c.plan.path, a.status}
	}
	if want := c.plan.expect.Body; want != "" && !strings.Contains(a.body, want) {
		return errBody
	}
	return nil
}

// answer is what a check wants to know of an HTTP response.
type answer struct {
	status int
	body   string // its first bodyLimit octets
	closes bool   // the connection takes no further request

	cookies bool // whose server takes SYN cookies
}

// bodyLimit is how much of an answer's body a check reads, octets.
const bodyLimit = 5120

func get(conn net.Conn, r *bufio.Reader, host, path string) (answer, error) {
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: meridian-l4\r\n\r\n", path, host); err != nil {
		return answer{}, fmt.Errorf("ask %s: %w", path, err)
	}
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		return answer{}, fmt.Errorf("answer to %s: %w", path, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, bodyLimit))
	if err != nil {
		return answer{}, fmt.Errorf("answer to %s: %w", path, err)
	}
	return answer{status: resp.StatusCode, body: string(b), closes: resp.Close || len(b) == bodyLimit,
		cookies: resp.Header.Get(fleet.CookiesHeader) == fleet.CookiesTaken}, nil
}

func expected(list []string, status int) bool {
	for _, s := range list {
		if lo, hi, err := fleet.ParseStatus(s); err == nil && lo <= status && status <= hi {
			return true
		}
	}
	return false
}

var errBody = errors.New("the body holds not the expected text")

type tlsError struct{ err error }

func (e *tlsError) Error() string { return "TLS: " + e.err.Error() }
func (e *tlsError) Unwrap() error { return e.err }

type statusError struct {
	path   string
	status int
}

func (e *statusError) Error() string { return fmt.Sprintf("%s answers %d", e.path, e.status) }

// causeOf sorts an error of a check into the fleet's causes.
func causeOf(err error) fleet.Cause {
	var ne net.Error
	var status *statusError
	var t *tlsError
	var rcode *rcodeError
	switch {
	case errors.As(err, &rcode):
		return fleet.CauseRcode
	case errors.Is(err, errNoAnswer):
		return fleet.CauseProtocol
	case errors.As(err, &status):
		return fleet.CauseStatus
	case errors.Is(err, errBody):
		return fleet.CauseBody
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &ne) && ne.Timeout():
		return fleet.CauseTimeout
	case errors.Is(err, syscall.ECONNREFUSED):
		return fleet.CauseRefused
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fleet.CauseReset
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return fleet.CauseUnreachable
	case errors.As(err, &t):
		return fleet.CauseTLS
	}
	return fleet.CauseOther
}
