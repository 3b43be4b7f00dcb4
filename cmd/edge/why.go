package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"time"

	"meridian/cli"
	"meridian/controlplane/api"
	dnsanswer "meridian/dns/answer"
	"meridian/edge/l7/route"
	"meridian/edge/l7/why"
)

// whyFlags are those of edge why.
type whyFlags struct {
	fleetKey, token           string
	resolver, client, connect string
	admin, adminToken         string
	method, ca                string
	valid                     time.Duration
	insecure, mint, json      bool
}

func (f *whyFlags) register(fs *flag.FlagSet) {
	fs.StringVar(&f.fleetKey, "fleet-key", "", "`FILE` of the fleet's key, by which gateways believe that the caller may know")
	fs.StringVar(&f.token, "token", "", "a `TOKEN` that --mint printed, in place of --fleet-key")
	fs.BoolVar(&f.mint, "mint", false, "only print a token for the URL's host: for the field X-Edge-Why of another client, or --token elsewhere")
	fs.DurationVar(&f.valid, "valid", time.Minute, "how long the token is good, at most 1h")
	fs.StringVar(&f.resolver, "resolver", "", "`ADDRESS[:PORT]` of the resolver or nameserver to ask (default the system's)")
	fs.StringVar(&f.client, "client", "", "ask as if for the client `ADDRESS` or prefix: sent to the resolver (RFC 7871), and explained by --admin")
	fs.StringVar(&f.connect, "connect", "", "send the request to `ADDRESS[:PORT]`, whatever DNS says")
	fs.StringVar(&f.admin, "admin", "", "`URL` of a nameserver's admin API, which says why DNS answers as it does")
	fs.StringVar(&f.adminToken, "token-file", "", "`FILE` with the token of that API")
	fs.StringVar(&f.method, "method", http.MethodGet, "`METHOD` of the request")
	fs.StringVar(&f.ca, "cacert", "", "`FILE` of the authorities to trust, PEM (default the system's)")
	fs.BoolVar(&f.insecure, "insecure", false, "do not verify the server's certificate: its report may be another's")
	fs.BoolVar(&f.json, "json", false, "print JSON")
}

func runWhy(ctx context.Context, args []string) error {
	fs := cli.Flags("edge why URL --fleet-key FILE [--resolver ADDRESS] [--admin URL --token-file FILE] [flags]",
		"edge why https://www.example.com/ --fleet-key /etc/meridian/fleet.key --resolver 192.0.2.53")
	var f whyFlags
	f.register(fs)
	rest, err := cli.Parse(fs, args)
	if err != nil {
		return err
	}
	if len(rest) != 1 {
		return cli.Usagef(fs, "edge why: expected a URL")
	}
	j, err := f.journey(rest[0])
	if err != nil {
		return cli.Usagef(fs, "edge why: %v", err)
	}
	if j.token, err = f.tokenFor(j.host); err != nil {
		return err
	}
	if f.mint {
		fmt.Println(j.token)
		return nil
	}
	trouble := j.run(ctx)
	if err := show(f.json, &j.story, func(w io.Writer) { showStory(w, &j.story) }); err != nil {
		return err
	}
	return trouble
}

// journey is one request, followed from its name to its answer.
type journey struct {
	flags  *whyFlags
	url    *url.URL
	host   string // as gateways know it
	token  string
	client netip.Prefix // invalid: whoever asks
	story  story
}

// story is what came to be known of a journey.
type story struct {
	URL     string                 `json:"url"`
	DNS     *resolution            `json:"dns,omitempty"`
	Steered *dnsanswer.Explanation `json:"steering,omitempty"` // by --admin
	Address netip.AddrPort         `json:"address,omitzero"`
	Status  int                    `json:"status,omitempty"`
	Proto   string                 `json:"proto,omitempty"`
	Timings timings                `json:"timings"`
	Report  *why.Report            `json:"gateway,omitempty"`
	Trouble []string               `json:"trouble,omitempty"`
}

// timings are those of this machine, in microseconds.
type timings struct {
	DNS     int64 `json:"dns_us"`
	Connect int64 `json:"connect_us"`
	TLS     int64 `json:"tls_us"`
	Answer  int64 `json:"answer_us"` // from the connection to the first octet
	Body    int64 `json:"body_us"`
}

// journey checks what was given.
func (f *whyFlags) journey(raw string) (*journey, error) {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("%q is no http or https URL", raw)
	}
	u.User, u.Fragment = nil, ""
	j := &journey{flags: f, url: u, story: story{URL: u.String()}}
	if j.host, err = route.Host(u.Host); err != nil {
		return nil, fmt.Errorf("%q: %w", u.Host, err)
	}
	if f.client != "" {
		if j.client, err = netip.ParsePrefix(f.client); err != nil {
			a, err := netip.ParseAddr(f.client)
			if err != nil {
				return nil, fmt.Errorf("--client: %q is not an address or prefix", f.client)
			}
			j.client = netip.PrefixFrom(a, a.BitLen())
		}
	}
	switch {
	case (f.fleetKey == "") == (f.token == ""):
		return nil, errors.New("--fleet-key or --token is needed")
	case f.valid < time.Second || f.valid > why.Longest:
		return nil, fmt.Errorf("--valid: expected 1s to %s", why.Longest)
	case (f.admin == "") != (f.adminToken == ""):
		return nil, errors.New("--admin and --token-file go together")
	}
	return j, nil
}

func (f *whyFlags) tokenFor(host string) (string, error) {
	if f.token != "" {
		return f.token, nil
	}
	id, err := fleetOf(f.fleetKey)
	if err != nil {
		return "", err
	}
	return why.Token(id.WhyKey(), host, time.Now().Add(f.valid)), nil
}

// run goes all the way that it can. What it learnt is told even where it gives
// an error.
func (j *journey) run(ctx context.Context) error {
	to, err := j.addresses(ctx)
	if err != nil {
		j.explainDNS(ctx)
		return err
	}
	err = j.request(ctx, to)
	j.explainDNS(ctx)
	return err
}

// addresses gives where to connect, the best first.
func (j *journey) addresses(ctx context.Context) ([]netip.AddrPort, error) {
	port := uint16(80)
	if j.url.Scheme == "https" {
		port = 443
	}
	if p := j.url.Port(); p != "" {
		n, err := net.LookupPort("tcp", p)
		if err != nil {
			return nil, err
		}
		port = uint16(n)
	}
	for _, text := range []string{j.flags.connect, j.url.Hostname()} {
		if ap, err := withPort(text, port); err == nil {
			return []netip.AddrPort{ap}, nil
		}
		if text == j.flags.connect && text != "" {
			return nil, fmt.Errorf("--connect: %q is not ADDRESS or ADDRESS:PORT", text)
		}
	}
	r, err := resolve4and6(ctx, j.host, j.flags.resolver, j.client)
	j.story.DNS, j.story.Timings.DNS = r, r.Took
	if err != nil {
		return nil, err
	}
	var out []netip.AddrPort
	for _, a := range r.Addresses {
		out = append(out, netip.AddrPortFrom(a, port))
	}
	return out, nil
}

func withPort(s string, port uint16) (netip.AddrPort, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		return netip.AddrPortFrom(a, port), nil
	}
	return netip.ParseAddrPort(s)
}

// explainDNS asks the nameserver why it answers as it does, for the client that
// the gateway has seen, unless another was named.
func (j *journey) explainDNS(ctx context.Context) {
	if j.flags.admin == "" {
		return
	}
	client := j.client
	if !client.IsValid() && j.story.Report != nil {
		a := j.story.Report.Client
		client = netip.PrefixFrom(a, a.BitLen())
	}
	if !client.IsValid() {
		j.story.Trouble = append(j.story.Trouble, "steering: the client's address is not known; give it with --client")
		return
	}
	token, err := api.LoadToken(j.flags.adminToken)
	if err == nil {
		c := api.Client{URL: j.flags.admin, Token: token, HTTP: &http.Client{Timeout: whyLimit}}
		kind := "A"
		if j.story.Address.Addr().Is6() {
			kind = "AAAA"
		}
		ask := url.Values{"name": {j.host}, "type": {kind}, "client": {client.String()}}
		var e dnsanswer.Explanation
		if err = c.Do(ctx, http.MethodGet, "/explain?"+ask.Encode(), nil, &e); err == nil {
			j.story.Steered = &e
			return
		}
	}
	j.story.Trouble = append(j.story.Trouble, "steering: "+err.Error())
}

// whyLimit bounds each step.
const whyLimit = 15 * time.Second

// authorities reads --cacert.
func (f *whyFlags) authorities() ([]byte, error) {
	if f.ca == "" {
		return nil, nil
	}
	return os.ReadFile(f.ca)
}
