package tsig

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"meridian/fleet"
)

var (
	now    = time.Unix(1_700_000_000, 0)
	secret = base64.StdEncoding.EncodeToString([]byte("a secret of twenty octets or more"))
)

func key(t testing.TB, name fleet.Name, algorithm fleet.TSIGAlgorithm) *Key {
	t.Helper()
	k, err := NewKey(name, algorithm, []byte(secret+"\n"))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func query(t testing.TB, name string) []byte {
	t.Helper()
	m := new(dns.Msg)
	m.SetQuestion(name, dns.TypeAXFR)
	m.Id = 4711
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func code(err error) Code {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return 0
}

// RFC 8945 §6: each algorithm that we claim signs as another implementation does, both ways.
// RFC 8945 §4.3: the digest covers the message, the key's name, class, TTL, algorithm, times, error and other data.
func TestRFC8945Algorithms(t *testing.T) {
	for _, a := range fleet.TSIGAlgorithm("").Values() {
		k := key(t, "key.test.", fleet.TSIGAlgorithm(a))
		keys := Keys{k.Name: k}
		m := new(dns.Msg)
		m.SetQuestion("Example.test.", dns.TypeSOA)
		m.SetTsig("KEY.test.", a+".", 300, now.Unix())
		wire, mac, err := dns.TsigGenerate(m, secret, "", false)
		if err != nil {
			t.Fatal(err)
		}
		s, plain, err := keys.Check(wire, now)
		if err != nil {
			t.Fatalf("%s: %v", a, err)
		}
		if len(wire)-len(plain) != k.Size() {
			t.Errorf("%s: a signature takes %d octets, and %d are reckoned with", a, len(wire)-len(plain), k.Size())
		}
		answer := s.Sign(plain, time.Now())
		if err := dns.TsigVerify(answer, secret, mac, false); err != nil {
			t.Errorf("%s: the answer: %v", a, err)
		}
		ours, client := k.Request(query(t, "example.test."), time.Now())
		if err := dns.TsigVerify(bytes.Clone(ours), secret, "", false); err != nil {
			t.Errorf("%s: our request: %v", a, err)
		}
		s, plain, err = keys.Check(ours, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := client.Verify(s.Sign(plain, time.Now()), time.Now()); err != nil {
			t.Errorf("%s: our answer to ourselves: %v", a, err)
		}
	}
}

// RFC 8945 §5.2.1: an unknown key, or another algorithm, is answered NOTAUTH with BADKEY and an empty MAC.
// RFC 8945 §5.2.2: a wrong MAC is answered NOTAUTH with BADSIG and an empty MAC.
// RFC 8945 §5.2.3: a time outside of the fudge is answered NOTAUTH with BADTIME, signed, with the request's time and the server's in Other Data.
// RFC 8945 §5.3.2: error answers are signed where the key is good, and unsigned where it is not.
func TestRFC8945Errors(t *testing.T) {
	k := key(t, "key.test.", "hmac-sha256")
	keys := Keys{k.Name: k}
	good, _ := k.Request(query(t, "example.test."), now)
	otherKey, _ := key(t, "other.test.", "hmac-sha256").Request(query(t, "example.test."), now)
	otherAlgorithm, _ := key(t, "key.test.", "hmac-sha512").Request(query(t, "example.test."), now)
	flipped := bytes.Clone(good)
	flipped[14] ^= 1
	late, lateClient := k.Request(query(t, "example.test."), now.Add(-301*time.Second))
	edge, _ := k.Request(query(t, "example.test."), now.Add(300*time.Second))
	for _, c := range []struct {
		what   string
		msg    []byte
		want   Code
		signed bool
	}{
		{"good", good, 0, false},
		{"exactly the fudge", edge, 0, false},
		{"unknown key", otherKey, BadKey, false},
		{"other algorithm", otherAlgorithm, BadKey, false},
		{"flipped bit", flipped, BadSig, false},
		{"301 seconds ago", late, BadTime, true},
	} {
		_, _, err := keys.Check(c.msg, now)
		if code(err) != c.want {
			t.Errorf("%s: %v, want %s", c.what, err, c.want)
		}
		if c.want == 0 {
			continue
		}
		var bad *Error
		errors.As(err, &bad)
		answer := bytes.Clone(query(t, "example.test."))
		answer[2] |= 0x80
		answer = bad.Answer(answer)
		m := new(dns.Msg)
		if err := m.Unpack(answer); err != nil {
			t.Fatalf("%s: %v", c.what, err)
		}
		rr := m.IsTsig()
		if m.Rcode != dns.RcodeNotAuth || rr == nil || Code(rr.Error) != c.want || (rr.MACSize > 0) != c.signed {
			t.Errorf("%s: answered %v", c.what, m)
			continue
		}
		if c.want == BadTime {
			if rr.TimeSigned != uint64(now.Unix())-301 || rr.OtherData != fmt.Sprintf("%012x", now.Unix()) {
				t.Errorf("BADTIME tells the times %d and %s", rr.TimeSigned, rr.OtherData)
			}
			if _, err := lateClient.Verify(answer, now); err == nil || !strings.Contains(err.Error(), "BADTIME") {
				t.Errorf("the client makes of BADTIME: %v", err)
			}
		}
	}
	if _, _, err := keys.Check(query(t, "example.test."), now); err != ErrUnsigned {
		t.Errorf("an unsigned request: %v", err)
	}
}

// RFC 8945 §4.2: an answer's TSIG record has the original ID of the request, which its digest covers; the header has the ID that the request came with.
// RFC 8945 §5.5: a request whose ID a forwarder has changed is verified, and so is its answer once the forwarder has put the ID back.
func TestRFC8945OriginalID(t *testing.T) {
	k := key(t, "key.test.", "hmac-sha256")
	keys := Keys{k.Name: k}
	msg, client := k.Request(query(t, "example.test."), now)
	forwarded := bytes.Clone(msg)
	binary.BigEndian.PutUint16(forwarded, 815)
	s, plain, err := keys.Check(forwarded, now)
	if err != nil || binary.BigEndian.Uint16(plain) != 815 {
		t.Fatalf("%x %v", plain, err)
	}
	for i := range 2 { // in a transfer's later messages too
		answer := s.Sign(plain, now)
		if r, err := find(answer); err != nil || r.id != 4711 || binary.BigEndian.Uint16(answer) != 815 {
			t.Errorf("answer %d: %x %v", i, answer, err)
		}
		binary.BigEndian.PutUint16(answer, 4711)
		if back, err := client.Verify(answer, now); err != nil || binary.BigEndian.Uint16(back) != 4711 {
			t.Errorf("answer %d: %x %v", i, back, err)
		}
	}
	_, _, err = keys.Check(forwarded, now.Add(time.Hour))
	var bad *Error
	if !errors.As(err, &bad) {
		t.Fatal(err)
	}
	answer := bad.Answer(bytes.Clone(plain))
	_, client = k.Request(query(t, "example.test."), now)
	if binary.BigEndian.Uint16(answer) != 815 {
		t.Errorf("answered %x", answer)
	}
	if _, err := client.Verify(answer, now); err == nil || !strings.Contains(err.Error(), "BADTIME") {
		t.Error(err)
	}
}

// cut shortens the MAC of a signed message.
func cut(t *testing.T, msg []byte, to int) []byte {
	t.Helper()
	r, err := find(msg)
	if err != nil {
		t.Fatal(err)
	}
	r.mac = bytes.Clone(r.mac[:to])
	plain := r.strip(msg)
	return r.attach(plain)
}

// RFC 8945 §5.2.2.1: a MAC longer than the hash, or shorter than half of it or ten octets, is a format error.
// RFC 8945 §5.2.4: a MAC that is truncated more than our policy has it (128 bits) is answered BADTRUNC, signed.
func TestRFC8945Truncation(t *testing.T) {
	for _, c := range []struct {
		algorithm fleet.TSIGAlgorithm
		to        int
		want      Code
	}{
		{"hmac-sha256", 32, 0}, {"hmac-sha256", 20, 0}, {"hmac-sha256", 16, 0}, {"hmac-sha256", 15, FormErr}, {"hmac-sha256", 0, FormErr},
		{"hmac-sha1", 20, 0}, {"hmac-sha1", 16, 0}, {"hmac-sha1", 12, BadTrunc}, {"hmac-sha1", 10, BadTrunc}, {"hmac-sha1", 9, FormErr},
		{"hmac-sha512", 32, 0}, {"hmac-sha512", 31, FormErr},
	} {
		k := key(t, "key.test.", c.algorithm)
		msg, client := k.Request(query(t, "example.test."), now)
		_, _, err := Keys{k.Name: k}.Check(cut(t, msg, c.to), now)
		if code(err) != c.want {
			t.Errorf("%s cut to %d: %v, want %s", c.algorithm, c.to, err, c.want)
		}
		var bad *Error
		if c.want == BadTrunc && errors.As(err, &bad) {
			client.sum.reset(client.sum.prior[:c.to]) // it knows what it sent
			if _, err := client.Verify(bad.Answer(bytes.Clone(query(t, "example.test."))), now); err == nil || !strings.Contains(err.Error(), "BADTRUNC") {
				t.Errorf("the client makes of BADTRUNC: %v", err)
			}
		}
	}
	k := key(t, "key.test.", "hmac-sha256")
	msg, _ := k.Request(query(t, "example.test."), now)
	r, _ := find(msg)
	r.mac = append(bytes.Clone(r.mac), 0)
	if _, _, err := (Keys{k.Name: k}).Check(r.attach(r.strip(msg)), now); code(err) != FormErr {
		t.Errorf("a MAC of 33 octets: %v", err)
	}
}

// RFC 8945 §5.2: a TSIG record that is not the last, or is there twice, or has another class or a TTL, is a format error.
func TestRFC8945Form(t *testing.T) {
	k := key(t, "key.test.", "hmac-sha256")
	keys := Keys{k.Name: k}
	msg, _ := k.Request(query(t, "example.test."), now)
	twice, _ := k.Request(msg, now)
	after := append(bytes.Clone(msg), 0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0)
	binary.BigEndian.PutUint16(after[10:], 2)
	inAnswer := bytes.Clone(msg)
	binary.BigEndian.PutUint16(inAnswer[10:], 0)
	binary.BigEndian.PutUint16(inAnswer[6:], 1)
	r, _ := find(msg)
	class, ttl := bytes.Clone(msg), bytes.Clone(msg)
	class[r.at+len(k.name)+3] = 1
	ttl[r.at+len(k.name)+7] = 1
	for what, m := range map[string][]byte{
		"twice": twice, "not the last": after, "in the answer section": inAnswer, "class IN": class, "a TTL": ttl,
		"cut": msg[:len(msg)-3], "octets after it": append(bytes.Clone(msg), 0), "no header": msg[:7],
	} {
		if _, _, err := keys.Check(m, now); code(err) != FormErr {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// RFC 8945 §5.3.1: in a transfer the first message is signed whole, later ones over the times and what came unsigned before them; at most 99 in a row come unsigned, and the last is signed.
func TestRFC8945Transfer(t *testing.T) {
	k := key(t, "key.test.", "hmac-sha256")
	keys := Keys{k.Name: k}
	begin := func() (*Session, *Client) {
		msg, client := k.Request(query(t, "example.test."), now)
		s, _, err := keys.Check(msg, now)
		if err != nil {
			t.Fatal(err)
		}
		return s, client
	}
	message := func(i int) []byte {
		m := query(t, fmt.Sprintf("m%d.test.", i))
		m[2] |= 0x80
		return m
	}
	s, c := begin()
	for i := range 300 {
		if _, err := c.Verify(s.Sign(message(i), now), now); err != nil {
			t.Fatalf("message %d: %v", i, err)
		}
	}
	if err := c.Done(); err != nil {
		t.Error(err)
	}
	for _, unsigned := range []int{1, 99, 100} {
		s, c := begin()
		var err error
		for i := 0; i < 203 && err == nil; i++ {
			if i == 0 || i%(unsigned+1) == unsigned {
				_, err = c.Verify(s.Sign(message(i), now), now)
			} else {
				s.sum.h.Write(message(i))
				_, err = c.Verify(message(i), now)
			}
		}
		if (err == nil) != (unsigned <= maxUnsigned) {
			t.Errorf("%d unsigned messages between signed ones: %v", unsigned, err)
		}
	}
	_, c = begin()
	if _, err := c.Verify(message(0), now); err == nil {
		t.Error("the first message may be unsigned")
	}
	s, c = begin()
	_, _ = c.Verify(s.Sign(message(0), now), now)
	if _, err := c.Verify(message(1), now); err != nil {
		t.Error(err)
	}
	if c.Done() == nil {
		t.Error("the last message may be unsigned")
	}
	s, c = begin()
	first, second := s.Sign(message(0), now), s.Sign(message(1), now)
	_, _ = c.Verify(first, now)
	if _, err := c.Verify(first, now); err == nil {
		t.Error("a message may come twice")
	}
	_ = second
}

func TestKeys(t *testing.T) {
	for _, c := range []struct{ algorithm, text, want string }{
		{"hmac-md5", secret, "unknown"}, {"hmac-sha256", "!", "not base64"}, {"hmac-sha256", " \n", "empty"},
	} {
		if _, err := NewKey("k.", fleet.TSIGAlgorithm(c.algorithm), []byte(c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %q: %v", c.algorithm, c.text, err)
		}
	}
}

// Whatever a stranger sends is refused or checked without harm, and what is
// accepted was signed by the key.
func FuzzTSIG(f *testing.F) {
	k, _ := NewKey("key.test.", "hmac-sha256", []byte(secret))
	plain := []byte("\x12\x67\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07example\x04test\x00\x00\x06\x00\x01")
	msg, _ := k.Request(plain, now)
	f.Add(msg)
	f.Add(plain)
	f.Add(msg[:len(msg)-10])
	twice, _ := k.Request(msg, now)
	f.Add(twice)
	f.Fuzz(func(t *testing.T, in []byte) {
		before := bytes.Clone(in)
		s, got, err := Keys{k.Name: k}.Check(in, now)
		if !bytes.Equal(in, before) {
			t.Fatal("the message was written to")
		}
		var bad *Error
		if errors.As(err, &bad) {
			bad.Answer(append([]byte(nil), plain...))
		}
		if err == nil {
			again, _ := k.Request(got, now)
			if _, _, err := (Keys{k.Name: k}).Check(again, now); err != nil {
				t.Fatalf("what was accepted cannot be signed again: %v", err)
			}
			s.Sign(got, now)
		}
		if len(in) >= header { // nobody guesses a MAC: the rest is behind it
			signed, _ := k.Request(bytes.Clone(in), now)
			if _, got, err := (Keys{k.Name: k}).Check(signed, now); err == nil && !bytes.Equal(got, in) {
				t.Fatalf("%x, signed, comes back as %x", in, got)
			}
		}
		_, c := k.Request(plain, now)
		for range 3 {
			if _, err := c.Verify(in, now); err != nil {
				break
			}
		}
	})
}
