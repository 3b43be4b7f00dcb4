package acme

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"reflect"
	"time"

	"github.com/caddyserver/certmagic"
	acmeapi "github.com/mholt/acmez/v3/acme"
	"go.uber.org/zap"
	"golang.org/x/crypto/ocsp"

	"meridian/fleet"
	"meridian/rules"
)

// task is one certificate in the making. The Manager's mu guards it, but for
// what work alone uses while it is busy.
type task struct {
	want
	with objects
	turn int // how often it was made anew
	busy bool
	next time.Time // when to work on it

	leaf     *x509.Certificate // in use; nil before the first
	info     acmeapi.RenewalInfo
	renew    time.Time
	staple   time.Time // when the OCSP response that is served ends; zero without one
	failures int       // in a row
	failed   time.Time
	why      string
}

// workLimit bounds one try at a certificate.
const workLimit = 5 * time.Minute

// made says whether the task is about what is wanted, as it is wanted.
func (t *task) made(one want, w *fleet.World) bool {
	return t.cert != nil && reflect.DeepEqual(t.cert.ACME, one.cert.ACME) && reflect.DeepEqual(t.with, objectsOf(one, w)) && t.demanded == one.demanded
}

func (t *task) remake(one want, w *fleet.World) {
	t.want, t.with, t.next, t.failures = one, objectsOf(one, w), time.Time{}, 0
	t.turn++
}

// objects are what the Spec says of an authority by reference.
type objects struct {
	ca  []byte // authorities to trust for its directory, in PEM; empty for the system's
	eab []byte // key of external account binding; empty for none
}

func objectsOf(one want, w *fleet.World) objects {
	a := one.cert.ACME
	o := objects{ca: w.Objects[fleet.ObjectKey{Kind: fleet.ObjectCA, ID: a.CA}].Data}
	if a.EAB != nil {
		o.eab = w.Objects[fleet.ObjectKey{Kind: fleet.ObjectSecret, ID: string(a.EAB.Key)}].Data
	}
	return o
}

// result is what work found out.
type result struct {
	leaf   *x509.Certificate
	info   acmeapi.RenewalInfo
	staple time.Time
}

// work brings one certificate to what it should be.
func (m *Manager) work(ctx context.Context, t *task) {
	m.mu.Lock()
	one, with, info, leaf, cache, turn := t.want, t.with, t.info, t.leaf, m.cache, t.turn
	due := leaf != nil && !m.now().Before(t.renew)
	m.mu.Unlock()
	limited, cancel := context.WithTimeout(ctx, workLimit)
	defer cancel()
	r, err := m.bring(limited, cache, one, with, info, due)
	if ctx.Err() != nil {
		m.ended(t, func() {})
		return
	}
	now := m.now()
	if err != nil {
		m.fail(ctx, t, turn, err, now)
		return
	}
	m.ended(t, func() {
		if t.turn != turn { // another certificate is wanted by now, at once
			return
		}
		t.leaf, t.info, t.staple = r.leaf, r.info, r.staple
		t.failures, t.why = 0, ""
		t.renew = renewAt(r.leaf, r.info)
		t.next = now.Add(m.cfg.Look)
		if t.renew.Before(t.next) {
			t.next = t.renew
		}
	})
}

// fail notes a failure: what is in use stays. A name that a client asked for
// and that has no certificate is given up. Of what was made anew meanwhile
// nothing is noted.
func (m *Manager) fail(ctx context.Context, t *task, turn int, err error, now time.Time) {
	var one want
	var failures int
	var next time.Time
	give := false
	m.ended(t, func() {
		if one, next = t.want, t.next; t.turn != turn {
			return
		}
		t.failures++
		t.failed, t.why = now, err.Error()
		left := time.Duration(0)
		if t.leaf != nil {
			left = max(t.leaf.NotAfter.Sub(now), time.Minute)
		}
		t.next = now.Add(backoff(m.cfg.Retry, t.failures, left, m.draw()))
		if give = t.demanded && t.leaf == nil; give {
			delete(m.tasks, t.id())
			m.deny[t.name] = now.Add(lookFor)
		}
		failures, next = t.failures, t.next
	})
	m.metrics.outcome(one.cert.ID, "failed")
	m.log.Error("a certificate could not be had; what there was stays in use", "certificate", one.cert.ID, "name", one.name, "failures", failures, "next", next, "error", err)
	if failures == 1 {
		m.cfg.Notify(fmt.Sprintf("Certificate %s for %s: %v", one.cert.ID, one.name, err))
	}
	if give {
		if _, err := m.cfg.Control.PutLive(ctx, map[fleet.Name][]byte{demandID(one.name): nil}); err != nil && ctx.Err() == nil {
			m.log.Warn("a demand for a certificate is not removed yet", "name", one.name, "error", err)
		}
	}
}

// bring obtains the certificate where there is none, renews it where that is
// due, and puts it where it differs from what nodes have.
func (m *Manager) bring(ctx context.Context, cache *certmagic.Cache, one want, with objects, info acmeapi.RenewalInfo, due bool) (result, error) {
	by, err := m.issuer(one, with)
	if err != nil {
		return result{}, err
	}
	keys := certmagic.StandardKeyGenerator{KeyType: certmagic.P256}
	if one.cert.ACME.KeyType == fleet.KeyRSA {
		keys.KeyType = certmagic.RSA2048
	}
	cfg := certmagic.New(cache, certmagic.Config{Storage: m.storage, Issuers: []certmagic.Issuer{by}, KeySource: keys,
		Logger: zap.NewNop(), DisableARI: true, DisableStorageCheck: true}) // renewal information is looked at here
	held, err := m.held(ctx, cfg, cache, one.name)
	if errors.Is(err, fs.ErrNotExist) {
		if err := cfg.ObtainCertSync(ctx, one.name); err != nil {
			return result{}, err
		}
		m.metrics.outcome(one.cert.ID, "issued")
		held, err = m.held(ctx, cfg, cache, one.name)
	}
	if err != nil {
		return result{}, err
	}
	r := result{leaf: held.Leaf, info: info}
	if due = due || !m.now().Before(renewAt(r.leaf, r.info)); !due {
		m.inform(ctx, by, &r)
	}
	if due || !m.now().Before(renewAt(r.leaf, r.info)) {
		if err := cfg.RenewCertSync(ctx, one.name, true); err != nil {
			// Another leader may have put it without nodes having it.
			return result{}, errors.Join(err, m.put(ctx, one, held, &r))
		}
		m.metrics.outcome(one.cert.ID, "renewed")
		if held, err = m.held(ctx, cfg, cache, one.name); err != nil {
			return result{}, err
		}
		r = result{leaf: held.Leaf}
		m.inform(ctx, by, &r)
	}
	return r, m.put(ctx, one, held, &r)
}

// issuer makes what issues a certificate.
func (m *Manager) issuer(one want, with objects) (certmagic.Issuer, error) {
	w := m.cfg.Control.Current()
	if one.cert.ACME.Directory == fleet.Internal {
		return &internal{storage: m.storage, fleet: w.Snapshot.Spec.Fleet, life: one.cert.ACME.Lifetime.D(), now: m.now}, nil
	}
	i, err := newIssuer(one.cert.ACME, with, m.storage)
	if err != nil {
		return nil, err
	}
	i.solve = m.solve
	i.how = func(name string) fleet.ACMEChallenge { return w.Snapshot.Spec.ChallengeFor(one.cert.ACME, name) }
	return i, nil
}

// held gives the certificate in the storage, with a fresh OCSP response where
// its authority has one.
func (m *Manager) held(ctx context.Context, cfg *certmagic.Config, cache *certmagic.Cache, name string) (certmagic.Certificate, error) {
	c, err := cfg.CacheManagedCertificate(ctx, name)
	if err == nil {
		cache.Remove([]string{c.Hash()})
	}
	return c, err
}

// inform asks when the certificate is best renewed, where it is time to ask.
// Where the authority does not say, what it said before holds.
func (m *Manager) inform(ctx context.Context, by certmagic.Issuer, r *result) {
	i, ok := by.(*issuer)
	if !ok || r.info.HasWindow() && !r.info.NeedsRefresh() {
		return
	}
	info, err := i.renewalInfo(ctx, r.leaf)
	if err != nil {
		m.log.Warn("no renewal information", "name", r.leaf.DNSNames, "error", err)
		return
	}
	if info.SameWindow(r.info) {
		info.SelectedTime = r.info.SelectedTime // it is drawn once for a window
	}
	r.info = info
}

// put puts the certificate where nodes have another, and takes the demand for
// it away.
func (m *Manager) put(ctx context.Context, one want, c certmagic.Certificate, r *result) error {
	bundle, err := bundleOf(c)
	if err != nil {
		return fmt.Errorf("certificate of %s: %w", one.name, err)
	}
	if res, err := ocsp.ParseResponse(c.OCSPStaple, nil); err == nil {
		r.staple = res.NextUpdate
	}
	live := m.cfg.Control.Current().Live
	puts := map[fleet.Name][]byte{}
	if o, _ := live.Get(one.live()); o.Version != rules.LiveObject(one.live(), bundle).Version {
		puts[one.live()] = bundle
	}
	if _, asked := live.Get(demandID(one.name)); asked {
		puts[demandID(one.name)] = nil
	}
	_, err = m.cfg.Control.PutLive(ctx, puts)
	return err
}

// bundleOf gives chain, key and OCSP response in PEM.
func bundleOf(c certmagic.Certificate) ([]byte, error) {
	var b bytes.Buffer
	for _, der := range c.Certificate.Certificate {
		_ = pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: der}) // to memory
	}
	key, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		return nil, err
	}
	_ = pem.Encode(&b, &pem.Block{Type: "PRIVATE KEY", Bytes: key})
	if len(c.OCSPStaple) > 0 {
		_ = pem.Encode(&b, &pem.Block{Type: "OCSP RESPONSE", Bytes: c.OCSPStaple})
	}
	return b.Bytes(), nil
}
