package l7

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"sync/atomic"
	"testing"
	"time"

	"meridian/identity"
)

// ticketRigs are gateways of one fleet, under one clock, with one certificate.
func ticketRigs(t *testing.T, n int, ahead *atomic.Int64) ([]*rig, *x509.CertPool) {
	t.Helper()
	key, err := identity.NewKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	id, err := identity.New(key)
	if err != nil {
		t.Fatal(err)
	}
	at := backend(t, "one", nil)
	var rigs []*rig
	for range n {
		r := newRig(t, httpsSpec("", at), func(c *Config) { c.TicketKey = id.TicketKey })
		r.g.now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
		rigs = append(rigs, r)
	}
	pool := rigs[0].certificate("c1", "www.demo.test")
	for _, r := range rigs {
		r.objects = rigs[0].objects
		if err := r.apply(httpsSpec("", at)); err != nil {
			t.Fatal(err)
		}
	}
	return rigs, pool
}

// resumes makes a connection and says whether it resumed a session; the answer
// is read, so that the next session's ticket has come.
func resumes(t *testing.T, r *rig, cfg *tls.Config) bool {
	t.Helper()
	c, err := tls.Dial("tcp", r.addr("192.0.2.1:443"), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("GET / HTTP/1.1\r\nHost: www.demo.test\r\nConnection: close\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	for b := make([]byte, 4096); err == nil; {
		_, err = c.Read(b)
	}
	return c.ConnectionState().DidResume
}

// A session that began at one gateway resumes at another, also when the key has
// changed meanwhile or the other's clock is ahead; with a key that is too old it
// does not.
func TestSessionsResumeAtEveryGateway(t *testing.T) {
	var ahead atomic.Int64
	rigs, pool := ticketRigs(t, 2, &ahead)
	for _, c := range []struct {
		name    string
		periods int
		want    bool
	}{{"at once", 0, true}, {"a period later", 1, true}, {"two periods later", 2, false}, {"at a clock that is behind", -1, true}} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			ahead.Store(0)
			cfg := &tls.Config{RootCAs: pool, ServerName: "www.demo.test", ClientSessionCache: tls.NewLRUClientSessionCache(4), MaxVersion: version}
			if resumes(t, rigs[0], cfg) {
				t.Fatalf("%s: the first connection resumed", c.name)
			}
			ahead.Store(int64(c.periods) * int64(ticketPeriod))
			if got := resumes(t, rigs[1], cfg); got != c.want {
				t.Errorf("%s, version %x: resumed %v", c.name, version, got)
			}
		}
	}
}

// A session outlives the generation that it began in.
func TestSessionsResumeAfterAChange(t *testing.T) {
	var ahead atomic.Int64
	rigs, pool := ticketRigs(t, 1, &ahead)
	cfg := &tls.Config{RootCAs: pool, ServerName: "www.demo.test", ClientSessionCache: tls.NewLRUClientSessionCache(4)}
	resumes(t, rigs[0], cfg)
	if err := rigs[0].apply(httpsSpec("", backend(t, "two", nil))); err != nil {
		t.Fatal(err)
	}
	if !resumes(t, rigs[0], cfg) {
		t.Error("a change of endpoints has ended sessions")
	}
}
