package zone

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"meridian/fleet"
	"meridian/internal/testkit"
)

// The zones of RFC 8976 appendix A.
const (
	zonemdSimple = `
example. 86400 IN SOA ns1 admin 2018031900 ( 1800 900 604800 86400 )
 86400 IN NS ns1
 86400 IN NS ns2
 86400 IN ZONEMD 2018031900 1 1 ( c68090d90a7aed71 6bc459f9340e3d7c 1370d4d24b7e2fc3
   a1ddc0b9a87153b9 a9713b3c9ae5cc27 777f98b8e730044c )
ns1 3600 IN A 203.0.113.63
ns2 3600 IN AAAA 2001:db8::63
`
	zonemdComplex = `
example. 86400 IN SOA ns1 admin 2018031900 ( 1800 900 604800 86400 )
 86400 IN NS ns1
 86400 IN NS ns2
 86400 IN ZONEMD 2018031900 1 1 ( a3b69bad980a3504 e1cffcb0fd6397f9 3848071c93151f55
   2ae2f6b1711d4bd2 d8b39808226d7b9d b71e34b72077f8fe )
ns1 3600 IN A 203.0.113.63
NS2 3600 IN AAAA 2001:db8::63
occluded.sub 7200 IN TXT "I'm occluded but must be digested"
sub 7200 IN NS ns1
duplicate 300 IN TXT "I must be digested just once"
duplicate 300 IN TXT "I must be digested just once"
foo.test. 555 IN TXT "out-of-zone data must be excluded"
UPPERCASE 3600 IN TXT "canonicalize uppercase owner names"
* 777 IN PTR dont-forget-about-wildcards
mail 3600 IN MX 20 MAIL1
mail 3600 IN MX 10 Mail2.Example.
sortme 3600 IN AAAA 2001:db8::5:61
sortme 3600 IN AAAA 2001:db8::3:62
sortme 3600 IN AAAA 2001:db8::4:63
sortme 3600 IN AAAA 2001:db8::1:65
sortme 3600 IN AAAA 2001:db8::2:64
non-apex 900 IN ZONEMD 2018031900 1 1 ( 616c6c6f77656420 6275742069676e6f 7265642e20616c6c
   6f77656420627574 2069676e6f726564 2e20616c6c6f7765 )
`
	zonemdMultiple = `
example. 86400 IN SOA ns1 admin 2018031900 ( 1800 900 604800 86400 )
example. 86400 IN NS ns1.example.
example. 86400 IN NS ns2.example.
example. 86400 IN ZONEMD 2018031900 1 1 ( 62e6cf51b02e54b9 b5f967d547ce4313 6792901f9f88e637
   493daaf401c92c27 9dd10f0edb1c56f8 080211f8480ee306 )
example. 86400 IN ZONEMD 2018031900 1 2 ( 08cfa1115c7b948c 4163a901270395ea 226a930cd2cbcf2f
   a9a5e6eb85f37c8a 4e114d884e66f176 eab121cb02db7d65 2e0cc4827e7a3204 f166b47e5613fd27 )
example. 86400 IN ZONEMD 2018031900 1 240 ( e2d523f654b9422a 96c5a8f44607bbee )
example. 86400 IN ZONEMD 2018031900 241 1 ( e1846540e33a9e41 89792d18d5d131f6 05fc283e )
ns1.example. 3600 IN A 203.0.113.63
ns2.example. 86400 IN TXT "This example has multiple digests"
NS2.EXAMPLE. 3600 IN AAAA 2001:db8::63
`
)

func mustLoadText(t *testing.T, name fleet.Name, text string) *Zone {
	t.Helper()
	z, err := Load(name, []byte(text), "f")
	if err != nil {
		t.Fatal(err)
	}
	return z
}

// RFC 8976 §3.3.1: the digest covers all records once, in canonical order and form, occluded ones among them, and neither what is out of the zone nor the apex ZONEMD and its signatures.
// RFC 8976 §5.3: SHA-384 and SHA-512 are computed and verified.
func TestRFC8976Digests(t *testing.T) {
	signed, err := os.ReadFile("testdata/rfc8976-a4.zone")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		zone fleet.Name
		text string
	}{"A.1": {"example.", zonemdSimple}, "A.2": {"example.", zonemdComplex}, "A.3": {"example.", zonemdMultiple}, "A.4": {"uri.arpa.", string(signed)}} {
		z := mustLoadText(t, c.zone, c.text)
		if err := z.VerifyZONEMD(); err != nil {
			t.Errorf("appendix %s: %v", name, err)
		}
		for rdata := range each(z.Apex().Get(TypeZONEMD).Data) {
			if rdata[4] != 1 || rdata[5] > 2 {
				continue
			}
			if got, err := z.ZONEMD(rdata[5]); err != nil || hex.EncodeToString(got) != hex.EncodeToString(rdata[6:]) {
				t.Errorf("appendix %s, algorithm %d: %x %v", name, rdata[5], got, err)
			}
		}
	}
}

// RFC 8976 §4: a digest of another serial, another content, or given twice for a scheme and algorithm is not verified; unknown schemes and algorithms are passed over.
// RFC 8976 §2: a zone without ZONEMD has nothing to verify.
func TestRFC8976Verification(t *testing.T) {
	again := strings.Replace(zonemdSimple, "ns1 3600", "example. 86400 IN ZONEMD 2018031901 1 1 c68090d90a7aed716bc459f9340e3d7c1370d4d24b7e2fc3a1ddc0b9a87153b9a9713b3c9ae5cc27777f98b8e730044c\nns1 3600", 1)
	for what, c := range map[string]struct {
		text string
		want error
	}{
		"right":            {zonemdSimple, nil},
		"other serial":     {strings.Replace(zonemdSimple, "ZONEMD 2018031900", "ZONEMD 2018031901", 1), ErrZONEMDWrong},
		"other content":    {strings.Replace(zonemdSimple, "203.0.113.63", "203.0.113.64", 1), ErrZONEMDWrong},
		"other TTL":        {strings.Replace(zonemdSimple, "ns1 3600", "ns1 3601", 1), ErrZONEMDWrong},
		"twice":            {again, ErrZONEMDWrong},
		"none":             {zonemdSimple[:strings.Index(zonemdSimple, " 86400 IN ZONEMD")] + "ns1 3600 IN A 203.0.113.63\n", nil},
		"unknown scheme":   {strings.Replace(zonemdSimple, "1 1 (", "240 1 (", 1), ErrZONEMDUnsupported},
		"unknown hash":     {strings.Replace(zonemdSimple, "1 1 (", "1 240 (", 1), ErrZONEMDUnsupported},
		"one of several":   {strings.Replace(zonemdMultiple, "62e6cf51b02e54b9", "62e6cf51b02e54ba", 1), nil},
		"none of several":  {strings.Replace(zonemdMultiple, "2001:db8::63", "2001:db8::64", 1), ErrZONEMDWrong},
		"a case elsewhere": {strings.Replace(zonemdSimple, "IN NS ns1", "IN NS NS1", 1), nil},
	} {
		if err := mustLoadText(t, "example.", c.text).VerifyZONEMD(); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", what, err, c.want)
		}
	}
}

// ldns computes the same digests, over a zone with NSEC3 and many types too.
func TestZONEMDIsThatOfLdns(t *testing.T) {
	ldns := testkit.Program(t, "ldns-verify-zone")
	dir := t.TempDir()
	for i, text := range []string{
		without(top+manyTypes, "ZONEMD", "HTTPS", "SVCB", "RRSIG", "DNSKEY", "APL"), // ldns has not learned of service parameters
		without(top+nsec3Records, "RRSIG", "DNSKEY"),                                // it would verify the signatures
	} {
		for alg := uint8(1); alg <= 2; alg++ {
			z := mustLoadText(t, "example.test.", text)
			sum, err := z.ZONEMD(alg)
			if err != nil {
				t.Fatal(err)
			}
			z = mustLoadText(t, "example.test.", text+fmt.Sprintf("\n@ ZONEMD %d 1 %d %x\n", z.Serial, alg, sum))
			var out strings.Builder
			if err := z.WriteText(&out); err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(dir, fmt.Sprintf("%d-%d.zone", i, alg))
			if err := os.WriteFile(file, []byte(out.String()), 0o600); err != nil {
				t.Fatal(err)
			}
			if said, err := exec.Command(ldns, "-Z", file).CombinedOutput(); err != nil {
				t.Errorf("zone %d, algorithm %d: %v %s\n%s", i, alg, err, said, out.String())
			}
		}
	}
}

// without leaves out the lines that hold one of the words.
func without(text string, words ...string) string {
	var out strings.Builder
lines:
	for line := range strings.Lines(text) {
		for _, w := range words {
			if strings.Contains(line, w) {
				continue lines
			}
		}
		out.WriteString(line)
	}
	return out.String()
}
