package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"meridian/edge/l7"
	"meridian/edge/l7/why"
	"meridian/fleet"
	"meridian/health"
	"meridian/identity"
	"meridian/probe"
	"meridian/rules"
)

// whyRig is a gateway, a nameserver that names it, and the fleet's key.
type whyRig struct {
	t              *testing.T
	gateway        string // ADDRESS:PORT
	resolver, keys string
}

func newWhyRig(t *testing.T) *whyRig {
	r := &whyRig{t: t, keys: filepath.Join(t.TempDir(), "fleet.key")}
	key := identity.Key{1, 2, 3}
	if err := os.WriteFile(r.keys, key.Encode(), 0o600); err != nil {
		t.Fatal(err)
	}
	id, err := identity.New(key)
	if err != nil {
		t.Fatal(err)
	}
	end := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello") }))
	t.Cleanup(end.Close)
	r.serve(id, end.Listener.Addr().String())
	r.name()
	return r
}

// serve runs a gateway for www.demo.test.
func (r *whyRig) serve(id *identity.Identity, end string) {
	snap, err := rules.Compile([]byte(`
regions: [{id: fra, location: {latitude: 50, longitude: 8}, vips: {v4: [192.0.2.1]}}]
nodes: [{name: n1, region: fra, roles: [l7], addresses: {v4: 10.0.0.1}}]
services: [{service: web, protocol: http, ports: [80], hosts: [www.demo.test], pools: [{id: main, endpoints: [{address: "`+end+`"}]}]}]
`), 7)
	if err != nil {
		r.t.Fatal(err)
	}
	logger := slog.New(slog.DiscardHandler)
	h, err := health.New(health.Config{Node: "n1", Region: "fra", Roles: []fleet.Role{fleet.RoleL7}, Logger: logger})
	if err != nil {
		r.t.Fatal(err)
	}
	g, err := l7.New(l7.Config{Node: "n1", Region: "fra", Health: h, Prober: probe.New(probe.Config{}), Logger: logger, Grace: time.Millisecond, WhyKey: id.WhyKey(),
		Listen: func(ctx context.Context, _, _ string) (net.Listener, error) {
			l, err := new(net.ListenConfig).Listen(ctx, "tcp4", "127.0.0.1:0")
			if err == nil {
				r.gateway = l.Addr().String()
			}
			return l, err
		}})
	if err != nil {
		r.t.Fatal(err)
	}
	if err := g.Apply(&fleet.World{Snapshot: snap}); err != nil {
		r.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	r.t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			r.t.Error(err)
		}
	})
}

// name runs a nameserver that has www.demo.test at the gateway.
func (r *whyRig) name() {
	pc, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		r.t.Fatal(err)
	}
	r.resolver = pc.LocalAddr().String()
	s := &dns.Server{PacketConn: pc, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		a := new(dns.Msg)
		a.SetReply(q)
		switch {
		case q.Question[0].Name != "www.demo.test.":
			a.Rcode = dns.RcodeNameError
		case q.Question[0].Qtype == dns.TypeA:
			rr, _ := dns.NewRR("www.demo.test. 20 IN A 127.0.0.1")
			a.Answer = append(a.Answer, rr)
		}
		if opt := q.IsEdns0(); opt != nil {
			for _, o := range opt.Option {
				if sub, ok := o.(*dns.EDNS0_SUBNET); ok {
					a.SetEdns0(1232, false)
					sub.SourceScope = 21
					a.IsEdns0().Option = append(a.IsEdns0().Option, sub)
				}
			}
		}
		w.WriteMsg(a)
	})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.ActivateAndServe()
	}()
	r.t.Cleanup(func() { pc.Close(); <-done })
}

func (r *whyRig) url(host string) string {
	return "http://" + host + ":" + r.gateway[strings.LastIndexByte(r.gateway, ':')+1:] + "/page"
}

// tell runs a journey as edge why does.
func (r *whyRig) tell(f *whyFlags, url string) (*story, error) {
	r.t.Helper()
	f.valid, f.method = time.Minute, "GET"
	j, err := f.journey(url)
	if err != nil {
		r.t.Fatal(err)
	}
	if j.token, err = f.tokenFor(j.host); err != nil {
		r.t.Fatal(err)
	}
	err = j.run(context.Background())
	return &j.story, err
}

// What edge why tells is the way that the request has taken: from the name,
// over the address, to the endpoint.
func TestWhyTellsTheWay(t *testing.T) {
	r := newWhyRig(t)
	explained := make(chan string, 1)
	admin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		explained <- q.Header.Get("Authorization") + " " + q.URL.RequestURI()
		io.WriteString(w, `{"name": "www.demo.test", "type": "A", "rcode": "NOERROR", "answer": ["www.demo.test. 20 IN A 127.0.0.1"], "decision": {"service": "web", "policy": "geo", "regions": ["fra"]}}`)
	}))
	defer admin.Close()
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("secret-of-the-admin-api-0123456789\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := r.tell(&whyFlags{fleetKey: r.keys, resolver: r.resolver, client: "203.0.113.0/24", admin: admin.URL, adminToken: token}, r.url("www.demo.test"))
	if err != nil {
		t.Fatal(err)
	}
	if s.DNS.TTL != 20 || *s.DNS.Scope != 21 || len(s.DNS.Addresses) != 1 || s.DNS.Resolver != r.resolver {
		t.Errorf("%+v", s.DNS)
	}
	if s.Address != netip.MustParseAddrPort(r.gateway) || s.Status != 200 || s.Report.Node != "n1" || s.Report.Revision != 7 || len(s.Report.Tries) != 1 || s.Steered == nil {
		t.Errorf("%+v %v", s, s.Trouble)
	}
	if got := <-explained; !strings.HasPrefix(got, "Bearer secret-of-the-admin-api-0123456789 /explain?") || !strings.Contains(got, "client=203.0.113.0%2F24") {
		t.Errorf("the admin API was asked %s", got)
	}
	var text bytes.Buffer
	showStory(&text, s)
	for _, want := range []string{"resolver   " + r.resolver, "www.demo.test. 20 IN A 127.0.0.1", "VIP        " + r.gateway, "gateway    n1 in region fra, revision 7",
		"host www.demo.test: service web, pool main", "chosen", "0 (services[0].routes[0]): path /…", "filter     limits: within",
		"try 1      " + s.Report.Tries[0].Endpoint, "timers     waited", "answer     200 by HTTP/1.1", "hops       client to VIP: connected in", ", round trip ", "layer 4 to gateway: not measured", "gateway to endpoint: connection"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("no %q in\n%s", want, &text)
		}
	}
	b, err := json.Marshal(s)
	var back story
	if err != nil || json.Unmarshal(b, &back) != nil || back.Report.Pool != "main" || back.Steered.Decision.Regions[0] != "fra" {
		t.Errorf("%s: %v", b, err)
	}
}

// What another region's gateway told stands below the try there, and a client told of
// by a proxy beside the proxy.
func TestWhyShowsTheNextRegion(t *testing.T) {
	var b bytes.Buffer
	showStory(&b, &story{Report: &why.Report{Node: "n1", Region: "fra", Service: "web", Client: netip.MustParseAddr("203.0.113.7"), Peer: netip.MustParseAddrPort("10.0.0.9:4711"), Arrival: 21,
		Route: &why.Route{Passed: []why.Other{{Name: "beta", Why: "header x-beta is 1"}}},
		Slot:  &why.Slot{Service: "web", Ring: "r", Slot: 7, Slots: 65537, Owner: "gw1", GoesTo: "gw2", Reason: "its record says so"},
		Tries: []why.Try{{Endpoint: "192.0.2.2:80", Region: "nyc", Outcome: "answered", Status: 200,
			Gateway: &why.Report{Node: "n2", Region: "nyc", Service: "web", Tries: []why.Try{
				{Endpoint: "10.1.0.2:80", Outcome: "the endpoint cannot be reached", Connect: 70}, {Endpoint: "10.1.0.1:80", Outcome: "answered", Status: 200, Connect: 80, Answer: 90}}}}}}})
	for _, want := range []string{"from 203.0.113.7 by 10.0.0.9:4711", "not beta: header x-beta is 1", "no route takes the request", "layer 4 to gateway: 21µs",
		"slot 7 of 65537 of ring r", "the slot is gw1's, the flow goes to gw2",
		"try 1      gateways of region nyc at 192.0.2.2:80 after", "             gateway    n2 in region nyc", "try 1      10.1.0.2:80 after 0s: the endpoint cannot be reached, no connection for 70µs\n",
		"             try 2      10.1.0.1:80 after 0s: answered 200, new connection 80µs, answer 90µs"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, &b)
		}
	}
}

func TestWhySaysWhereTheWayEnds(t *testing.T) {
	r := newWhyRig(t)
	for name, tc := range map[string]struct {
		flags whyFlags
		host  string
		want  string
	}{
		"no such name":      {whyFlags{fleetKey: r.keys, resolver: r.resolver}, "other.test", "NXDOMAIN"},
		"a stranger":        {whyFlags{token: "v1.1.x", resolver: r.resolver}, "www.demo.test", "gives no report"},
		"nobody there":      {whyFlags{fleetKey: r.keys, connect: "127.0.0.1:1"}, "www.demo.test", "refused"},
		"no resolver":       {whyFlags{fleetKey: r.keys, resolver: "127.0.0.1:1"}, "www.demo.test", "resolver 127.0.0.1:1"},
		"a resolver's name": {whyFlags{fleetKey: r.keys, resolver: "ns"}, "www.demo.test", "--resolver"},
	} {
		if _, err := r.tell(&tc.flags, r.url(tc.host)); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
	// --connect needs no name, and the gateway says that it has no such host.
	s, err := r.tell(&whyFlags{fleetKey: r.keys, connect: r.gateway}, "http://other.test/")
	if err != nil || s.Status != 404 || s.Report.Flag != "NR" {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestWhyRefusesWrongCalls(t *testing.T) {
	for want, args := range map[string][]string{
		"no http or https URL":     {"ftp://x/", "--token", "t"},
		"--fleet-key or --token":   {"http://x/"},
		"--valid":                  {"http://x/", "--token", "t", "--valid", "3h"},
		"--admin and --token-file": {"http://x/", "--token", "t", "--admin", "http://y"},
		"--client":                 {"http://x/", "--token", "t", "--client", "z"},
	} {
		f := whyFlags{valid: time.Minute}
		for i := 1; i+1 < len(args); i += 2 {
			switch args[i] {
			case "--token":
				f.token = args[i+1]
			case "--admin":
				f.admin = args[i+1]
			case "--client":
				f.client = args[i+1]
			case "--valid":
				f.valid, _ = time.ParseDuration(args[i+1])
			}
		}
		if _, err := f.journey(args[0]); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", args, err)
		}
	}
}

// A server that is none of ours cannot write to the terminal what it likes.
func TestWhatStrangersSayIsHarmless(t *testing.T) {
	var b bytes.Buffer
	showStory(&b, &story{Report: &why.Report{Node: "\x1b[2J\u202e\r"}})
	if strings.ContainsAny(b.String(), "\x1b\r\u202e") {
		t.Errorf("%q", b.String())
	}
}
