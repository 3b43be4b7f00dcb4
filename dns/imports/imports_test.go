package imports

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"meridian/fleet"
	"meridian/rules"
)

// compiles says whether a fragment is part of a Spec that compiles and whose
// zones load, with everything that it names.
func compiles(t *testing.T, r *Result) *fleet.World {
	t.Helper()
	whole := *r
	whole.Complete()
	doc, err := whole.Spec.Document()
	if err != nil {
		t.Fatal(err)
	}
	s, err := rules.Compile(doc, 0)
	if err != nil {
		t.Fatalf("%v", err)
	}
	var objects []fleet.Object
	for _, z := range r.Spec.Zones {
		if z.File != "" {
			objects = append(objects, fleet.Object{Key: fleet.ObjectKey{Kind: fleet.ObjectZone, ID: string(z.Zone)}, Data: r.Zones[z.File], File: z.File})
		}
	}
	for _, k := range r.Spec.keys() {
		objects = append(objects, fleet.Object{Key: fleet.ObjectKey{Kind: fleet.ObjectSecret, ID: string(k.Secret)}, Data: r.Secrets[strings.TrimPrefix(string(k.Secret), "file:")]})
	}
	w, err := rules.World(s, objects, nil)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return w
}

func (s *Spec) keys() []fleet.TSIGKey {
	if s.DNS == nil {
		return nil
	}
	return s.DNS.Keys
}

// noted says whether a note holds all words.
func noted(t *testing.T, r *Result, words ...string) {
	t.Helper()
	for _, n := range r.Notes {
		all := true
		for _, w := range words {
			all = all && strings.Contains(n.String(), w)
		}
		if all {
			return
		}
	}
	t.Errorf("no note on %q among:\n%s", words, notes(r))
}

func notes(r *Result) string {
	var b strings.Builder
	for _, n := range r.Notes {
		fmt.Fprintln(&b, n)
	}
	return b.String()
}

func none(name string) ([]byte, error) { return nil, fmt.Errorf("open %s: %w", name, os.ErrNotExist) }

func service(t *testing.T, r *Result, name string) fleet.Service {
	t.Helper()
	for _, s := range r.Spec.Services {
		if s.Service == name {
			return s
		}
	}
	t.Fatalf("no service %s", name)
	return fleet.Service{}
}

const gdnsdConfig = `
# as in the manual
options => { listen => [ 192.0.2.53, "[2001:db8::53]:53" ] }
service_types => {
  web => { plugin => http_status, port => 8080, url_path => /check, interval => 5, timeout => 2, up_thresh => 3 }
  mail => { plugin => tcp_connect, port => 25 }
  odd => { plugin => extmon }
}
plugins => {
  simplefo => { service_types => web, pair => { addrs_v4 => { primary => 192.0.2.1, secondary => 192.0.2.2 }, addrs_v6 => { primary => 2001:db8::1, secondary => 2001:db8::2 } } }
  multifo => { all => { service_types => [mail], up_thresh => 0.2, a => 192.0.2.3, b => 192.0.2.4 }, short => [ 192.0.2.5, 192.0.2.6 ] }
  weighted => { mix => { service_types => web, lb1 => [ 192.0.2.7, 99 ], lb2 => [ 192.0.2.8, 1 ] },
    names => { a => [ lb.other.example., 9 ] } }
  geoip => {
    maps => {
      world => { datacenters => [eu, us], map => { EU => { DE => [eu, us], default => [eu] }, NA => { US => { CA => [us] }, default => [us, eu] }, default => [us, eu] }, nets => { 10.0.0.0/8 => eu, 2001:db8:a::/48 => [us] } }
      auto => { geoip2_db => x.mmdb, datacenters => [eu, us], auto_dc_coords => { eu => [50.1, 8.7], us => [38.9, -77] } }
    }
    resources => {
      www => { map => world, service_types => web, dcmap => { eu => { a => 192.0.2.10, b => 192.0.2.11 }, us => 192.0.2.20 } }
      near => { map => auto, service_types => web, dcmap => { eu => %simplefo!pair, us => 192.0.2.30 } }
      cname => { map => auto, dcmap => { eu => lb.other.example., us => 192.0.2.31 } }
    }
  }
  metafo => { resources => { order => { datacenters => [one, two], dcmap => { one => %weighted!mix, two => 192.0.2.40 } } } }
}
`

const gdnsdZone = `$TTL 300
@ SOA ns1 admin 1 7200 1800 259200 900
@ NS ns1
ns1 A 192.0.2.53
@ 60 DYNA geoip!www
near 60/10 DYNA geoip!near
pair DYNA simplefo!pair
     TXT "kept, with its owner"
all IN 30 DYNA multifo!all
mix 30 DYNA weighted!mix
names 30 DYNC weighted!names
order DYNA metafo!order
eu DYNA geoip!www/eu
odd DYNA extfile!x
gone DYNA multifo!nothing
`

func TestGdnsd(t *testing.T) {
	r, err := GDNSD([]byte(gdnsdConfig), map[string][]byte{"example.com": []byte(gdnsdZone)}, none)
	if err != nil {
		t.Fatal(err)
	}
	w := compiles(t, r)
	z := w.Snapshot.Spec.Zones[0]
	var names []string
	for _, st := range z.Steered {
		names = append(names, st.Name+"="+st.Service)
	}
	if got := strings.Join(names, " "); got != "@=www near=near pair=pair all=all mix=mix order=order eu=www-eu" {
		t.Errorf("steered: %s", got)
	}
	if text := string(r.Zones[z.File]); strings.Contains(text, "DYN") || !strings.Contains(text, "pair.example.com.     TXT") {
		t.Errorf("the zone's rest:\n%s", text)
	}
	www := service(t, r, "www")
	if www.Steering.Policy != fleet.Subnet || len(www.Steering.Subnets) != 3 || www.Healthcheck.Path != "/check" || www.Ports[0] != 8080 {
		t.Errorf("www: %+v", www.Steering)
	}
	var places *fleet.Group
	for i, g := range www.Steering.Groups {
		if g.Policy == fleet.Geo {
			places = &www.Steering.Groups[i]
		}
	}
	if places == nil || places.Geo[0].Subdivisions[0] != "US-CA" || places.Geo[1].Countries[0] != "DE" || len(places.Geo) != 5 {
		t.Errorf("places: %+v", places)
	}
	if near := service(t, r, "near"); near.Steering.Policy != fleet.Proximity || near.Steering.Groups[0].Policy != fleet.Failover {
		t.Errorf("near: %+v", near.Steering)
	}
	if mix := service(t, r, "mix"); mix.Steering.Weights["mix-lb1"] != 99 || mix.Steering.MinHealthy != .5 {
		t.Errorf("mix: %+v", mix.Steering)
	}
	pair := service(t, r, "pair")
	if pair.Steering.Policy != fleet.Failover || len(pair.Steering.Regions) != 2 {
		t.Errorf("pair: %+v", pair.Steering)
	}
	for _, region := range r.Spec.Regions {
		if region.ID == pair.Steering.Regions[0] && (region.VIPs.V4[0].String() != "192.0.2.1" || region.VIPs.V6[0].String() != "2001:db8::1" || region.Location.Latitude != 50.1) {
			t.Errorf("its first: %+v", region)
		}
	}
	noted(t, r, "options.listen", "by hand")
	noted(t, r, "example.com:6", "TTL 60/10")
	noted(t, r, "names.example.com.", "left out")
	noted(t, r, "lb.other.example.", "not an address")
	noted(t, r, "extfile", "no such plugin")
	noted(t, r, "multifo!nothing", "no such resource")
	noted(t, r, "up_thresh 3", "healthcheck.rise")
}

func TestGdnsdSyntaxErrorsTellTheLine(t *testing.T) {
	for text, want := range map[string]string{
		"a => {\nb => c\n":           "config:3: a brace is not closed",
		"a\nb":                       "config:2: expected = or =>",
		"a => [1, 2":                 "a bracket is not closed",
		"a => \"x":                   "a quote is not closed",
		"a => 1\na => 2":             "config:2: \"a\" is given twice",
		"}":                          "a brace too many",
		"a => {$include{other}}":     "open other",
		strings.Repeat("a => {", 99): "nested more than",
	} {
		if _, err := GDNSD([]byte(text), nil, none); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func FuzzGDNSD(f *testing.F) {
	f.Add([]byte(gdnsdConfig), []byte(gdnsdZone))
	f.Add([]byte("plugins => { metafo => { resources => { a => { datacenters => [x], dcmap => { x => %metafo!a } } } } }"), []byte("@ DYNA metafo!a\n"))
	f.Fuzz(func(t *testing.T, config, zone []byte) {
		if len(config)+len(zone) > 16<<10 {
			return
		}
		r, err := GDNSD(config, map[string][]byte{"example.com": zone}, none)
		if err != nil {
			return
		}
		readable(t, &r.Spec)
	})
}
