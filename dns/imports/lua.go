package imports

import (
	"cmp"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"meridian/fleet"
)

// lua turns PowerDNS' Lua records of one zone into steered names: those of type
// A, joined with those of type AAAA at the same name.
func lua(r *Result, s *steering, file string, z *fleet.Zone, found []dynamic) {
	type tree struct {
		at   string
		root *pick
		c    check
	}
	trees := map[fleet.Name]*tree{}
	var order []fleet.Name
	ttl := map[fleet.Name]string{}
	for _, d := range found {
		at := where(file, d.line)
		rtype, text, _ := strings.Cut(d.data, " ")
		text = unquote(text)
		what := fmt.Sprintf("%s LUA %s %s", d.owner, rtype, text)
		if rtype != "A" && rtype != "AAAA" || !d.owner.In(z.Zone) {
			r.note(at, what, "Lua records of type %s have no counterpart; it is left out", rtype)
			continue
		}
		v, err := parseLua(text)
		if err != nil {
			r.note(at, what, "%s; it is left out", err)
			continue
		}
		l := luaRecord{r: r, at: at, label: strings.TrimSuffix(string(d.owner), ".")}
		root, err := l.pick(v)
		if err != nil {
			r.note(at, what, "%s; it is left out", err)
			continue
		}
		ttl[d.owner] = d.ttl
		if have := trees[d.owner]; have == nil {
			trees[d.owner] = &tree{at, root, l.check}
			order = append(order, d.owner)
		} else if !have.root.merge(root) {
			r.note(at, what, "is chosen in another way than the other family's addresses at this name; it is left out")
		}
	}
	for _, owner := range order {
		t := trees[owner]
		host := strings.TrimSuffix(string(owner), ".")
		svc := s.service(t.at, host, []string{host}, t.root, t.c)
		if svc == "" {
			continue
		}
		st := fleet.Steered{Name: relative(owner, z.Zone), Service: svc}
		if d, ok := seconds(ttl[owner]); ok && ttl[owner] != "" {
			st.TTL = fleet.Duration(d)
		}
		z.Steered = append(z.Steered, st)
	}
}

// unquote joins the strings of a record's data.
func unquote(s string) string {
	var b strings.Builder
	quoted := false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\' && i+1 < len(s):
			i++
			b.WriteByte(s[i])
		case c == '"':
			quoted = !quoted
		case quoted || c != ' ':
			b.WriteByte(c)
		}
	}
	return b.String()
}

// luaRecord is one record that is being read.
type luaRecord struct {
	r     *Result
	at    string
	label string
	check check
	n     int
}

func (l *luaRecord) leaf(addr string) (*pick, error) {
	a, err := netip.ParseAddr(addr)
	if err != nil {
		return nil, fmt.Errorf("%q is not an address", addr)
	}
	p := &pick{label: a.String()}
	if a.Unmap().Is4() {
		p.v4 = []netip.Addr{a.Unmap()}
	} else {
		p.v6 = []netip.Addr{a}
	}
	return p, nil
}

// choice makes a pick among addresses by PowerDNS' selector.
func (l *luaRecord) choice(selector string, addrs []string) (*pick, error) {
	l.n++
	p := &pick{label: fmt.Sprintf("%s-%d", l.label, l.n)}
	for _, a := range addrs {
		q, err := l.leaf(a)
		if err != nil {
			return nil, err
		}
		p.of = append(p.of, q)
	}
	if len(p.of) == 0 {
		return nil, fmt.Errorf("names no address")
	}
	switch selector {
	case "all":
		p.policy, p.records = fleet.All, 8
	case "pickclosest":
		p.policy = fleet.Proximity
	case "random", "pickrandom", "hashed", "pickhashed", "":
		p.policy = fleet.Weighted
		for range p.of {
			p.weights = append(p.weights, 100)
		}
	case "empty":
		p.policy = fleet.Failover
	default:
		return nil, fmt.Errorf("selector %s has no counterpart", selector)
	}
	return p, nil
}

func (l *luaRecord) pick(v any) (*pick, error) {
	switch v := v.(type) {
	case string:
		return l.leaf(v)
	case luaTable:
		addrs, ok := luaStrings(v)
		if !ok {
			return nil, errLua
		}
		return l.choice("all", addrs)
	case luaIf:
		return l.branches(v)
	case luaCall:
		return l.call(v)
	}
	return nil, errLua
}

func (l *luaRecord) call(c luaCall) (*pick, error) {
	arg := func(i int) any {
		if i < len(c.args) {
			return c.args[i]
		}
		return luaTable{}
	}
	switch c.name {
	case "ifportup":
		text, _ := arg(0).(string)
		port, err := strconv.ParseUint(text, 10, 16)
		if err != nil {
			return nil, errLua
		}
		l.check = check{kind: fleet.CheckTCP, port: uint16(port)}
		return l.checked(arg(1), arg(2))
	case "ifurlup":
		text, _ := arg(0).(string)
		if !l.urlCheck(text) {
			return nil, errLua
		}
		return l.checked(arg(1), arg(2))
	case "pickrandom", "pickhashed", "picknamehashed", "pickclosest", "all":
		addrs, ok := luaStrings(arg(0))
		if !ok {
			return nil, errLua
		}
		if c.name == "picknamehashed" {
			l.r.note(l.at, c.name, "the choice is by client, not by name")
			c.name = "pickhashed"
		}
		return l.choice(c.name, addrs)
	case "pickrandomsample":
		addrs, ok := luaStrings(arg(1))
		text, _ := arg(0).(string)
		n, err := strconv.Atoi(text)
		if !ok || err != nil {
			return nil, errLua
		}
		p, err := l.choice("pickrandom", addrs)
		if err == nil {
			p.records = min(max(n, 1), 8)
		}
		return p, err
	case "pickwrandom", "pickwhashed":
		return l.weighted(arg(0))
	}
	return nil, fmt.Errorf("%s has no counterpart", c.name)
}

// urlCheck takes the check that ifurlup makes; false where it is of no URL.
func (l *luaRecord) urlCheck(text string) bool {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" {
		return false
	}
	l.check = check{kind: fleet.CheckType(u.Scheme), path: cmp.Or(u.EscapedPath(), "/"), host: u.Hostname()}
	if u.Scheme == "https" {
		l.r.note(l.at, text, "the check is by https: set where its authority is trusted (pools[].tls.ca)")
		l.check.port = 443
	}
	if p, err := strconv.ParseUint(u.Port(), 10, 16); err == nil {
		l.check.port = uint16(p)
	}
	return true
}

// weighted reads {{WEIGHT, ADDRESS}, …}.
func (l *luaRecord) weighted(v any) (*pick, error) {
	t, _ := v.(luaTable)
	l.n++
	p := &pick{label: fmt.Sprintf("%s-%d", l.label, l.n), policy: fleet.Weighted}
	for _, e := range t.list {
		pair, ok := luaStrings(e)
		if !ok || len(pair) != 2 {
			return nil, errLua
		}
		w, err := strconv.Atoi(pair[0])
		if err != nil || w < 0 || w > 1_000_000 {
			return nil, errLua
		}
		q, err := l.leaf(pair[1])
		if err != nil {
			return nil, err
		}
		p.of, p.weights = append(p.of, q), append(p.weights, w)
	}
	if len(p.of) == 0 {
		return nil, errLua
	}
	return p, nil
}

// checked reads the addresses of ifportup and ifurlup: a list, or lists in
// order of preference, and options.
func (l *luaRecord) checked(v, opts any) (*pick, error) {
	selector := ""
	if o, ok := opts.(luaTable); ok {
		for _, key := range ordered(o.named) {
			text, _ := o.named[key].(string)
			switch key {
			case "selector":
				selector = text
			case "interval":
				if n, err := strconv.Atoi(text); err == nil && n > 0 && n <= 3600 {
					l.check.interval = fleet.Duration(time.Duration(n) * time.Second)
				}
			case "timeout":
				if n, err := strconv.Atoi(text); err == nil && n > 0 && n <= 5 {
					l.check.timeout = fleet.Duration(time.Duration(n) * time.Second)
				}
			default:
				l.r.note(l.at, key+" = "+text, "this option has no counterpart")
			}
		}
	}
	if addrs, ok := luaStrings(v); ok {
		return l.choice(selector, addrs)
	}
	t, _ := v.(luaTable)
	l.n++
	p := &pick{label: fmt.Sprintf("%s-%d", l.label, l.n), policy: fleet.Failover}
	for _, e := range t.list {
		addrs, ok := luaStrings(e)
		if !ok {
			return nil, errLua
		}
		q, err := l.choice(selector, addrs)
		if err != nil {
			return nil, err
		}
		p.of = append(p.of, q)
	}
	if len(p.of) == 0 {
		return nil, errLua
	}
	return p, nil
}

// branches reads if country('…') then … else … end.
func (l *luaRecord) branches(f luaIf) (*pick, error) {
	l.n++
	p := &pick{label: fmt.Sprintf("%s-%d", l.label, l.n), policy: fleet.Geo}
	for i, cond := range f.conds {
		q, err := l.pick(f.then[i])
		if err != nil {
			return nil, err
		}
		p.of = append(p.of, q)
		if cond == nil {
			p.geo = append(p.geo, geoRule{GeoRule: fleet.GeoRule{Continents: continents}, to: []int{i}})
			continue
		}
		var args []string
		for _, a := range cond.args {
			s, ok := luaStrings(a)
			if !ok {
				return nil, errLua
			}
			args = append(args, s...)
		}
		rule := geoRule{to: []int{i}}
		switch cond.name {
		case "country", "countryCode":
			rule.Countries = upper(args)
		case "continent", "continentCode":
			rule.Continents = upper(args)
		case "asnum":
			for _, a := range args {
				n, err := strconv.ParseUint(a, 10, 32)
				if err != nil {
					return nil, errLua
				}
				rule.ASNs = append(rule.ASNs, uint32(n))
			}
		case "netmask":
			for _, a := range args {
				pre, err := netip.ParsePrefix(a)
				if err != nil {
					return nil, fmt.Errorf("%q is not a network", a)
				}
				p.subnets = append(p.subnets, netRule{[]netip.Prefix{pre.Masked()}, rule.to})
			}
			continue
		default:
			return nil, fmt.Errorf("condition %s has no counterpart", cond.name)
		}
		if len(args) == 0 {
			return nil, errLua
		}
		p.geo = append(p.geo, rule)
	}
	return p, l.oneKind(p)
}

// oneKind makes conditions on networks alone a policy of its own; those on
// both networks and places cannot be told in one.
func (l *luaRecord) oneKind(p *pick) error {
	if len(p.subnets) == 0 {
		return nil
	}
	var last []int
	for _, g := range p.geo {
		if !slices.Equal(g.Continents, continents) {
			return fmt.Errorf("conditions on networks and places together have no counterpart")
		}
		last = g.to
	}
	p.policy, p.geo = fleet.Subnet, nil
	if last != nil {
		p.subnets = append(p.subnets, netRule{[]netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}, last})
	}
	return nil
}

func upper(list []string) []string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = strings.ToUpper(s)
	}
	return out
}

// PowerDNS reads zone files as pdnsutil list-zone prints them, by zone name,
// with their Lua records.
func PowerDNS(zones map[string][]byte) *Result {
	r := newResult()
	s := newSteering(r)
	for _, file := range ordered(zones) {
		base := strings.TrimSuffix(strings.TrimSuffix(file[strings.LastIndexByte(file, '/')+1:], ".zone"), ".txt")
		name, err := fleet.ParseName(base)
		if err != nil {
			r.note(file, "zone", "its file is not named after it: %s", err)
			continue
		}
		text := zones[file]
		rest, found, err := extract(text, name, "LUA", "ALIAS")
		if err != nil {
			r.note(file, "zone", "is left out: %s", err)
			continue
		}
		z := r.zone(file, fleet.Zone{Zone: name}, rest)
		var scripts []dynamic
		for _, d := range found {
			if d.rtype != "ALIAS" {
				scripts = append(scripts, d)
				continue
			}
			target, err := fleet.Under(strings.TrimSpace(d.data), name)
			if err != nil {
				r.note(where(file, d.line), "ALIAS "+d.data, "%s; it is left out", err)
				continue
			}
			a := fleet.Alias{Name: relative(d.owner, name), Target: target}
			if t, ok := seconds(d.ttl); ok && d.ttl != "" {
				a.TTL = fleet.Duration(min(max(t, time.Second), time.Hour))
			}
			z.Aliases = append(z.Aliases, a)
		}
		lua(r, s, file, z, scripts)
	}
	return r
}
