package imports

import (
	"encoding/json"
	"strings"
	"testing"
	"testing/fstest"

	"go.yaml.in/yaml/v3"

	"meridian/fleet"
)

func from(fsys fstest.MapFS) Files { return fsys.ReadFile }

const namedConf = `
// as BIND takes it
options { directory "etc"; recursion no; allow-transfer { !192.0.2.9; trusted; !elsewhere; }; also-notify { 192.0.2.60; }; };
include "keys.conf"; # another file
acl trusted { 192.0.2.0/28; key "xfr."; };
primaries upstream port 5300 { 192.0.2.70 key xfr.; 2001:db8::70 port 5353; };
logging { channel x { null; }; };
zone "example.com" IN { type master; file "example.com.db"; allow-update { key upd; 127.0.0.1; }; };
zone "plain.test" { type primary; file "plain.db"; notify no; allow-transfer { none; }; dnssec-policy standard;
  update-policy { grant upd name www.plain.test. A AAAA; grant upd zonesub TXT; grant upd krb5-self x A; }; };
zone "second.test" { type slave; file "sec.db"; masters { upstream; 192.0.2.71; }; };
zone "." { type hint; file "root"; };
view "inside" { match-clients { any; }; zone "example.com" { type master; file "other.db"; }; zone "view.test" { type master; file "view.db"; }; };
zone "lost.test" { type master; file "missing.db"; };
zone "raw.test" { type master; file "raw.db"; masterfile-format raw; };
`

const soaText = "$TTL 300\n@ SOA ns1 admin 1 7200 1800 259200 900\n@ NS ns1\nns1 A 192.0.2.53\n"

var namedFiles = fstest.MapFS{
	"keys.conf":          {Data: []byte("key \"xfr\" { algorithm hmac-sha512; secret \"c2VjcmV0\"; };\nkey upd { algorithm \"HMAC-SHA256\"; secret \"b3RoZXI=\"; };\nkey old { algorithm hmac-md5; secret \"eA==\"; };\n")},
	"etc/example.com.db": {Data: []byte(soaText + "$INCLUDE sub/hosts.inc hosts\nlast A 192.0.2.3\n")},
	"etc/sub/hosts.inc":  {Data: []byte("a A 192.0.2.1\n$ORIGIN deep.hosts.example.com.\nb A 192.0.2.2\n")},
	"etc/plain.db":       {Data: []byte(soaText)},
	"etc/view.db":        {Data: []byte(soaText)},
}

func TestNamedConf(t *testing.T) {
	r, err := Named([]byte(namedConf), from(namedFiles))
	if err != nil {
		t.Fatal(err)
	}
	w := compiles(t, r)
	spec := w.Snapshot.Spec
	z := spec.Zone("example.com.")
	if z == nil || !z.Dynamic || z.Updates[0].Key != "upd." || strings.Join(z.Transfer, " ") != "!192.0.2.9 192.0.2.0/28 key:xfr." || z.Notify[0].Address.String() != "192.0.2.60:53" {
		t.Errorf("example.com: %+v", z)
	}
	for _, want := range []string{"a A 192.0.2.1", "$ORIGIN hosts.example.com.", "$ORIGIN example.com.\nlast A"} {
		if text := string(r.Zones[z.File]); !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	plain := spec.Zone("plain.test.")
	if plain == nil || plain.DNSSEC != "default" || len(plain.Notify) != 0 || len(plain.Transfer) != 0 || len(plain.Updates) != 2 ||
		plain.Updates[0].Names[0] != "www" || strings.Join(plain.Updates[0].Types, " ") != "A AAAA" || plain.Updates[1].Types[0] != "TXT" {
		t.Errorf("plain.test: %+v", plain)
	}
	second := spec.Zone("second.test.")
	if second == nil || len(second.Primaries) != 3 || second.Primaries[0].Address.String() != "192.0.2.70:5300" || second.Primaries[0].Key != "xfr." || second.Primaries[1].Address.Port() != 5353 {
		t.Errorf("second.test: %+v", second)
	}
	if k := spec.DNS.Keys; len(k) != 2 || k[0].Algorithm != "hmac-sha512" || string(r.Secrets["keys/xfr.tsig"]) != "c2VjcmV0\n" {
		t.Errorf("keys: %+v", k)
	}
	if spec.Zone("view.test.") == nil || spec.Zone(".") != nil || spec.Zone("lost.test.") != nil {
		t.Error("zones of views, hints or without a file")
	}
	noted(t, r, "recursion", "by hand")
	noted(t, r, "named.conf:3", "!elsewhere")
	noted(t, r, "key old", "hmac-md5")
	noted(t, r, "allow-update 127.0.0.1", "signed")
	noted(t, r, "krb5-self", "no counterpart")
	noted(t, r, "dnssec-policy standard", "keys import")
	noted(t, r, "view inside", "no views")
	noted(t, r, "example.com", "given twice")
	noted(t, r, "zone .", "hint")
	noted(t, r, "lost.test", "missing.db")
	noted(t, r, "raw.test", "named-compilezone")
}

func TestNamedConfSyntaxErrorsTellTheLine(t *testing.T) {
	for text, want := range map[string]string{
		"options {\n":                   "named.conf:2: the file ends within",
		"a b\n":                         "ends within a statement",
		"zone x { type master }":        "expected ; before }",
		"};":                            "a brace too many",
		"zone \"x":                      "a quote is not closed",
		"include \"nothing\";":          "nothing",
		strings.Repeat("a { ", 99):      "nested more than",
		"/* never closed":               "",
		"key x { secret \"a\"; }; # ok": "",
	} {
		_, err := Named([]byte(text), from(nil))
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

const luaZone = soaText + `
www  60 IN LUA A ( "ifportup(443, {'192.0.2.1', '192.0.2.2'}, "
                   "{selector='pickclosest', interval=5})" ) ; over two lines
     IN LUA AAAA "ifportup(443, {'2001:db8::1', '2001:db8::2'}, {selector='pickclosest', interval=5})"
     MX 10 ns1
url  LUA A "ifurlup('http://www.example.com/up', {{'192.0.2.3'}, {'192.0.2.4', '192.0.2.5'}}, {stringmatch='ok'})"
mix  LUA A "pickwrandom({{90,'192.0.2.6'}, {10,'192.0.2.7'}})"
two  LUA A "pickrandomsample(2, {'192.0.2.8', '192.0.2.9', '192.0.2.10'})"
geo  LUA A ";if country('US') then return {'192.0.2.11'} elseif continent({'EU','AF'}) then return '192.0.2.12' else return '192.0.2.13' end"
net  LUA A ";if(netmask({'10.0.0.0/8'})) then return '192.0.2.11' else return '192.0.2.12' end"
bad  LUA A "createReverse('%1%')"
text LUA TXT "os.date()"
odd  LUA A ";local x = 1 return x"
apex 300 ALIAS target.other.example.
`

func TestPowerDNS(t *testing.T) {
	r := PowerDNS(map[string][]byte{"example.com.zone": []byte(luaZone)})
	w := compiles(t, r)
	z := w.Snapshot.Spec.Zones[0]
	var names []string
	for _, st := range z.Steered {
		names = append(names, st.Name)
	}
	if got := strings.Join(names, " "); got != "www url mix two geo net" {
		t.Errorf("steered: %s\n%s", got, notes(r))
	}
	if len(z.Aliases) != 1 || z.Aliases[0].Name != "apex" || z.Aliases[0].Target != "target.other.example." {
		t.Errorf("aliases %+v", z.Aliases)
	}
	www := service(t, r, "www-example-com")
	if www.Steering.Policy != fleet.Proximity || www.Healthcheck.Type != fleet.CheckTCP || www.Healthcheck.Port != 443 || len(www.Steering.Regions) != 2 {
		t.Errorf("www: %+v", www)
	}
	if len(r.Spec.Regions[0].VIPs.V4) != 1 || len(r.Spec.Regions[0].VIPs.V6) != 1 {
		t.Errorf("families: %+v", r.Spec.Regions[0])
	}
	if u := service(t, r, "url-example-com"); u.Steering.Policy != fleet.Failover || len(u.Steering.Groups) != 1 || u.Healthcheck.Path != "/up" || u.Healthcheck.Host != "www.example.com" {
		t.Errorf("url: %+v", u)
	}
	if m := service(t, r, "mix-example-com"); m.Steering.Weights[m.Steering.Regions[0]] != 90 {
		t.Errorf("mix: %+v", m.Steering)
	}
	if g := service(t, r, "geo-example-com"); len(g.Steering.Geo) != 3 || g.Steering.Geo[0].Countries[0] != "US" || len(g.Steering.Geo[1].Continents) != 2 || len(g.Steering.Geo[2].Continents) != 7 {
		t.Errorf("geo: %+v", g.Steering)
	}
	if n := service(t, r, "net-example-com"); n.Steering.Policy != fleet.Subnet || len(n.Steering.Subnets) != 2 {
		t.Errorf("net: %+v", n.Steering)
	}
	if text := string(r.Zones[z.File]); strings.Contains(text, "LUA") || !strings.Contains(text, "www.example.com.     MX") {
		t.Errorf("rest:\n%s", text)
	}
	noted(t, r, "createReverse", "no counterpart")
	noted(t, r, "LUA TXT", "left out")
	noted(t, r, "odd.example.com.", "more Lua")
	noted(t, r, "stringmatch = ok", "no counterpart")
}

const r53JSON = `{"ResourceRecordSets": [
 {"Name": "example.com.", "Type": "SOA", "TTL": 900, "ResourceRecords": [{"Value": "ns-1.awsdns-1.com. admin.example.com. 1 7200 900 1209600 86400"}]},
 {"Name": "example.com.", "Type": "NS", "TTL": 900, "ResourceRecords": [{"Value": "ns-1.awsdns-1.com."}, {"Value": "ns-2.awsdns-2.net."}]},
 {"Name": "\\052.example.com.", "Type": "TXT", "TTL": 60, "ResourceRecords": [{"Value": "\"any\""}]},
 {"Name": "plain.example.com.", "Type": "A", "TTL": 60, "ResourceRecords": [{"Value": "192.0.2.1"}, {"Value": "192.0.2.2"}]},
 {"Name": "w.example.com.", "Type": "A", "TTL": 30, "SetIdentifier": "blue", "Weight": 9, "HealthCheckId": "hc-1", "ResourceRecords": [{"Value": "192.0.2.10"}]},
 {"Name": "w.example.com.", "Type": "A", "TTL": 30, "SetIdentifier": "green", "Weight": 1, "ResourceRecords": [{"Value": "192.0.2.11"}]},
 {"Name": "w.example.com.", "Type": "AAAA", "TTL": 30, "SetIdentifier": "blue", "Weight": 9, "ResourceRecords": [{"Value": "2001:db8::10"}]},
 {"Name": "w.example.com.", "Type": "AAAA", "TTL": 30, "SetIdentifier": "green", "Weight": 1, "ResourceRecords": [{"Value": "2001:db8::11"}]},
 {"Name": "l.example.com.", "Type": "A", "TTL": 30, "SetIdentifier": "1", "Region": "us-east-1", "ResourceRecords": [{"Value": "192.0.2.20"}]},
 {"Name": "l.example.com.", "Type": "A", "TTL": 30, "SetIdentifier": "2", "Region": "eu-central-1", "ResourceRecords": [{"Value": "192.0.2.21"}]},
 {"Name": "g.example.com.", "Type": "A", "SetIdentifier": "de", "GeoLocation": {"CountryCode": "DE"}, "AliasTarget": {"HostedZoneId": "Z", "DNSName": "w.example.com.", "EvaluateTargetHealth": true}},
 {"Name": "g.example.com.", "Type": "A", "TTL": 30, "SetIdentifier": "eu", "GeoLocation": {"ContinentCode": "EU"}, "ResourceRecords": [{"Value": "192.0.2.30"}]},
 {"Name": "g.example.com.", "Type": "A", "TTL": 30, "SetIdentifier": "ca", "GeoLocation": {"CountryCode": "US", "SubdivisionCode": "CA"}, "ResourceRecords": [{"Value": "192.0.2.31"}]},
 {"Name": "g.example.com.", "Type": "A", "TTL": 30, "SetIdentifier": "default", "GeoLocation": {"CountryCode": "*"}, "ResourceRecords": [{"Value": "192.0.2.32"}]},
 {"Name": "f.example.com.", "Type": "A", "TTL": 30, "SetIdentifier": "b", "Failover": "SECONDARY", "ResourceRecords": [{"Value": "192.0.2.41"}]},
 {"Name": "f.example.com.", "Type": "A", "TTL": 30, "SetIdentifier": "a", "Failover": "PRIMARY", "ResourceRecords": [{"Value": "192.0.2.40"}]},
 {"Name": "m.example.com.", "Type": "A", "TTL": 30, "SetIdentifier": "a", "MultiValueAnswer": true, "ResourceRecords": [{"Value": "192.0.2.50"}]},
 {"Name": "m.example.com.", "Type": "A", "TTL": 30, "SetIdentifier": "b", "MultiValueAnswer": true, "ResourceRecords": [{"Value": "192.0.2.51"}]},
 {"Name": "p.example.com.", "Type": "A", "TTL": 30, "SetIdentifier": "a", "GeoProximityLocation": {"AWSRegion": "us-west-2", "Bias": 10}, "ResourceRecords": [{"Value": "192.0.2.60"}]},
 {"Name": "p.example.com.", "Type": "A", "TTL": 30, "SetIdentifier": "b", "GeoProximityLocation": {"Coordinates": {"Latitude": "10.5", "Longitude": "20"}}, "ResourceRecords": [{"Value": "192.0.2.61"}]},
 {"Name": "example.com.", "Type": "A", "AliasTarget": {"HostedZoneId": "Z", "DNSName": "dualstack.lb-1.us-east-1.elb.amazonaws.com.", "EvaluateTargetHealth": false}},
 {"Name": "c.example.com.", "Type": "CNAME", "TTL": 30, "SetIdentifier": "a", "Weight": 1, "ResourceRecords": [{"Value": "x.other.test."}]},
 {"Name": "loop.example.com.", "Type": "A", "SetIdentifier": "a", "Weight": 1, "AliasTarget": {"DNSName": "loop.example.com."}},
 {"Name": "loop.example.com.", "Type": "A", "SetIdentifier": "b", "Weight": 1, "AliasTarget": {"DNSName": "loop.example.com."}}
]}`

func TestRoute53(t *testing.T) {
	r, err := Route53([]byte(r53JSON))
	if err != nil {
		t.Fatal(err)
	}
	w := compiles(t, r)
	z := w.Snapshot.Spec.Zones[0]
	var names []string
	for _, st := range z.Steered {
		names = append(names, st.Name)
	}
	if got := strings.Join(names, " "); got != "w l g f m p" {
		t.Errorf("steered: %s", got)
	}
	if len(z.Aliases) != 1 || z.Aliases[0].Name != "@" || !strings.HasPrefix(string(z.Aliases[0].Target), "dualstack.") {
		t.Errorf("aliases: %+v", z.Aliases)
	}
	if text := string(r.Zones[z.File]); !strings.Contains(text, "*.example.com. 60 IN TXT \"any\"") || !strings.Contains(text, "plain.example.com. 60 IN A 192.0.2.2") {
		t.Errorf("zone:\n%s", text)
	}
	if s := service(t, r, "w-example-com"); s.Steering.Weights["blue"] != 9 || s.Steering.Weights["green"] != 1 {
		t.Errorf("w: %+v", s.Steering)
	}
	if s := service(t, r, "l-example-com"); s.Steering.Policy != fleet.Latency || s.Steering.Regions[0] != "us-east-1" {
		t.Errorf("l: %+v", s.Steering)
	}
	g := service(t, r, "g-example-com")
	if len(g.Steering.Geo) != 4 || g.Steering.Geo[0].Subdivisions[0] != "US-CA" || g.Steering.Geo[1].Countries[0] != "DE" || len(g.Steering.Geo[3].Continents) != 7 || g.Steering.Groups[0].Weights["blue"] != 9 {
		t.Errorf("g: %+v", g.Steering)
	}
	if s := service(t, r, "f-example-com"); s.Steering.Policy != fleet.Failover || s.Steering.Regions[0] != "a" {
		t.Errorf("f: %+v", s.Steering)
	}
	if s := service(t, r, "m-example-com"); s.Steering.Policy != fleet.All {
		t.Errorf("m: %+v", s.Steering)
	}
	noted(t, r, "hc-1", "healthcheck")
	noted(t, r, "bias 10", "kilometres")
	noted(t, r, "c.example.com. CNAME", "left out")
	noted(t, r, "loop.example.com.", "deep")
	for _, bad := range []string{"", "{}", "[1]", `{"ResourceRecordSets": [{"Name": "..", "Type": "SOA"}]}`} {
		if _, err := Route53([]byte(bad)); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

// readable asks that what is written of a Spec says the same when it is read.
func readable(t *testing.T, s *Spec) {
	t.Helper()
	doc, err := s.Document()
	if err != nil {
		t.Fatal(err)
	}
	var read any
	if err := yaml.Unmarshal(doc, &read); err != nil {
		t.Fatalf("%v\n%s", err, doc)
	}
	b, err := json.Marshal(read)
	if err != nil {
		t.Fatalf("%v\n%s", err, doc)
	}
	var back Spec
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatalf("%v\n%s", err, doc)
	}
	if again, err := back.Document(); err != nil || string(again) != string(doc) {
		t.Fatalf("%v\n%s\nis read as\n%s", err, doc, again)
	}
}

func FuzzNamed(f *testing.F) {
	f.Add([]byte(namedConf))
	f.Add([]byte("zone \"a\" { type slave; masters { 1.2.3.4 port 0; }; };"))
	f.Fuzz(func(t *testing.T, config []byte) {
		if len(config) > 16<<10 {
			return
		}
		if r, err := Named(config, from(namedFiles)); err == nil {
			readable(t, &r.Spec)
		}
	})
}

func FuzzPowerDNS(f *testing.F) {
	f.Add([]byte(luaZone))
	f.Add([]byte("a LUA A \";if country('x') then return {'1.2.3.4'} end\""))
	f.Fuzz(func(t *testing.T, zone []byte) {
		if len(zone) > 16<<10 || strings.Contains(strings.ToUpper(string(zone)), "GENERATE") {
			return
		}
		r := PowerDNS(map[string][]byte{"example.com.zone": zone})
		readable(t, &r.Spec)
	})
}

func FuzzRoute53(f *testing.F) {
	f.Add([]byte(r53JSON))
	f.Fuzz(func(t *testing.T, text []byte) {
		if len(text) > 16<<10 || strings.Contains(strings.ToUpper(string(text)), "GENERATE") {
			return
		}
		if r, err := Route53(text); err == nil {
			readable(t, &r.Spec)
		}
	})
}
