package controlplane

import (
	"context"
	"crypto/ecdh"
	"crypto/tls"
	"encoding/json"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"meridian/fleet"
)

// A key's configuration is what crypto/tls makes a handshake with.
func TestAKeyOfEncryptedClientHelloIsWellFormed(t *testing.T) {
	key, err := newECHKey("public.example", nil, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ecdh.X25519().NewPrivateKey(key.Private); err != nil {
		t.Fatal(err)
	}
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	seen := make(chan string, 1)
	go func() {
		server := tls.Server(b, &tls.Config{EncryptedClientHelloKeys: []tls.EncryptedClientHelloKey{{Config: key.Config, PrivateKey: key.Private}},
			GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
				seen <- h.ServerName
				return nil, net.ErrClosed
			}})
		_ = server.Handshake()
		b.Close()
	}()
	_ = tls.Client(a, &tls.Config{ServerName: "secret.example", EncryptedClientHelloConfigList: echList(key.Config), MinVersion: tls.VersionTLS13}).Handshake()
	if got := <-seen; got != "secret.example" {
		t.Errorf("the server saw %q", got)
	}
	next, _ := newECHKey("public.example", []fleet.ECHKey{key}, time.Now())
	if next.Config[4] != key.Config[4]+1 {
		t.Error("two keys in a row have one id")
	}
}

// Which key is to be replaced, and which is let go of.
func TestWhenKeysOfEncryptedClientHelloChange(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	e := &fleet.ECH{PublicName: "public.example", Rotate: fleet.Duration(time.Hour)}
	key, err := newECHKey("public.example", nil, now.Add(-30*time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	other := *e
	other.PublicName = "other.example"
	used := echState{keys: []fleet.ECHKey{key}, lists: fleet.ECHLists{Now: echList(key.Config)}}
	begun := echState{keys: []fleet.ECHKey{key}, lists: fleet.ECHLists{Next: echList(key.Config)}}
	for name, c := range map[string]struct {
		s    echState
		e    *fleet.ECH
		now  time.Time
		want bool
	}{
		"there is none":                        {echState{}, e, now, true},
		"it is in use":                         {used, e, now, false},
		"it is old":                            {used, e, now.Add(30 * time.Minute), true},
		"it has another public name":           {used, &other, now, true},
		"it was not brought into records":      {begun, e, now, true},
		"gateways have it, and nobody says it": {echState{keys: used.keys}, e, now, true},
	} {
		if got := c.s.stale(c.e, c.now); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	if keys, err := begun.withNew(e, now); err != nil || len(keys) != 1 {
		t.Errorf("a rotation that was broken off goes on with %d keys, %v", len(keys), err)
	}
	if keys, err := used.withNew(e, now); err != nil || len(keys) != 2 || string(keys[1].Config) != string(key.Config) {
		t.Errorf("a rotation has %d keys, %v", len(keys), err)
	}
	key.Retired = now
	old := echState{keys: []fleet.ECHKey{{Config: key.Config}, key}}
	if n := len(old.kept(now.Add(time.Hour), time.Hour)); n != 2 {
		t.Errorf("within its time %d keys are kept", n)
	}
	if n := len(old.kept(now.Add(time.Hour+time.Second), time.Hour)); n != 1 {
		t.Errorf("after its time %d keys are kept", n)
	}
}

// The order in which a key comes into use, as nodes see it; and that it leaves
// with the Spec's word for it.
func TestGatewaysHaveAKeyBeforeDNSNamesIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, stop := run(t, newMemory(), &onDisk{}, func(c *Config) { c.Deriver = noDeriver{} })
		defer stop()
		r.submit(t, []byte(strings.Replace(spec, "zones:", "ech: {public_name: p.example}\ncertificates: [{id: c, acme: {directory: internal, names: [p.example]}}]\nzones:", 1)))
		time.Sleep(time.Minute)
		synctest.Wait()
		var order []string
		last := ""
		for _, w := range r.out.worlds {
			var lists fleet.ECHLists
			var keys fleet.ECHKeys
			if o, ok := w.Live.Get(echListID); ok {
				_ = json.Unmarshal(o.Data, &lists)
			}
			if o, ok := w.Live.Get(echKeysID); ok {
				_ = json.Unmarshal(o.Data, &keys)
			}
			at := ""
			if len(keys.Keys) == 1 {
				at += "keys "
			}
			if lists.Next != nil {
				at += "next "
			}
			if lists.Now != nil {
				at += "now"
			}
			if at != last {
				order, last = append(order, at), at
			}
		}
		if got := strings.Join(order, ", "); got != "keys , keys next , keys now" {
			t.Errorf("order: %s", got)
		}
		r.submit(t, []byte(spec))
		time.Sleep(time.Minute)
		if o, _ := r.Current().Live.Get(echListID); string(o.Data) != "{}" {
			t.Errorf("records still name keys: %s", o.Data)
		}
		time.Sleep(72 * time.Hour)
		if n := r.Current().Live.Len(); n != 0 {
			t.Errorf("%d live objects are left", n)
		}
	})
}

// noDeriver has nothing to derive.
type noDeriver struct{}

func (noDeriver) Derive(context.Context, *fleet.World, *fleet.Zones, *fleet.Zones, time.Time) ([]fleet.Object, []fleet.Name, time.Time, error) {
	return nil, nil, time.Time{}, nil
}
