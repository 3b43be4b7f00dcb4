package acme

import (
	"crypto/ecdh"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"meridian/fleet"
)

const echNames = "- {id: web, acme: {directory: internal, names: [www.demo.test, api.demo.test, public.demo.test, \"*.any.demo.test\"]}}\n"

// echSpec is the rig's Spec with Encrypted Client Hello; signed says whether
// the fleet signs the zone.
func (r *rig) echSpec(signed bool) string {
	s := r.spec(echNames, "") + "ech: {public_name: public.demo.test}\n"
	if signed {
		s = strings.Replace(s, "{zone: demo.test, ", "{zone: demo.test, dnssec: default, ", 1)
	}
	return s
}

// roots gives the fleet's own authority.
func (r *rig) roots() *x509.CertPool {
	pool := x509.NewCertPool()
	for _, o := range r.control.Current().LiveOf(fleet.LiveCertificate) {
		pool.AppendCertsFromPEM(o.Data)
	}
	return pool
}

// echOf asks the nameserver what the HTTPS record of a name says; nil where it
// says nothing. With do the answer must be signed.
func (r *rig) echOf(name string, do bool) []byte {
	var m dns.Msg
	m.SetQuestion(dns.Fqdn(name), dns.TypeHTTPS)
	m.SetEdns0(4096, do)
	in, _, err := (&dns.Client{Net: "tcp", Timeout: 5 * time.Second}).Exchange(&m, r.dns.Addrs()[0].String())
	if err != nil {
		r.t.Error(err)
		return nil
	}
	var ech []byte
	signed := false
	for _, rr := range in.Answer {
		switch rr := rr.(type) {
		case *dns.HTTPS:
			for _, v := range rr.Value {
				if e, ok := v.(*dns.SVCBECHConfig); ok {
					ech = e.ECH
				}
			}
		case *dns.RRSIG:
			signed = signed || rr.TypeCovered == dns.TypeHTTPS
		}
	}
	if do && len(in.Answer) > 0 && !signed {
		r.t.Errorf("the HTTPS record of %s has no signature: %v", name, in)
	}
	return ech
}

// hello makes a handshake with a gateway by a list of keys, and says whether it
// was encrypted.
func (r *rig) hello(i int, name string, cfg *tls.Config, ech []byte) (bool, error) {
	cfg = cfg.Clone()
	cfg.ServerName, cfg.EncryptedClientHelloConfigList = name, ech
	cfg.MinVersion = tls.VersionTLS13
	c, err := tls.DialWithDialer(&net.Dialer{Timeout: 10 * time.Second}, "tcp", r.at(i, 443), cfg)
	if err != nil {
		return false, err
	}
	defer c.Close()
	return c.ConnectionState().ECHAccepted, nil
}

func TestServerNamesAreHiddenByKeysOutOfDNS(t *testing.T) {
	for _, signed := range []bool{false, true} {
		t.Run(fmt.Sprintf("signed %v", signed), func(t *testing.T) {
			r := newRig(t)
			for i := range addresses {
				r.gateway(i)
			}
			r.submit(r.echSpec(signed))
			r.shown("www.demo.test", nil)
			r.shown("public.demo.test", nil)
			var ech []byte
			r.until("keys in DNS", func() bool { ech = r.echOf("www.demo.test", signed); return ech != nil })
			roots := &tls.Config{RootCAs: r.roots()}
			for i := range addresses {
				if ok, err := r.hello(i, "www.demo.test", roots, ech); err != nil || !ok {
					t.Errorf("gateway %d: encrypted %v, %v", i, ok, err)
				}
			}
			// A key that nobody has any more, or never had: the client is told
			// what to try again with.
			var rejected *tls.ECHRejectionError
			if _, err := r.hello(0, "www.demo.test", roots, foreign(t)); !errors.As(err, &rejected) {
				t.Fatalf("a foreign key: %v", err)
			}
			if ok, err := r.hello(0, "www.demo.test", roots, rejected.RetryConfigList); err != nil || !ok {
				t.Errorf("with what it was told: encrypted %v, %v", ok, err)
			}
		})
	}
}

// foreign is a list of a key that no gateway has.
func foreign(t *testing.T) []byte {
	t.Helper()
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	u16 := binary.BigEndian.AppendUint16
	body := append(u16(u16([]byte{77}, 0x20), 32), key.PublicKey().Bytes()...)
	body = append(u16(u16(u16(body, 4), 1), 1), 0, byte(len("public.demo.test")))
	body = u16(append(body, "public.demo.test"...), 0)
	config := append(u16(u16(nil, 0xfe0d), uint16(len(body))), body...)
	return append(u16(nil, uint16(len(config))), config...)
}

// Certificates, ticket keys and keys of Encrypted Client Hello all change many
// times while clients connect, by records up to two seconds old and with
// sessions of any gateway: no handshake fails, and none is without encryption.
func TestNoHandshakeFailsWhileAllKeysRotate(t *testing.T) {
	r := newRig(t, 400*time.Millisecond)
	for i := range addresses {
		r.gateway(i)
	}
	r.submit(r.echSpec(true))
	first := r.shown("www.demo.test", nil)
	r.until("keys in DNS", func() bool { return r.echOf("www.demo.test", true) != nil })
	cfg := &tls.Config{RootCAs: r.roots()}
	var g sync.WaitGroup
	var done, failed atomic.Int64
	lists := sync.Map{}
	seen := func() (n int) {
		lists.Range(func(any, any) bool { n++; return true })
		return n
	}
	begun := time.Now()
	going := func() bool { // for six seconds, and longer where the store is slow
		took := time.Since(begun)
		return took < 6*time.Second || seen() < 5 && took < time.Minute
	}
	for client := range 3 {
		g.Go(func() {
			cfg := cfg.Clone()
			cfg.ClientSessionCache = tls.NewLRUClientSessionCache(8)
			var ech []byte
			var asked time.Time
			for n := client; going(); n++ {
				if time.Since(asked) > time.Duration(n%3)*time.Second {
					ech, asked = r.echOf("www.demo.test", true), time.Now()
					lists.Store(string(ech), true)
				}
				ok, err := r.hello(n%len(addresses), "www.demo.test", cfg, ech)
				done.Add(1)
				if err != nil || !ok {
					failed.Add(1)
					t.Errorf("encrypted %v, %v", ok, err)
				}
			}
		})
	}
	g.Go(func() {
		for going() {
			r.certs.mu.Lock()
			for _, task := range r.certs.tasks {
				task.renew, task.next = time.Now(), time.Time{}
			}
			r.certs.mu.Unlock()
			kick(r)
			<-time.After(500 * time.Millisecond)
		}
	})
	g.Wait()
	if failed.Load() != 0 || done.Load() < 50 || seen() < 5 {
		t.Errorf("%d of %d handshakes failed, under %d lists of keys", failed.Load(), done.Load(), seen())
	}
	if now := r.shown("www.demo.test", first); now.Equal(first) {
		t.Error("the certificate did not change")
	}
}
