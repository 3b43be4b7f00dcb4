package sign

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"meridian/dns/zone"
	"meridian/fleet"
	"meridian/internal/testkit"
)

// What is exported comes back as it was, and BIND's library of formats reads
// it.
func TestKeyFilesComeBack(t *testing.T) {
	for _, alg := range []uint8{algP256, algEd25519} {
		for _, role := range []Role{ZSK, CSK} {
			k, err := NewKey(role, alg, now, octets("files"), nil)
			if err != nil {
				t.Fatal(err)
			}
			files := Export("example.test.", &k, 3600)
			back, err := Import("example.test.", files, "", now.Add(time.Hour))
			if err != nil || len(back) != 1 || back[0].Role != role || string(back[0].Private) != string(k.Private) || !back[0].Created.Equal(k.Created) {
				t.Errorf("%s: %+v %v", k, back, err)
			}
			rr, err := dns.NewRR(files[0].Text)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := rr.(*dns.DNSKEY).NewPrivateKey(files[1].Text); err != nil {
				t.Errorf("%s: %v\n%s", k, err, files[1].Text)
			}
		}
	}
}

func TestImportPEM(t *testing.T) {
	k, err := NewKey(CSK, algP256, now, octets("pem"), nil)
	if err != nil {
		t.Fatal(err)
	}
	ec, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), k.Private)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(ec)
	if err != nil {
		t.Fatal(err)
	}
	text := string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	back, err := Import("example.test.", []File{{"x.pem", text}}, CSK, now)
	if err != nil || string(back[0].Public) != string(k.Public) || back[0].Role != CSK {
		t.Errorf("%v %v", back, err)
	}
}

// What cannot be imported is refused with its file and the reason.
func TestImportSaysWhatIsWrong(t *testing.T) {
	k, _ := NewKey(KSK, algP256, now, octets("a"), nil)
	other, _ := NewKey(KSK, algP256, now, octets("b"), nil)
	files, others := Export("example.test.", &k, 1), Export("example.test.", &other, 1)
	for want, list := range map[string][]File{
		"no key in what":                     {},
		"expected .key and .private":         {{"x", "text"}},
		"give its role":                      {{"x.pem", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"}},
		"without its .private":               files[:1],
		"its .key is missing":                files[1:],
		"is not the private key of its .key": {files[0], {files[1].Name, others[1].Text}},
		"not with algorithm 8":               {{"K.private", "Private-key-format: v1.3\nAlgorithm: 8 (RSASHA256)\nModulus: AAAA\n"}},
		"is a key of other.test.":            {{"K.key", strings.ReplaceAll(files[0].Text, "\nexample", "\nother")}},
		"Private-key-format":                 {{"K.private", "PrivateKey: AAAA\n"}},
		"PrivateKey is not base64":           {{"K.private", "Private-key-format: v1.3\nAlgorithm: 13\nPrivateKey: *\n"}},
		"private key of ecdsap256sha256":     {{"K.private", "Private-key-format: v1.3\nAlgorithm: 13\nPrivateKey: AAAA\n"}, {"K.key", files[0].Text}},
		"comes twice":                        append(files, File{"again.key", files[0].Text}, File{"again.private", files[1].Text}),
	} {
		if _, err := Import("example.test.", list, "", now); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", want, err)
		}
	}
}

// A role that is none is refused: a state with such a key could not be read
// again, and a line's end in it would end the comment that Export writes.
func TestImportRefusesARoleThatIsNone(t *testing.T) {
	k, _ := NewKey(KSK, algEd25519, now, octets("role"), nil)
	if _, err := Import("example.test.", Export("example.test.", &k, 1), "ksk\nx of", now); err == nil || !strings.Contains(err.Error(), "is not ksk, zsk or csk") {
		t.Error(err)
	}
}

// RFC 4035 §5.3: zones that BIND signed with RSA, ECDSA and Ed25519, with NSEC and NSEC3, verify; a changed one does not.
func TestVerifyWhatBINDSigned(t *testing.T) {
	keygen, signzone := testkit.Program(t, "dnssec-keygen"), testkit.Program(t, "dnssec-signzone")
	for _, alg := range []string{"RSASHA256", "RSASHA512", "ECDSAP256SHA256", "ECDSAP384SHA384", "ED25519"} {
		for _, nsec3 := range []bool{false, true} {
			dir := t.TempDir()
			runIn := func(args ...string) {
				t.Helper()
				cmd := exec.Command(args[0], args[1:]...)
				cmd.Dir = dir
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Fatalf("%v: %v\n%s", args, err, out)
				}
			}
			runIn(keygen, "-q", "-a", alg, "-b", "2048", "-f", "KSK", "example.test")
			runIn(keygen, "-q", "-a", alg, "-b", "2048", "example.test")
			z := load(t, everything)
			if err := os.WriteFile(filepath.Join(dir, "zone"), text(t, z), 0o600); err != nil {
				t.Fatal(err)
			}
			args := []string{signzone, "-S", "-o", "example.test"}
			if nsec3 {
				args = append(args, "-3", "aabb", "-H", "2")
			}
			runIn(append(args, "zone")...)
			b, err := os.ReadFile(filepath.Join(dir, "zone.signed"))
			if err != nil {
				t.Fatal(err)
			}
			if err := Verify(load(t, string(b)), time.Now()); err != nil {
				t.Errorf("%s, NSEC3 %v: %v", alg, nsec3, err)
			}
			changed := strings.Replace(string(b), "192.0.2.3", "192.0.2.4", 1)
			if err := Verify(load(t, changed), time.Now()); err == nil || !strings.Contains(err.Error(), "mail.example.test. A: signature") {
				t.Errorf("%s: a changed record passes: %v", alg, err)
			}
			if err := Verify(load(t, string(b)), time.Now().Add(100*day)); err == nil || !strings.Contains(err.Error(), "not in force") {
				t.Errorf("%s: expired signatures pass: %v", alg, err)
			}
		}
	}
	if err := Verify(load(t, everything), now); err == nil || !strings.Contains(err.Error(), "no DNSKEY") {
		t.Errorf("an unsigned zone: %v", err)
	}
}

// RFC 4035 §2.3: a steered name's denial tells of all types that it can answer; alternatives of the same owner and next name lack those that may be absent.
// RFC 8198 §5: such an alternative is not believed for longer than the addresses would be.
func TestVariantsAndTheirAbsence(t *testing.T) {
	www := zone.Wire("www.example.test.")
	a := func(last byte) zone.RRset { return newSet(zone.TypeA, 30, []byte{192, 0, 2, last}) }
	variants := []Variants{
		{Owner: www, Type: zone.TypeA, Empty: true, Sets: []zone.RRset{a(1), a(2)}},
		{Owner: www, Type: zone.TypeAAAA, Empty: true, Sets: []zone.RRset{newSet(zone.TypeAAAA, 30, make([]byte, 16))}},
		{Owner: www, Type: zone.TypeHTTPS, Empty: true},
	}
	for _, denial := range []fleet.Denial{fleet.DenialNSEC, fleet.DenialNSEC3} {
		p := policy(t, func(p *fleet.DNSSECPolicy) { p.Denial = denial })
		z, _ := signed(t, everything, p, func(o *Options) { o.Variants = variants })
		if err := Verify(z, now); err != nil {
			t.Errorf("%s: %v", denial, err)
		}
		if got := z.Variants(string(www), zone.TypeA); len(got) != 2 || len(got[0].Set.Sigs) == 0 || len(got[1].Set.Sigs) == 0 {
			t.Errorf("%s: A variants %+v", denial, got)
		}
		owner, t0, skip := string(www), uint16(zone.TypeNSEC), 0
		var set *zone.RRset
		if denial == fleet.DenialNSEC {
			set = z.Node(www).Get(zone.TypeNSEC)
		} else {
			sum := z.Param.Hash(www)
			n, _ := z.NSEC3(sum[:])
			owner, t0, set, skip = n.Name, zone.TypeNSEC3, &n.Set, 6+20
		}
		rdata, _ := zone.Next(set.Data)
		if skip == 0 {
			skip = zone.WireLen(rdata)
		}
		types := typesOf(rdata[skip:])
		if types[0] != zone.TypeA || types[1] != zone.TypeAAAA || types[len(types)-1] == zone.TypeHTTPS {
			t.Errorf("%s: types %v", denial, types)
		}
		lacks := map[string]bool{}
		for _, v := range z.Variants(owner, t0) {
			alt, _ := zone.Next(v.Set.Data)
			if string(alt[:skip]) != string(rdata[:skip]) || v.Set.TTL != 30 || len(v.Set.Sigs) == 0 {
				t.Errorf("%s: alternative %x, TTL %d", denial, alt, v.Set.TTL)
			}
			if got := typesOf(alt[skip:]); len(got) != len(types)-len(v.Lacks) {
				t.Errorf("%s lacking %v: %v", denial, v.Lacks, got)
			}
			lacks[string(bitmap(v.Lacks))] = true
		}
		if len(lacks) != 3 { // A, AAAA, both
			t.Errorf("%s: %d alternatives", denial, len(lacks))
		}
	}
}

func FuzzImport(f *testing.F) {
	k, _ := NewKey(KSK, algEd25519, now, octets("fuzz"), nil)
	files := Export("example.test.", &k, 3600)
	f.Add(files[0].Text, files[1].Text, "ksk")
	f.Add("example.test. IN DNSKEY 257 3 8 AAAA\n", "Private-key-format: v1.2\nAlgorithm: 13 (X)\nPrivateKey: AA==\n", "")
	f.Add("", "-----BEGIN PRIVATE KEY-----\nMEECAQAwEwYHKoZIzj0CAQYIKoZIzj0DAQcEJzAlAgEBBCA=\n-----END PRIVATE KEY-----\n", "csk")
	f.Add("", files[1].Text, "\n0")
	f.Fuzz(func(t *testing.T, public, private, role string) {
		for _, name := range []string{"K.private", "K.pem"} {
			keys, err := Import("example.test.", []File{{"K.key", public}, {name, private}}, Role(role), now)
			if err != nil {
				keys, err = Import("example.test.", []File{{name, private}}, Role(role), now)
			}
			if err != nil {
				continue
			}
			for i := range keys {
				back, err := Import("example.test.", Export("example.test.", &keys[i], 60), keys[i].Role, now)
				if err != nil || string(back[0].Private) != string(keys[i].Private) || back[0].Tag() != keys[i].Tag() {
					t.Fatalf("%s does not come back: %v", keys[i], err)
				}
			}
		}
	})
}

func FuzzDecodeState(f *testing.F) {
	s := settled(f, "example.test.", policy(f, nil))
	b, _ := s.Encode()
	f.Add(b)
	f.Add([]byte(`{"version":1}`))
	f.Add([]byte(`{"version":1,"keys":[{"role":"csk","algorithm":15,"public":"","private":""}]}`))
	p := policy(f, nil)
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := DecodeState(b)
		if err != nil {
			return
		}
		again, err := s.Encode()
		if err != nil {
			return // years that JSON has no form for
		}
		if _, err := DecodeState(again); err != nil {
			t.Fatalf("what was decoded is not readable again: %v\n%s", err, again)
		}
		if len(s.Keys) > 20 {
			return
		}
		if _, _, _, err := Step(*s, "example.test.", p, now, Facts{MaxTTL: 3600}, octets("step")); err != nil {
			t.Fatal(err)
		}
	})
}

func BenchmarkSign(b *testing.B) {
	var text strings.Builder
	text.WriteString(everything)
	for i := range 10_000 {
		text.WriteString("h" + strings.Repeat("x", i%7) + time.Duration(i).String() + " A 192.0.2.1\n")
	}
	base := load(b, text.String())
	p := policy(b, nil)
	o := Options{State: settled(b, "example.test.", p), Policy: p, Serial: 8, Now: now}
	var first *zone.Zone
	b.Run("all", func(b *testing.B) {
		for b.Loop() {
			var err error
			if first, _, err = Sign(base, &o); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("again", func(b *testing.B) {
		o.Old, o.Serial = first, 9
		for b.Loop() {
			if _, _, err := Sign(base, &o); err != nil {
				b.Fatal(err)
			}
		}
	})
}
