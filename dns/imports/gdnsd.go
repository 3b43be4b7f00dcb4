package imports

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"meridian/fleet"
)

// GDNSD reads gdnsd's config and zone files: zones is their text by file name
// as in its folder of zones. DYNA names become steered names of services.
func GDNSD(config []byte, zones map[string][]byte, files Files) (*Result, error) {
	top, err := parseVSCF("config", config, files)
	if err != nil {
		return nil, err
	}
	g := &gdnsd{r: newResult(), top: top, services: map[string]string{}}
	g.s = newSteering(g.r)
	for _, key := range top.keys {
		if !slices.Contains([]string{"options", "service_types", "plugins"}, key) {
			g.r.note("config", key, "is not known")
		}
	}
	if o := top.sub("options"); o != nil {
		for _, key := range o.keys {
			g.r.note(at("config", o, key), "options."+key, "has to be set by hand, under dns, where there is a counterpart")
		}
	}
	for _, file := range ordered(zones) {
		if err := g.zone(file, zones[file], files); err != nil {
			g.r.note(file, "zone", "is left out: %s", err)
		}
	}
	return g.r, nil
}

func at(file string, h *hash, key string) string { return fmt.Sprintf("%s:%d", file, h.line[key]) }

type gdnsd struct {
	r        *Result
	s        *steering
	top      *hash
	services map[string]string // resource to service
	depth    int               // of references
	followed int               // references so far
}

func (g *gdnsd) zone(file string, text []byte, files Files) error {
	base := file[strings.LastIndexByte(file, '/')+1:]
	name, err := fleet.ParseName(strings.TrimSuffix(strings.ReplaceAll(base, "@", "/"), ".zone"))
	if base == "ROOT_ZONE" {
		name, err = ".", nil
	}
	if err != nil {
		return err
	}
	if files != nil {
		flat, err := flatten(file, name, func(f string) ([]byte, error) {
			if f == file {
				return text, nil
			}
			return files(f)
		})
		if err != nil {
			return err
		}
		text = flat
	}
	rest, found, err := extract(text, name, "DYNA", "DYNC")
	if err != nil {
		return err
	}
	for i, line := range strings.Split(string(rest), "\n") {
		if strings.HasPrefix(line, "$ADDR_LIMIT") {
			g.r.note(fmt.Sprintf("%s:%d", file, i+1), strings.TrimSpace(line), "has no counterpart: all addresses are answered; for steered names see steering.records")
			rest = []byte(strings.Replace(string(rest), line, "", 1))
		}
	}
	z := g.r.zone(file, fleet.Zone{Zone: name}, rest)
	for _, d := range found {
		where := fmt.Sprintf("%s:%d", file, d.line)
		st, ok := g.steered(where, name, d)
		if !ok {
			continue
		}
		if slices.ContainsFunc(z.Steered, func(s fleet.Steered) bool { return s.Name == st.Name }) {
			g.r.note(where, string(d.owner), "is dynamic twice; the first stays")
			continue
		}
		z.Steered = append(z.Steered, st)
	}
	return nil
}

// steered makes a steered name of a DYNA or DYNC record.
func (g *gdnsd) steered(where string, apex fleet.Name, d dynamic) (st fleet.Steered, ok bool) {
	if !d.owner.In(apex) {
		g.r.note(where, string(d.owner), "is outside of the zone; it is left out")
		return st, false
	}
	svc := g.service(where, strings.Trim(d.data, `"`), strings.TrimSuffix(string(d.owner), "."))
	if svc == "" {
		g.r.note(where, string(d.owner)+" "+d.rtype+" "+d.data, "is left out: the name is not answered")
		return st, false
	}
	st = fleet.Steered{Name: relative(d.owner, apex), Service: svc}
	if sec, _, _ := strings.Cut(d.ttl, "/"); sec != "" {
		n, ok := seconds(sec)
		if !ok {
			g.r.note(where, "TTL "+d.ttl, "is not understood; the default is used")
		}
		st.TTL = fleet.Duration(n)
		if strings.Contains(d.ttl, "/") {
			g.r.note(where, "TTL "+d.ttl, "TTLs do not vary with health: the greater is used")
		}
	}
	return st, true
}

// relative gives a name below a zone as steered names are written.
func relative(n, zone fleet.Name) string {
	switch {
	case n == zone:
		return "@"
	case zone == ".":
		return string(n)
	}
	return strings.TrimSuffix(string(n), "."+string(zone))
}

// seconds reads a TTL in master-file units.
func seconds(s string) (time.Duration, bool) {
	var total, n uint64
	digits := false
	for _, c := range strings.ToLower(s) {
		unit, ok := map[rune]uint64{'s': 1, 'm': 60, 'h': 3600, 'd': 86400, 'w': 604800}[c]
		switch {
		case '0' <= c && c <= '9' && n < 1<<31:
			n, digits = n*10+uint64(c-'0'), true
		case ok && digits:
			total, n, digits = total+n*unit, 0, false
		default:
			return 0, false
		}
		if total > 1<<31 {
			return 0, false
		}
	}
	return time.Duration(total+n) * time.Second, total+n < 1<<31
}

// service gives the service for PLUGIN!RESOURCE, made at its first use; host is
// the name that asks.
func (g *gdnsd) service(where, ref, host string) string {
	if name, ok := g.services[ref]; ok {
		if i := slices.IndexFunc(g.r.Spec.Services, func(s fleet.Service) bool { return s.Service == name }); i >= 0 && g.r.Spec.Services[i].Protocol.Gateway() && !slices.Contains(g.r.Spec.Services[i].Hosts, host) {
			g.r.Spec.Services[i].Hosts = append(g.r.Spec.Services[i].Hosts, host)
		}
		return name
	}
	g.services[ref] = ""
	root, c := g.reference(where, ref)
	if root == nil {
		return ""
	}
	_, res, _ := strings.Cut(ref, "!")
	g.services[ref] = g.s.service(where, res, []string{host}, root, c)
	return g.services[ref]
}

// reference resolves PLUGIN!RESOURCE or PLUGIN!RESOURCE/DATACENTER.
func (g *gdnsd) reference(where, ref string) (*pick, check) {
	plugin, res, ok := strings.Cut(ref, "!")
	res, dc, single := strings.Cut(res, "/")
	conf := g.top.sub("plugins").sub(plugin)
	if g.depth > maxInclude || g.followed >= maxFollowed {
		g.r.note(where, ref, "resources refer to each other without end")
		return nil, check{}
	}
	g.depth++
	g.followed++
	defer func() { g.depth-- }()
	switch {
	case !ok || conf == nil:
		g.r.note(where, ref, "there is no such plugin in the config")
		return nil, check{}
	case plugin == "geoip" || plugin == "metafo":
		h := conf.sub("resources").sub(res)
		if h == nil {
			break
		}
		if single {
			return g.datacenter(where, dc, h.sub("dcmap").get(dc), inherit{h, conf})
		}
		return g.meta(where, plugin, res, h, conf)
	case plugin == "simplefo" || plugin == "multifo" || plugin == "weighted" || plugin == "static":
		v := conf.get(res)
		if v == nil {
			break
		}
		return g.direct(where, plugin, res, v, inherit{conf})
	default:
		g.r.note(where, ref, "plugin %s has no counterpart", plugin)
		return nil, check{}
	}
	g.r.note(where, ref, "there is no such resource in the config")
	return nil, check{}
}

// inherit looks a parameter up from the inside to the outside.
type inherit []*hash

func (in inherit) list(key string) []string {
	for _, h := range in {
		if v := h.get(key); v != nil {
			return list(v)
		}
	}
	return nil
}

func (in inherit) number(key string, fallback float64) float64 {
	if l := in.list(key); len(l) == 1 {
		if f, err := strconv.ParseFloat(l[0], 64); err == nil && f >= 0 && f <= 1 {
			return f
		}
	}
	return fallback
}

// check gives what the service types of a resource come to.
func (g *gdnsd) check(where string, in inherit) check {
	names := in.list("service_types")
	var c check
	for i, n := range names {
		h := g.top.sub("service_types").sub(n)
		if i > 0 {
			g.r.note(where, "service_types "+strings.Join(names, ", "), "one check a service is supported: %s is used", names[0])
			break
		}
		if n == "up" || n == "down" || n == "default" {
			g.r.note(where, "service type "+n, "every service is checked")
			continue
		}
		switch plugin := h.text("plugin"); plugin {
		case "http_status":
			c = check{kind: fleet.CheckHTTP, port: 80, path: "/", host: h.text("vhost")}
			if p := h.text("url_path"); p != "" {
				c.path = p
			}
			if ok := list(h.get("ok_codes")); len(ok) > 0 {
				g.r.note("service type "+n, "ok_codes", "set healthcheck.expect.status to %v", ok)
			}
		case "tcp_connect":
			c = check{kind: fleet.CheckTCP}
		default:
			g.r.note("service type "+n, "plugin "+plugin, "checks of this kind have no counterpart")
			continue
		}
		if p, err := strconv.ParseUint(h.text("port"), 10, 16); err == nil {
			c.port = uint16(p)
		}
		c.interval, c.timeout = 10*fleet.Duration(time.Second), 5*fleet.Duration(time.Second)
		for key, to := range map[string]*fleet.Duration{"interval": &c.interval, "timeout": &c.timeout} {
			if d, ok := seconds(h.text(key)); ok && d > 0 {
				*to = fleet.Duration(d)
			}
		}
		for _, key := range []string{"up_thresh", "ok_thresh", "down_thresh"} {
			if v := h.text(key); v != "" {
				g.r.note("service type "+n, key+" "+v, "set healthcheck.rise and healthcheck.fall")
			}
		}
	}
	return c
}

var plain = []string{"service_types", "up_thresh", "multi", "ignore_health", "plugin", "skip_first", "undefined_datacenters_ok"}

// direct reads a resource of a plugin that holds addresses.
func (g *gdnsd) direct(where, plugin, name string, v any, in inherit) (*pick, check) {
	h, ok := v.(*hash)
	if !ok { // an array of addresses, or one
		h = newHash()
		for i, a := range list(v) {
			key := strconv.Itoa(i + 1)
			h.keys, h.vals[key] = append(h.keys, key), a
		}
	}
	in = append(inherit{h}, in...)
	c := g.check(where, in)
	four, six := h.sub("addrs_v4"), h.sub("addrs_v6")
	for key, to := range map[string]**hash{"addrs_v4": &four, "addrs_v6": &six} {
		if l := list(h.get(key)); len(l) > 0 {
			*to = newHash()
			for i, a := range l {
				k := strconv.Itoa(i + 1)
				(*to).keys, (*to).vals[k] = append((*to).keys, k), a
			}
		}
	}
	if four == nil && six == nil {
		return g.family(where, plugin, name, h, in), c
	}
	var p, q *pick
	if four != nil {
		p = g.family(where, plugin, name, four, append(inherit{four}, in...))
	}
	if six != nil {
		q = g.family(where, plugin, name, six, append(inherit{six}, in...))
	}
	switch {
	case p == nil:
		return q, c
	case q != nil && !p.merge(q):
		g.r.note(where, plugin+"!"+name, "its IPv6 addresses are chosen in another way than the IPv4 ones; IPv4 alone is brought over")
	}
	return p, c
}

// family reads the labelled addresses of one resource.
func (g *gdnsd) family(where, plugin, name string, h *hash, in inherit) *pick {
	p := &pick{label: name, policy: fleet.All, records: 8}
	switch plugin {
	case "simplefo":
		p.policy, p.records = fleet.Failover, 0
	case "weighted":
		p.policy, p.records = fleet.Weighted, 0
		if multi := in.list("multi"); len(multi) == 1 && multi[0] == "true" {
			g.r.note(where, name, "multi: one address is answered by weight, not several by odds")
		}
	}
	if plugin != "simplefo" {
		if p.min = in.number("up_thresh", 0.5); plugin == "weighted" {
			g.r.note(where, name, "up_thresh is of the number of addresses, not of their weights")
		}
	}
	for _, key := range h.keys {
		if slices.Contains(plain, key) {
			continue
		}
		weight, member := 1, h.vals[key]
		if l, ok := member.([]any); ok && plugin == "weighted" && len(l) == 2 {
			text, _ := l[1].(string)
			if n, err := strconv.Atoi(text); err == nil && n >= 0 && n <= 1_000_000 {
				weight = n
			}
			member = l[0]
		}
		if sub, ok := member.(*hash); ok && plugin == "weighted" { // a group, of its addresses' weights together
			if q := g.family(where, "weighted", name+"-"+key, sub, append(inherit{sub}, in...)); q != nil && len(q.of) > 0 {
				total := 0
				for _, w := range q.weights {
					total += w
				}
				p.of, p.weights = append(p.of, q), append(p.weights, min(total, 1_000_000))
			}
			continue
		}
		text, _ := member.(string)
		v4, v6 := g.r.addresses(where+" "+name, []string{text})
		if len(v4)+len(v6) > 0 {
			p.of = append(p.of, &pick{label: name + "-" + key, v4: v4, v6: v6})
			p.weights = append(p.weights, weight)
		}
	}
	if p.policy != fleet.Weighted {
		p.weights = nil
	}
	if len(p.of) == 0 {
		return nil
	}
	return p
}

// datacenter reads the value of one datacenter in a dcmap.
func (g *gdnsd) datacenter(where, dc string, v any, in inherit) (*pick, check) {
	if text, ok := v.(string); ok {
		if ref, ok := strings.CutPrefix(text, "%"); ok {
			return g.reference(where, ref)
		}
		if _, err := netip.ParseAddr(text); err != nil {
			g.r.note(where, dc+" "+text, "a name in place of addresses has no counterpart; the datacenter is left out")
			return nil, check{}
		}
	}
	plugin := "multifo"
	if h, ok := v.(*hash); ok && h.text("plugin") != "" {
		plugin = h.text("plugin")
	} else if l := in.list("plugin"); len(l) == 1 {
		plugin = l[0]
	}
	if v == nil {
		return nil, check{}
	}
	return g.direct(where, plugin, dc, v, in)
}

// meta reads a resource of geoip or metafo.
func (g *gdnsd) meta(where, plugin, name string, h, conf *hash) (*pick, check) {
	in := inherit{h, conf}
	root := &pick{label: name, policy: fleet.Failover}
	order := list(h.get("datacenters"))
	var m *hash
	if plugin == "geoip" {
		if m = conf.sub("maps").sub(h.text("map")); m == nil {
			g.r.note(where, name, "map %q is not in the config", h.text("map"))
			return nil, check{}
		}
		order = list(m.get("datacenters"))
	}
	index := map[string]int{}
	var c check
	for _, dc := range order {
		p, own := g.datacenter(where, dc, h.sub("dcmap").get(dc), in)
		if p == nil {
			continue
		}
		if c.kind == "" {
			c = own
		}
		if xy := list(m.sub("auto_dc_coords").get(dc)); len(xy) == 2 {
			p.place(xy)
		}
		index[dc] = len(root.of)
		root.of = append(root.of, p)
	}
	if len(root.of) == 0 {
		return nil, c
	}
	if h.text("skip_first") == "true" {
		g.r.note(where, name, "skip_first has no counterpart")
	}
	if m != nil {
		g.world(where, h.text("map"), m, root, order, index)
	}
	return root, c
}

// place sets where the addresses below a pick are.
func (p *pick) place(xy []string) {
	lat, err1 := strconv.ParseFloat(xy[0], 64)
	lon, err2 := strconv.ParseFloat(xy[1], 64)
	if err1 == nil && err2 == nil && lat >= -90 && lat <= 90 && lon >= -180 && lon <= 180 {
		p.at(&[2]float64{lat, lon})
	}
}

func (p *pick) at(where *[2]float64) {
	p.where = where
	for _, q := range p.of {
		q.at(where)
	}
}
