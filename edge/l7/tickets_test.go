package l7

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"sync/atomic"
	"testing"
	"time"

	"meridian/fleet"
	"meridian/identity"
)

// fleetOfTickets are gateways of one fleet, under one clock, with one
// certificate; each lives as long as the test that it is made for.
type fleetOfTickets struct {
	id    *identity.Identity
	ahead atomic.Int64
	pem   []byte
	pool  *x509.CertPool
}

func newFleetOfTickets(t *testing.T) *fleetOfTickets {
	t.Helper()
	key, err := identity.NewKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	f := &fleetOfTickets{}
	if f.id, err = identity.New(key); err != nil {
		t.Fatal(err)
	}
	f.pem, f.pool = newCertificate(t, "www.demo.test")
	return f
}

func (f *fleetOfTickets) gateway(t *testing.T) *rig {
	t.Helper()
	spec := httpsSpec("", backend(t, "one", nil))
	r := newRig(t, spec, func(c *Config) { c.TicketKey = f.id.TicketKey })
	r.g.wall = func() time.Time { return time.Now().Add(time.Duration(f.ahead.Load())) }
	key := fleet.ObjectKey{Kind: fleet.ObjectCertificate, ID: "c1"}
	r.objects = map[fleet.ObjectKey]fleet.Object{key: {Key: key, Data: f.pem}}
	if err := r.apply(spec); err != nil {
		t.Fatal(err)
	}
	return r
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
	f := newFleetOfTickets(t)
	cases := []struct {
		name    string
		periods int
		want    bool
	}{{"at once", 0, true}, {"a period later", 1, true}, {"two periods later", 2, false}, {"at a clock that is behind", -1, true}}
	var sessions []*tls.Config
	t.Run("one gateway", func(t *testing.T) {
		a := f.gateway(t)
		for range cases {
			for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
				cfg := &tls.Config{RootCAs: f.pool, ServerName: "www.demo.test", ClientSessionCache: tls.NewLRUClientSessionCache(4), MaxVersion: version}
				if resumes(t, a, cfg) {
					t.Fatal("the first connection resumed")
				}
				sessions = append(sessions, cfg)
			}
		}
	})
	t.Run("another", func(t *testing.T) {
		b := f.gateway(t)
		for i, c := range cases {
			f.ahead.Store(int64(c.periods) * int64(ticketPeriod))
			for _, cfg := range sessions[2*i : 2*i+2] {
				if got := resumes(t, b, cfg); got != c.want {
					t.Errorf("%s, version %x: resumed %v", c.name, cfg.MaxVersion, got)
				}
			}
		}
	})
}

// A session outlives the generation that it began in.
func TestSessionsResumeAfterAChange(t *testing.T) {
	f := newFleetOfTickets(t)
	r := f.gateway(t)
	cfg := &tls.Config{RootCAs: f.pool, ServerName: "www.demo.test", ClientSessionCache: tls.NewLRUClientSessionCache(4)}
	resumes(t, r, cfg)
	if err := r.apply(httpsSpec("", backend(t, "two", nil))); err != nil {
		t.Fatal(err)
	}
	if !resumes(t, r, cfg) {
		t.Error("a change of endpoints has ended sessions")
	}
}
