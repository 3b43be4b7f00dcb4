package acme

import (
	"crypto/x509"
	"slices"
	"strings"
	"time"

	acmeapi "github.com/mholt/acmez/v3/acme"

	"meridian/fleet"
)

// want is one certificate that there is to be.
type want struct {
	cert *fleet.Certificate
	name string
	// demanded says that clients asked for it: it goes where it cannot be had.
	demanded bool
}

// id names the certificate: the Spec's id and the name.
func (w want) id() string { return w.cert.ID + "/" + w.name }

func (w want) live() fleet.Name { return fleet.LiveID(fleet.LiveCertificate, w.id()) }

// wanted lists, by id, the certificates that a World is to have: for the names
// of the Spec, and for those that clients asked for and that are allowed still.
// gone are live objects that nobody wants any more.
func wanted(w *fleet.World) (list map[string]want, gone []fleet.Name) {
	list = map[string]want{}
	spec := w.Snapshot.Spec
	certs := map[string]*fleet.Certificate{}
	for i := range spec.Certificates {
		c := &spec.Certificates[i]
		if c.ACME == nil {
			continue
		}
		certs[c.ID] = c
		for _, n := range spec.ACMENames(c) {
			one := want{cert: c, name: n}
			list[one.id()] = one
		}
	}
	for rest, o := range w.LiveOf(fleet.LiveCertificate) {
		if _, ok := list[rest]; ok {
			continue
		}
		id, name, _ := strings.Cut(rest, "/")
		if c := certs[id]; c != nil && c.ACME.OnDemand != nil && c.ACME.OnDemand.Allows(name) {
			list[rest] = want{cert: c, name: name, demanded: true}
			continue
		}
		gone = append(gone, fleet.Name(o.Key.ID))
	}
	slices.Sort(gone)
	return list, gone
}

// demandOf gives the certificate of the Spec that is issued for a name which a
// client asks for; nil for none.
func demandOf(spec *fleet.Spec, name string) *fleet.Certificate {
	for i := range spec.Certificates {
		c := &spec.Certificates[i]
		if c.ACME != nil && c.ACME.OnDemand != nil && c.ACME.OnDemand.Allows(name) {
			return c
		}
	}
	return nil
}

// renewAt says when a certificate is renewed: at the time that was drawn out of
// the authority's window (RFC 9773 section 4.2), else after two thirds of its
// life. It is never later than a sixth of its life before its end.
func renewAt(leaf *x509.Certificate, info acmeapi.RenewalInfo) time.Time {
	life := leaf.NotAfter.Sub(leaf.NotBefore)
	at, latest := leaf.NotAfter.Add(-life/3), leaf.NotAfter.Add(-life/6)
	if info.HasWindow() && !info.SelectedTime.IsZero() {
		at = info.SelectedTime
	}
	if at.After(latest) {
		at = latest
	}
	return at
}

// maxBackoff bounds the time between tries at an authority.
const maxBackoff = 6 * time.Hour

// backoff gives the time until the next try after so many failures in a row:
// base, doubled with each, and at most a quarter of what is left of the
// certificate's life, where there is one; give or take a quarter, by draw in
// [0, 1).
func backoff(base time.Duration, failures int, left time.Duration, draw float64) time.Duration {
	d := base
	for range min(failures-1, 20) {
		if d *= 2; d > maxBackoff {
			d = maxBackoff
			break
		}
	}
	if left > 0 {
		d = max(min(d, left/4), min(base, 10*time.Second))
	}
	return time.Duration(float64(d) * (0.75 + draw/2))
}

// allowance lets so many names an hour be asked for: a bucket that fills
// evenly. It is the leader's own; another leader begins with a full one.
type allowance struct {
	left float64
	at   time.Time
}

func (a *allowance) take(perHour int, now time.Time) bool {
	full := float64(perHour)
	if a.at.IsZero() {
		a.left = full
	} else {
		a.left = min(full, a.left+full*now.Sub(a.at).Hours())
	}
	a.at = now
	if a.left < 1 {
		return false
	}
	a.left--
	return true
}
