package identity

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
)

func newIdentity(t testing.TB) *Identity {
	t.Helper()
	k, err := NewKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	id, err := New(k)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestAKeyIsReadInHexAndBase64(t *testing.T) {
	k, _ := NewKey(rand.Reader)
	for name, text := range map[string]string{
		"as written":    string(k.Encode()),
		"upper case":    strings.ToUpper(string(k.Encode())),
		"base64":        base64.StdEncoding.EncodeToString(k[:]),
		"raw base64":    base64.RawStdEncoding.EncodeToString(k[:]),
		"URL base64":    base64.URLEncoding.EncodeToString(k[:]) + "\n",
		"space around":  "  " + string(k.Encode()) + "\n",
		"raw URL":       base64.RawURLEncoding.EncodeToString(k[:]),
		"line ends CR ": string(k.Encode()) + "\r\n",
	} {
		got, err := ParseKey([]byte(text))
		if err != nil || got != k {
			t.Errorf("%s: got %v", name, err)
		}
	}
	for _, text := range []string{"", "abcd", strings.Repeat("0", 64), strings.Repeat("g", 64), string(k.Encode()[:62]), string(k.Encode()) + "ff"} {
		if _, err := ParseKey([]byte(text)); err == nil {
			t.Errorf("%q was taken for a key", text)
		} else if text != "" && strings.Contains(err.Error(), text) {
			t.Errorf("the error repeats the key: %v", err)
		}
	}
}

func TestAKeyIsNotPrinted(t *testing.T) {
	k, _ := NewKey(rand.Reader)
	id, _ := New(k)
	text := fmt.Sprintf("%v %+v %#v %s %v", k, k, k, k, id)
	if strings.Contains(text, string(bytes.TrimSpace(k.Encode()))) || strings.Contains(text, fmt.Sprint(k[0], k[1])) {
		t.Fatalf("printed: %s", text)
	}
}

func TestEveryNodeDerivesTheSameAuthority(t *testing.T) {
	k, _ := NewKey(rand.Reader)
	a, _ := New(k)
	b, _ := New(k)
	if !bytes.Equal(a.AuthorityPEM(), b.AuthorityPEM()) || a.FleetID() != b.FleetID() || !bytes.Equal(a.GossipKey(), b.GossipKey()) {
		t.Fatal("one key gave two fleets")
	}
	c := newIdentity(t)
	if bytes.Equal(a.AuthorityPEM(), c.AuthorityPEM()) || a.FleetID() == c.FleetID() || bytes.Equal(a.GossipKey(), c.GossipKey()) {
		t.Fatal("two keys gave one fleet")
	}
}

func TestSealedDataOpensUnderItsOwnNameAndKeyOnly(t *testing.T) {
	id, other := newIdentity(t), newIdentity(t)
	sealed, err := id.Seal(rand.Reader, []byte("private"), "certificate/web")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := id.Open(sealed, "certificate/web"); err != nil || string(got) != "private" {
		t.Fatalf("open: %q, %v", got, err)
	}
	changed := append([]byte(nil), sealed...)
	changed[len(changed)-1] ^= 1
	for name, try := range map[string]func() ([]byte, error){
		"other name": func() ([]byte, error) { return id.Open(sealed, "certificate/api") },
		"other key":  func() ([]byte, error) { return other.Open(sealed, "certificate/web") },
		"changed":    func() ([]byte, error) { return id.Open(changed, "certificate/web") },
		"cut":        func() ([]byte, error) { return id.Open(sealed[:5], "certificate/web") },
		"empty":      func() ([]byte, error) { return id.Open(nil, "certificate/web") },
	} {
		if _, err := try(); !errors.Is(err, ErrSealed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// handshake runs both ends of TLS over loopback (a pipe without a buffer would
// hang where both sides write) and gives the names each side saw.
func handshake(t *testing.T, server, client *tls.Config) (sawClient, sawServer string, err error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	done := make(chan error, 1)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			done <- err
			return
		}
		defer conn.Close()
		s := tls.Server(conn, server)
		if err = s.Handshake(); err == nil {
			sawClient = Peer(s.ConnectionState())
			_, err = s.Write([]byte("x"))
		}
		done <- err
	}()
	c, err := tls.Dial("tcp", l.Addr().String(), client)
	if err == nil {
		defer c.Close()
		sawServer = Peer(c.ConnectionState())
		_, err = c.Read(make([]byte, 1))
	}
	if serr := <-done; serr != nil {
		err = serr
	}
	return sawClient, sawServer, err
}

func TestBothSidesOfTLSAreVerified(t *testing.T) {
	id, stranger := newIdentity(t), newIdentity(t)
	a := id.Credentials("fra-1", time.Now, rand.Reader)
	b := id.Credentials("nrt-1", time.Now, rand.Reader)
	x := stranger.Credentials("fra-1", time.Now, rand.Reader)
	client, server, err := handshake(t, a.Server(), b.Client())
	if err != nil || client != "nrt-1" || server != "fra-1" {
		t.Fatalf("got %q, %q, %v", client, server, err)
	}
	if _, _, err := handshake(t, a.Server(), x.Client()); err == nil {
		t.Error("a stranger was let in")
	}
	if _, _, err := handshake(t, x.Server(), b.Client()); err == nil {
		t.Error("a stranger was trusted")
	}
	anonymous := b.Client()
	anonymous.GetClientCertificate = nil
	if _, _, err := handshake(t, a.Server(), anonymous); err == nil {
		t.Error("a client without a certificate was let in")
	}
}

func TestACertificateIsMintedAgainBeforeItExpires(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	c := newIdentity(t).Credentials("fra-1", func() time.Time { return now }, rand.Reader)
	first, err := c.Leaf()
	if err != nil {
		t.Fatal(err)
	}
	now = now.Add(90 * 24 * time.Hour)
	if again, _ := c.Leaf(); again != first {
		t.Error("minted again after a quarter of its life")
	}
	now = now.Add(100 * 24 * time.Hour)
	later, _ := c.Leaf()
	if later == first || !later.TLS.Leaf.NotAfter.After(first.TLS.Leaf.NotAfter) {
		t.Error("not minted again after half of its life")
	}
	if _, err := tls.X509KeyPair(later.CertPEM, later.KeyPEM); err != nil {
		t.Errorf("PEM form: %v", err)
	}
}

// Balancers of one region agree on the flow key; another region's or fleet's
// differs.
func TestQUICKeyIsOneForAFleet(t *testing.T) {
	key := func(first byte) [16]byte {
		id, err := New(Key{first, 1})
		if err != nil {
			t.Fatal(err)
		}
		if got := id.QUICKey(); got == id.FlowKey("fra") || got == [16]byte{} {
			t.Errorf("key %x", got)
		}
		return id.QUICKey()
	}
	if first, again := key(1), key(1); first != again || first == key(2) {
		t.Error("expected one key for a fleet, and another for another fleet")
	}
}

// A node's stateless resets are its own, and the same after a restart; tokens
// are the fleet's.
func TestQUICResetKeyIsANodesOwn(t *testing.T) {
	of := func(k Key) *Identity {
		id, err := New(k)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	one, again, other := of(Key{1}), of(Key{1}), of(Key{2})
	if one.QUICResetKey("a") != again.QUICResetKey("a") || one.QUICTokenKey() != again.QUICTokenKey() {
		t.Error("two processes of a node differ")
	}
	if one.QUICResetKey("a") == one.QUICResetKey("b") || one.QUICResetKey("a") == other.QUICResetKey("a") {
		t.Error("two nodes or two fleets have one reset key")
	}
	if one.QUICTokenKey() == other.QUICTokenKey() || one.QUICTokenKey() == one.QUICResetKey("a") {
		t.Error("two fleets have one token key, or it is a reset key")
	}
}

func TestAffinityAndWhyKeysAreOnesForAFleet(t *testing.T) {
	key := func(first byte) string {
		id, err := New(Key{first, 1})
		if err != nil {
			t.Fatal(err)
		}
		for _, got := range [][]byte{id.AffinityKey(), id.WhyKey()} {
			if len(got) != 32 || string(got) == string(id.GossipKey()) {
				t.Errorf("key %x", got)
			}
		}
		if string(id.AffinityKey()) == string(id.WhyKey()) {
			t.Error("one key for two purposes")
		}
		return string(id.AffinityKey()) + string(id.WhyKey())
	}
	if first, again := key(1), key(1); first != again || first == key(2) {
		t.Error("expected one key for a fleet, and another for another fleet")
	}
}

func TestFlowKeyIsOneForARegion(t *testing.T) {
	of := func(k Key, region string) [16]byte {
		id, err := New(k)
		if err != nil {
			t.Fatal(err)
		}
		return id.FlowKey(region)
	}
	fra := of(Key{1}, "fra")
	if again := of(Key{1}, "fra"); again != fra {
		t.Error("two nodes with one key differ")
	}
	if of(Key{1}, "iad") == fra || of(Key{2}, "fra") == fra {
		t.Error("two regions or two fleets share a flow key")
	}
}

// Nodes of one region agree on the SYN cookies of a generation and an epoch;
// those of another of either, or of another region or fleet, differ.
func TestSYNCookieKeyIsOneForARegionAndAMoment(t *testing.T) {
	of := func(k Key, region string, generation int, epoch int64) [16]byte {
		id, err := New(k)
		if err != nil {
			t.Fatal(err)
		}
		return id.SYNCookieKey(region, generation, epoch)
	}
	now := of(Key{1}, "fra", 3, 7)
	if of(Key{1}, "fra", 3, 7) != now {
		t.Error("two nodes with one key differ")
	}
	if of(Key{1}, "fra", 3, 8) == now || of(Key{1}, "fra", 4, 7) == now || of(Key{1}, "fra", 7, 3) == now ||
		of(Key{1}, "nrt", 3, 7) == now || of(Key{2}, "fra", 3, 7) == now {
		t.Error("two epochs, generations, regions or fleets share a key")
	}
}

// Nameservers of one fleet agree on the cookies of a day; another day's or
// fleet's differ.
func TestCookieSecretIsOneForADay(t *testing.T) {
	of := func(k Key, day int64) [16]byte {
		id, err := New(k)
		if err != nil {
			t.Fatal(err)
		}
		return id.CookieSecret(day)
	}
	today := of(Key{1}, 20600)
	if of(Key{1}, 20600) != today {
		t.Error("two nodes with one key differ")
	}
	if of(Key{1}, 20601) == today || of(Key{2}, 20600) == today {
		t.Error("two days or two fleets share a secret")
	}
}
