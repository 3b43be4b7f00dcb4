package acme

import (
	"crypto/x509"
	"fmt"
	"strings"
	"testing"
	"time"

	"meridian/fleet"
)

// The fleet's own authority serves every name at once, and renews by itself.
func TestTheInternalAuthorityIssuesAndRenews(t *testing.T) {
	r := newRig(t)
	for i := range addresses {
		r.gateway(i)
	}
	r.submit(r.spec("- {id: web, acme: {directory: internal, lifetime: 1h}}\n", ""))
	first := r.shown("www.demo.test", nil)
	r.shown("api.demo.test", nil)
	root := x509.NewCertPool()
	for _, o := range r.control.Current().LiveOf(fleet.LiveCertificate) {
		root.AppendCertsFromPEM(o.Data) // the chain ends with the root
	}
	if b, err := r.get(1, "api.demo.test", root); err != nil || !strings.HasPrefix(b, "api.demo.test") {
		t.Errorf("by the chain's own root: %q, %v", b, err)
	}
	if life := first.NotAfter.Sub(first.NotBefore); life < time.Hour || life > 65*time.Minute {
		t.Errorf("valid for %s", life)
	}
	r.ahead.Store(int64(41 * time.Minute))
	kick(r)
	second := r.shown("www.demo.test", first)
	if !second.NotAfter.After(first.NotAfter) {
		t.Error("the new one ends no later")
	}
	if r.metric("meridian_acme_failures") != 0 {
		t.Error("failures are counted")
	}
}

// A name that has no certificate gets one when a client asks for it, if it is
// allowed and not too many are asked for; the handshake waits for it.
func TestANameIsIssuedOnDemandWithAGuard(t *testing.T) {
	r := newRig(t)
	for i := range addresses {
		r.gateway(i)
	}
	r.submit(r.spec("- {id: web, acme: {directory: internal, on_demand: {hosts: [\"*.shop.demo.test\"], per_hour: 2, wait: 20s}}}\n", ""))
	r.shown("www.demo.test", nil)
	if c := r.leaf(0, "a.shop.demo.test"); c == nil || c.DNSNames[0] != "a.shop.demo.test" {
		t.Fatal("the first client got no certificate of the name")
	}
	r.shown("a.shop.demo.test", nil)
	if c := r.leaf(2, "other.demo.test"); c != nil {
		t.Errorf("a name that is not allowed got %q", c.DNSNames)
	}
	got := 0
	for i := range 4 { // one is left of the two an hour
		if r.leaf(1, fmt.Sprintf("b%d.shop.demo.test", i)) != nil {
			got++
		}
	}
	if got != 1 || r.metric("meridian_acme_demands_refused_total") != 3 {
		t.Errorf("%d more names, %v refused", got, r.metric("meridian_acme_demands_refused_total"))
	}
	r.until("demands are taken back", func() bool {
		for range r.control.Current().LiveOf(fleet.LiveDemand) {
			return false
		}
		return true
	})
}
