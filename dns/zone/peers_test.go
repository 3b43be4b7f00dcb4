package zone

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"meridian/fleet"
	"meridian/internal/testkit"
)

// peerCases are zones for the peers' own checkers, each the usual head with
// these records. why, where it is given, tells why Meridian does not judge as
// the majority does.
var peerCases = []struct{ name, records, why string }{
	{"out-of-zone", "www.other.test. A 192.0.2.1\n", ""},
	{"class-ch", "x CH TXT b\n", ""},
	{"two-soa", "@ SOA ns1 admin 8 3600 600 86400 60\n", ""},
	{"same-soa-twice", "@ SOA ns1 admin 7 3600 600 86400 60\n", ""},
	{"soa-below", "sub SOA ns1 admin 8 3600 600 86400 60\n", ""},
	{"cname-and-a", "x CNAME ns1\nx A 192.0.2.1\n", ""},
	{"a-and-cname", "x A 192.0.2.1\nx CNAME ns1\n", ""},
	{"cname-and-cname", "x CNAME a\nx CNAME b\n", ""},
	{"same-cname-twice", "x CNAME a\nx CNAME a\n", ""},
	{"cname-and-nsec", "x CNAME ns1\nx NSEC y CNAME NSEC\n", ""},
	{"cname-and-key", "x CNAME ns1\nx KEY 256 3 13 AAAA\n", ""},
	{"cname-and-dname", "x CNAME ns1\nx DNAME ns2\n", ""},
	{"cname-at-apex", "@ CNAME ns1\n", ""},
	{"two-dnames", "x DNAME a\nx DNAME b\n", ""},
	{"below-dname", "x DNAME a.\ny.x TXT b\n", ""},
	{"below-dname-at-apex", "@ DNAME a.\n", ""},
	{"dname-and-ns", "x DNAME a.\nx NS b.\n", ""},
	{"dname-and-a", "x DNAME a.\nx A 192.0.2.1\n", ""},
	{"ns-without-glue", "c NS ns.c\n", ""},
	{"ns-without-address-in-zone", "c NS ns.other\n", ""},
	{"apex-ns-without-address", "@ NS ns9\n", ""},
	{"ns-to-cname", "c NS a\na CNAME ns1\n", ""},
	{"apex-ns-to-cname", "@ NS a\na CNAME ns1\n", ""},
	{"mx-to-cname", "x MX 1 a\na CNAME ns1\n", ""},
	{"mx-without-address", "x MX 1 a\n", ""},
	{"mx-address", "x MX 1 192.0.2.1\n", ""},
	{"srv-to-cname", "_x._tcp SRV 1 1 1 a\na CNAME ns1\n", ""},
	{"ttl-differs", "x 1 A 192.0.2.1\nx 2 A 192.0.2.2\n", ""},
	{"wildcard-ns", "*.x NS ns1\n", ""},
	{"wildcard-dname", "*.x DNAME ns1\n", ""},
	{"wildcard-cname", "*.x CNAME ns1\n", ""},
	{"asterisk-inside", "a.*.x A 192.0.2.1\n", ""},
	{"occluded-txt", "c NS ns.other.\nx.c TXT y\n", ""},
	{"occluded-at-cut", "c NS ns.other.\nc TXT y\n", ""},
	{"ds-without-ns", "x DS 1 13 2 00000000000000000000000000000000000000000000000000000000000000ff\n", ""},
	{"ds-short-digest", "c NS a.\nc DS 1 13 2 00ff\n", ""},
	{"ds-at-apex", "@ DS 1 13 2 00000000000000000000000000000000000000000000000000000000000000ff\n", ""},
	{"underscore-host", "a_b A 192.0.2.1\n", ""},
	{"label-63", strings.Repeat("a", 63) + " A 192.0.2.1\n", ""},
	{"label-64", strings.Repeat("a", 64) + " A 192.0.2.1\n", ""},
	{"name-255", strings.Repeat(strings.Repeat("a", 59)+".", 3) + strings.Repeat("a", 60) + " A 192.0.2.1\n", ""},
	{"name-256", strings.Repeat(strings.Repeat("a", 59)+".", 3) + strings.Repeat("a", 61) + " A 192.0.2.1\n", ""},
	{"empty-label", "a..b A 192.0.2.1\n", ""},
	{"leading-dot", ".a A 192.0.2.1\n", ""},
	{"escape-ddd", `a\046b A 192.0.2.1` + "\n", ""},
	{"escape-256", `a\256b A 192.0.2.1` + "\n", "RFC 1035 section 5.1: DDD stands for an octet"},
	{"escape-two-digits", `a\25 A 192.0.2.1` + "\n", ""},
	{"unknown-type", "x TYPE65280 \\# 3 abcdef\n", ""},
	{"unknown-type-split", "x TYPE65280 \\# 3 ab ( cd\n ef )\n", ""},
	{"unknown-type-wrong-length", "x TYPE65280 \\# 4 abcdef\n", ""},
	{"unknown-type-odd", "x TYPE65280 \\# 2 abc\n", ""},
	{"unknown-type-empty", "x TYPE65280 \\# 0\n", ""},
	{"known-as-unknown", "x TYPE1 \\# 4 c0000201\n", ""},
	{"known-generic", "x A \\# 4 c0000201\n", ""},
	{"known-generic-bad", "x A \\# 3 c00002\n", ""},
	{"no-such-type", "x FOO bar\n", ""},
	{"meta-type", "x TYPE255 \\# 0\n", "RFC 6895 section 3.1: types 128 to 255 are no types of data"},
	{"any-type", "x ANY 1\n", ""},
	{"bad-ipv4", "x A 192.0.2\n", ""},
	{"ipv4-leading-zero", "x A 192.0.02.1\n", ""},
	{"ipv4-300", "x A 192.0.2.300\n", ""},
	{"bad-ipv6", "x AAAA 2001:db8::g\n", ""},
	{"ipv6-mapped", "x AAAA ::ffff:192.0.2.1\n", ""},
	{"missing-rdata", "x A\n", ""},
	{"extra-rdata", "x A 192.0.2.1 192.0.2.2\n", ""},
	{"mx-without-preference", "x MX a\n", ""},
	{"mx-65536", "x MX 65536 a\n", ""},
	{"open-parenthesis", "x TXT ( a\n", ""},
	{"close-parenthesis", "x TXT a )\n", ""},
	{"parentheses-owner", "x ( A 192.0.2.1 )\n", ""},
	{"comment-in-parentheses", "x TXT ( a ; comment )\n b )\n", ""},
	{"open-quote", "x TXT \"a\n", ""},
	{"quoted-newline", "x TXT \"a\nb\"\n", ""},
	{"adjacent-strings", "x TXT \"a\"\"b\"\n", ""},
	{"txt-256", "x TXT " + strings.Repeat("a", 256) + "\n", ""},
	{"txt-255", "x TXT " + strings.Repeat("a", 255) + "\n", ""},
	{"txt-empty", "x TXT \"\"\n", ""},
	{"txt-none", "x TXT\n", ""},
	{"txt-many", "x TXT " + strings.Repeat("\""+strings.Repeat("a", 255)+"\" ", 200) + "\n", ""},
	{"txt-too-long", "x TXT " + strings.Repeat("\""+strings.Repeat("a", 255)+"\" ", 257) + "\n", ""},
	{"txt-semicolon", "x TXT \"a;b\"\n", ""},
	{"txt-unquoted-semicolon", "x TXT a;b\n", ""},
	{"txt-escapes", `x TXT "\"\\\065\a"` + "\n", ""},
	{"ttl-units", "x 1h30m A 192.0.2.1\ny 1w IN A 192.0.2.1\nz IN 5m A 192.0.2.1\n", ""},
	{"ttl-bad-unit", "x 5y A 192.0.2.1\n", ""},
	{"ttl-number-behind-unit", "x 1h30 A 192.0.2.1\n", ""},
	{"ttl-2^31", "x 2147483648 A 192.0.2.1\n", ""},
	{"ttl-2^32", "x 4294967296 A 192.0.2.1\n", ""},
	{"two-ttls", "x 5 6 A 192.0.2.1\n", ""},
	{"two-classes", "x IN IN A 192.0.2.1\n", ""},
	{"lower-case", "x in a 192.0.2.1\ny cname x\n", ""},
	{"crlf", "x A 192.0.2.1\r\ny A 192.0.2.1\r\n", ""},
	{"tabs", "x\tIN\tA\t192.0.2.1\n", ""},
	{"no-final-newline", "x A 192.0.2.1", ""},
	{"blank-owner", "x A 192.0.2.1\n  A 192.0.2.2\n\tA 192.0.2.3\n", ""},
	{"blank-line-between", "x A 192.0.2.1\n   \n; c\n  A 192.0.2.2\n", ""},
	{"origin", "$ORIGIN sub\nx A 192.0.2.1\n$ORIGIN example.test.\ny A 192.0.2.1\n", "RFC 1035 section 5.1: the name of $ORIGIN may be relative"},
	{"origin-outside", "$ORIGIN other.test.\n", ""},
	{"bad-directive", "$FOO x\n", ""},
	{"ttl-directive", "$TTL 1h\nx A 192.0.2.1\n", ""},
	{"ttl-directive-bad", "$TTL x\nx A 192.0.2.1\n", ""},
	{"directive-in-lower-case", "$origin sub\nx A 192.0.2.1\n", "RFC 1035 section 5.1: the name of $ORIGIN may be relative"},
	{"include-missing", "$INCLUDE nothing-here\n", ""},
	{"at-in-rdata", "x CNAME @\n", ""},
	{"caa", "@ CAA 0 issue \"ca.test\"\n@ CAA 128 tbs \"x\"\n", ""},
	{"https", "@ HTTPS 1 . alpn=\"h2,h3\" port=443 ipv4hint=192.0.2.1\nx HTTPS 0 a.\n", ""},
	{"https-key-twice", "@ HTTPS 1 . alpn=h2 alpn=h3\n", ""},
	{"https-unknown-key", "@ HTTPS 1 . key667=hello\n", ""},
	{"srv", "_x._tcp SRV 0 0 1 .\n", ""},
	{"naptr", "x NAPTR 100 10 \"u\" \"E2U+sip\" \"!^.*$!sip:x@y!\" .\n", ""},
	{"loc", "x LOC 52 22 23.000 N 4 53 32.000 E -2.00m 0.00m 10000m 10m\n", ""},
	{"sshfp", "x SSHFP 4 2 00ff\n", ""},
	{"tlsa", "x TLSA 3 1 1 00ff\n", ""},
	{"dnskey", "@ DNSKEY 257 3 13 AAAA\n", ""},
	{"dnskey-mnemonic", "@ DNSKEY 257 3 ECDSAP256SHA256 AAAA\n", ""},
	{"dnskey-bad-base64", "@ DNSKEY 257 3 13 A*AA\n", ""},
	{"nsec3param", "@ NSEC3PARAM 1 0 0 -\n", ""},
	{"nsec3param-salt", "@ NSEC3PARAM 1 0 10 aabbccdd\n", ""},
	{"nsec3-bad-owner", "x NSEC3 1 0 0 - 2t7b4g4vsa5smi47k61mv5bv1a22bojr A\n", ""},
	{"rrsig-without-set", "x RRSIG A 13 3 300 20300101000000 20260101000000 1 example.test. AAAA\n", ""},
	{"same-record-twice", "x A 192.0.2.1\nx A 192.0.2.1\n", ""},
	{"loop-of-cnames", "x CNAME y\ny CNAME x\n", ""},
	{"cname-to-nothing", "x CNAME y\n", ""},
}

// peerHead begins every zone of peerCases.
const peerHead = "$TTL 300\n@ SOA ns1 admin 7 3600 600 86400 60\n@ NS ns1\nns1 A 192.0.2.53\n"

// Broken and odd zones are judged as most of BIND, NSD and Knot judge them.
func TestZonesAreJudgedAsMostPeersDo(t *testing.T) {
	named, nsd, knot := testkit.Program(t, "named-checkzone"), testkit.Program(t, "nsd-checkzone"), testkit.Program(t, "kzonecheck")
	dir := t.TempDir()
	for _, c := range peerCases {
		file := filepath.Join(dir, c.name+".zone")
		if err := os.WriteFile(file, []byte(peerHead+c.records), 0o600); err != nil {
			t.Fatal(err)
		}
		taken := 0
		var said strings.Builder
		for _, cmd := range [][]string{{named, "-i", "local", "example.test", file}, {nsd, "example.test", file}, {knot, "-o", "example.test", file}} {
			out, err := exec.Command(cmd[0], cmd[1:]...).CombinedOutput()
			if err == nil || strings.Contains(string(out), "Error summary") && !strings.Contains(string(out), "Serious") {
				taken++ // Knot sums up what it tells of and serves all the same
			}
			said.WriteString(filepath.Base(cmd[0]) + ": " + strconv.FormatBool(err == nil) + " " + string(out) + "\n")
		}
		z, err := LoadFS(fleet.Name("example.test."), os.DirFS(dir), c.name+".zone", "")
		if ours, theirs := err == nil, taken >= 2; ours != theirs && c.why == "" {
			var warnings []string
			if z != nil {
				warnings = z.Warnings
			}
			t.Errorf("%s: we take it: %v; %d of 3 do\nours: %v %v\n%s", c.name, ours, taken, err, warnings, said.String())
		} else if ours == theirs && c.why != "" {
			t.Errorf("%s: judged as the majority does; no reason is needed", c.name)
		}
	}
}
