package acme

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"meridian/fleet"
)

// caID is the Spec's reference to the authority of Pebble's directory.
const caID = "file:pebble.pem"

// pebbled is a certificate of the Spec that Pebble issues.
func pebbled(p *pebble, more string) string {
	return fmt.Sprintf("- {id: web, acme: {directory: %q, ca: %q, email: ops@demo.test%s}}\n", p.url, caID, more)
}

// Each challenge, at three gateways at once: the authority asks any of them, or
// the nameserver, and all of them show what it issues.
func TestEveryChallengeIsAnsweredByEveryNode(t *testing.T) {
	for how, more := range map[fleet.ACMEChallenge]string{
		fleet.DNS01:     ", names: [www.demo.test, api.demo.test, \"*.any.demo.test\"]", // by default
		fleet.HTTP01:    ", names: [www.demo.test, api.demo.test], challenge: http-01",
		fleet.TLSALPN01: ", names: [www.demo.test, api.demo.test], challenge: tls-alpn-01",
	} {
		t.Run(string(how), func(t *testing.T) {
			r := newRig(t)
			p := newPebble(r, "")
			for i := range addresses {
				r.gateway(i)
			}
			certs := pebbled(p, more)
			if how != fleet.DNS01 {
				certs += "- {id: rest, acme: {directory: internal, names: [\"*.any.demo.test\"]}}\n"
			}
			r.submit(r.spec(certs, ""), object(fleet.ObjectCA, caID, p.ca))
			www, api := r.shown("www.demo.test", nil), r.shown("api.demo.test", nil)
			if www.Equal(api) {
				t.Error("two names have one certificate")
			}
			roots := p.roots()
			for i := range addresses {
				if b, err := r.get(i, "www.demo.test", roots); err != nil || !strings.HasPrefix(b, "www.demo.test") {
					t.Errorf("gateway %d: %q, %v", i, b, err)
				}
			}
			if c := r.shown("x.any.demo.test", nil); c.DNSNames[0] != "*.any.demo.test" {
				t.Errorf("the wildcard's is of %q", c.DNSNames)
			}
			r.until("challenges are taken back", func() bool {
				for o := range r.control.Current().Live.All() {
					if k, _ := fleet.ParseLiveID(o.Key.ID); k != fleet.LiveCertificate {
						return false
					}
				}
				return true
			})
			r.until("zones as they were", func() bool { return r.control.Current().Zones.Len() == 0 })
			if r.metric("meridian_acme_failures") != 0 || r.metric("meridian_acme_ari_window_end_seconds") == 0 {
				t.Errorf("metrics: failures %v, ari %v", r.metric("meridian_acme_failures"), r.metric("meridian_acme_ari_window_end_seconds"))
			}
		})
	}
}

// The authority says when to renew, and is told what is replaced; while it
// fails the old certificate stays, and the tries become rarer.
func TestRenewalAndAnAuthorityThatFails(t *testing.T) {
	r := newRig(t)
	p := newPebble(r, "0")
	for i := range addresses {
		r.gateway(i)
	}
	r.submit(r.spec(pebbled(p, ", names: [www.demo.test]")+"- {id: rest, acme: {directory: internal, names: [api.demo.test, \"*.any.demo.test\"]}}\n", ""),
		object(fleet.ObjectCA, caID, p.ca))
	first := r.shown("www.demo.test", nil)
	r.mu.Lock()
	before := len(r.said)
	r.mu.Unlock()
	p.broken.Store(true)
	p.renewNow(first)
	r.ahead.Store(int64(61 * 24 * time.Hour)) // of 90 days: it is due by itself
	kick(r)
	r.until("failures are counted", func() bool { return r.metric("meridian_acme_failures") >= 2 })
	if now := r.shown("www.demo.test", nil); !now.Equal(first) {
		t.Error("the old certificate went while no new one could be had")
	}
	if r.metric("meridian_acme_last_error_seconds") == 0 {
		t.Error("the error is not told")
	}
	r.mu.Lock()
	said := strings.Join(r.said[before:], "\n")
	r.mu.Unlock()
	if !strings.Contains(said, "www.demo.test") || strings.Count(said, "\n") != 0 {
		t.Errorf("operators were told: %q", said)
	}
	p.broken.Store(false)
	r.ahead.Store(0) // and what was put off by that clock is put off no longer
	r.certs.mu.Lock()
	for _, task := range r.certs.tasks {
		task.next = time.Time{}
	}
	r.certs.mu.Unlock()
	kick(r)
	second := r.shown("www.demo.test", first)
	r.until("failures are forgotten", func() bool { return r.metric("meridian_acme_failures") == 0 })
	p.renewNow(second)
	third := r.shown("www.demo.test", second)
	if third.Equal(first) {
		t.Error("the first came back")
	}
	if p.replacing.Load() < 2 {
		t.Errorf("%d orders said what they replace", p.replacing.Load())
	}
}

// An authority that asks for it is told whose account it is, and gives the
// profile that is asked for.
func TestAnAccountIsBoundAndAProfileIsAskedFor(t *testing.T) {
	r := newRig(t)
	const key = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"
	p := newPebble(r, "", func(s map[string]any) {
		s["externalAccountBindingRequired"] = true
		s["externalAccountMACKeys"] = map[string]string{"kid-1": key}
		s["profiles"].(map[string]any)["brief"] = map[string]any{"description": "brief", "validityPeriod": 3600}
	})
	for i := range addresses {
		r.gateway(i)
	}
	more := ", names: [www.demo.test], profile: brief, eab: {key_id: kid-1, key: \"file:eab.key\"}"
	r.submit(r.spec(pebbled(p, more)+"- {id: rest, acme: {directory: internal, names: [api.demo.test, \"*.any.demo.test\"]}}\n", ""),
		object(fleet.ObjectCA, caID, p.ca), object(fleet.ObjectSecret, "file:eab.key", []byte(key+"\n")))
	if c := r.shown("www.demo.test", nil); c.NotAfter.Sub(c.NotBefore) > 2*time.Hour {
		t.Errorf("valid for %s", c.NotAfter.Sub(c.NotBefore))
	}
}

// Who leads next goes on with what there is.
func TestAnotherLeaderIssuesNothingAnew(t *testing.T) {
	r := newRig(t)
	for i := range addresses {
		r.gateway(i)
	}
	r.submit(r.spec("- {id: web, acme: {directory: internal}}\n", ""))
	first := r.shown("www.demo.test", nil)
	r.until("all three", func() bool { return r.metric("meridian_acme_attempts_total") == 3 })
	next, err := New(Config{Control: r.control, Store: r.client, Logger: r.log})
	if err != nil {
		t.Fatal(err)
	}
	r.certs = next
	r.run("the next leader", func(ctx context.Context) error { next.Lead(ctx); return nil })
	r.until("it knows every certificate", func() bool {
		next.mu.Lock()
		defer next.mu.Unlock()
		for _, task := range next.tasks {
			if task.leaf == nil {
				return false
			}
		}
		return len(next.tasks) == 3
	})
	if now := r.shown("www.demo.test", nil); !now.Equal(first) || r.metric("meridian_acme_attempts_total") != 0 {
		t.Errorf("%v certificates were issued anew", r.metric("meridian_acme_attempts_total"))
	}
}

// kick has the leader look again at once.
func kick(r *rig) {
	select {
	case r.certs.wake <- struct{}{}:
	default:
	}
}
