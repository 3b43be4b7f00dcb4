package imports

import (
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"

	"meridian/fleet"
)

// Named reads named.conf (BIND 9) with the files that it includes, and the
// zone files that it names. It takes PowerDNS' bind backend too: Lua records in
// zone files become steered names.
func Named(config []byte, files Files) (*Result, error) {
	top, err := parseNamed("named.conf", config, files)
	if err != nil {
		return nil, err
	}
	n := &bind{r: newResult(), files: files, lists: map[string]*statement{}, seen: map[fleet.Name]bool{}}
	n.s = newSteering(n.r)
	n.top(top)
	return n.r, nil
}

type bind struct {
	r       *Result
	s       *steering
	files   Files
	dir     string
	options []statement
	lists   map[string]*statement // acl, masters and primaries by name, with the kind before it
	seen    map[fleet.Name]bool
}

// quiet are options that concern how named itself runs.
var quiet = []string{"directory", "pid-file", "listen-on", "listen-on-v6", "allow-transfer", "also-notify", "allow-update", "notify", "dnssec-validation"}

func (n *bind) top(list []statement) {
	for i := range list {
		s := &list[i]
		switch strings.ToLower(s.word(0)) {
		case "options":
			n.options = s.block
			if d := get(s.block, "directory"); d != nil {
				n.dir = d.word(1)
			}
		case "acl":
			n.lists["acl "+s.word(1)] = s
		case "masters", "primaries":
			n.lists["primaries "+s.word(1)] = s
		case "key":
			n.key(s)
		}
	}
	for i := range n.options {
		if o := &n.options[i]; !slices.Contains(quiet, strings.ToLower(o.word(0))) {
			n.r.note(o.at, "options "+o.word(0), "has to be set by hand where there is a counterpart")
		}
	}
	for i := range list {
		s := &list[i]
		switch strings.ToLower(s.word(0)) {
		case "options", "acl", "masters", "primaries", "key", "logging", "controls", "statistics-channels":
		case "zone":
			n.zone(s)
		case "view":
			n.r.note(s.at, "view "+s.word(1), "there are no views: its zones are brought over as zones for all")
			for j := range s.block {
				if strings.EqualFold(s.block[j].word(0), "zone") {
					n.zone(&s.block[j])
				}
			}
		default:
			n.r.note(s.at, strings.Join(s.words, " "), "has no counterpart")
		}
	}
}

func (n *bind) key(s *statement) {
	name, err := fleet.ParseName(s.word(1))
	secret := get(s.block, "secret")
	if err != nil || secret == nil {
		n.r.note(s.at, "key "+s.word(1), "has no name or no secret")
		return
	}
	k := fleet.TSIGKey{Name: name, Algorithm: "hmac-sha256"}
	if a := get(s.block, "algorithm"); a != nil {
		k.Algorithm = fleet.TSIGAlgorithm(strings.ToLower(a.word(1)))
	}
	if !slices.Contains(k.Algorithm.Values(), string(k.Algorithm)) {
		n.r.note(s.at, "key "+s.word(1), "algorithm %s is not supported; the key is left out", k.Algorithm)
		return
	}
	file := "keys/" + strings.TrimSuffix(strings.TrimPrefix(zoneFileName(name), "zones/"), ".zone") + ".tsig"
	k.Secret = fleet.Secret("file:" + file)
	n.r.Secrets[file] = []byte(secret.word(1) + "\n")
	if n.r.Spec.DNS == nil {
		n.r.Spec.DNS = &DNS{}
	}
	n.r.Spec.DNS.Keys = append(n.r.Spec.DNS.Keys, k)
}

func (n *bind) hasKey(name fleet.Name) bool {
	return n.r.Spec.DNS != nil && slices.ContainsFunc(n.r.Spec.DNS.Keys, func(k fleet.TSIGKey) bool { return k.Name == name })
}

func (n *bind) zone(s *statement) {
	what := "zone " + s.word(1)
	name, err := fleet.ParseName(s.word(1))
	if err != nil {
		n.r.note(s.at, what, "%s", err)
		return
	}
	kind := ""
	if t := get(s.block, "type"); t != nil {
		kind = strings.ToLower(t.word(1))
	}
	switch {
	case kind == "hint" || kind == "forward" || kind == "stub" || kind == "static-stub" || kind == "redirect" || kind == "delegation-only":
		n.r.note(s.at, what, "zones of type %s are for resolvers", kind)
		return
	case n.seen[name]:
		n.r.note(s.at, what, "is given twice (in another view?); the first stays")
		return
	case kind != "master" && kind != "primary" && kind != "slave" && kind != "secondary" && kind != "mirror":
		n.r.note(s.at, what, "type %q is not known", kind)
		return
	}
	n.seen[name] = true
	z := fleet.Zone{Zone: name}
	n.settings(s, &z)
	if kind != "master" && kind != "primary" {
		n.secondary(s, &z)
		return
	}
	n.primary(s, &z)
}

func (n *bind) secondary(s *statement, z *fleet.Zone) {
	for _, key := range []string{"masters", "primaries"} {
		if p := get(s.block, key); p != nil {
			z.Primaries = n.peers(p, 0)
		}
	}
	if len(z.Primaries) == 0 {
		n.r.note(s.at, "zone "+string(z.Zone), "names no primaries; it is left out")
		return
	}
	n.r.Spec.Zones = append(n.r.Spec.Zones, *z)
}

func (n *bind) primary(s *statement, z *fleet.Zone) {
	what := "zone " + string(z.Zone)
	f := get(s.block, "file")
	if f == nil {
		n.r.note(s.at, what, "names no file; it is left out")
		return
	}
	if m := get(s.block, "masterfile-format"); m != nil && m.word(1) != "text" {
		n.r.note(s.at, what, "its file is in format %s; convert it with named-compilezone", m.word(1))
		return
	}
	file := f.word(1)
	read := func(name string) ([]byte, error) {
		if !path.IsAbs(name) && n.dir != "" {
			name = path.Join(n.dir, name)
		}
		return n.files(name)
	}
	text, err := flatten(file, z.Zone, read)
	if err != nil {
		n.r.note(s.at, what, "is left out: %s", err)
		return
	}
	rest, found, err := extract(text, z.Zone, "LUA")
	if err != nil {
		n.r.note(s.at, what, "is left out: %s: %s", file, err)
		return
	}
	added := n.r.zone(s.at, *z, rest)
	lua(n.r, n.s, file, added, found)
}

// settings reads what primaries and secondaries have alike; what a zone does
// not say itself it has from options.
func (n *bind) settings(s *statement, z *fleet.Zone) {
	for i := range s.block {
		o := &s.block[i]
		switch strings.ToLower(o.word(0)) {
		case "type", "file", "masters", "primaries", "also-notify", "allow-transfer", "allow-query", "masterfile-format":
		case "allow-update":
			n.updates(o, z)
		case "update-policy":
			n.policy(o, z)
		case "notify":
			if o.word(1) == "yes" || o.word(1) == "explicit" {
				continue
			}
		case "dnssec-policy":
			if p := o.word(1); p != "none" {
				z.DNSSEC = fleet.DefaultPolicy
				n.r.note(o.at, "dnssec-policy "+p, "policy default is written; import the keys with gslb keys import before the DS is changed")
			}
		case "inline-signing":
			if o.word(1) == "yes" {
				z.DNSSEC = fleet.DefaultPolicy
			}
		default:
			n.r.note(o.at, "zone "+string(z.Zone)+" "+o.word(0), "has no counterpart")
		}
	}
	either := func(name string) *statement {
		if o := get(s.block, name); o != nil {
			return o
		}
		return get(n.options, name)
	}
	if o := either("allow-transfer"); o != nil {
		z.Transfer = n.access(o, 0)
	}
	notify := either("notify")
	if o := either("also-notify"); o != nil && (notify == nil || notify.word(1) != "no") {
		z.Notify = n.peers(o, 0)
	}
	if notify == nil || notify.word(1) == "yes" {
		n.r.note("named.conf", "notify yes", "servers of NS records are not told by themselves: list them under notify")
	}
}

// access reads an address match list as zones[].transfer has it.
func (n *bind) access(s *statement, deep int) []string {
	var out []string
	for i := range s.block {
		e := &s.block[i]
		w := e.word(0)
		acl := n.lists["acl "+w]
		switch {
		case w == "none":
		case w == "any":
			out = append(out, "0.0.0.0/0", "::/0")
		case w == "localhost":
			out = append(out, "127.0.0.1", "::1")
		case strings.EqualFold(w, "key"):
			k, err := fleet.ParseName(e.word(1))
			if err != nil || !n.hasKey(k) {
				n.r.note(e.at, "key "+e.word(1), "is not defined; it is left out")
				continue
			}
			out = append(out, "key:"+string(k))
		case acl != nil && deep < maxInclude:
			out = append(out, n.access(acl, deep+1)...)
		case len(e.block) > 0 && w == "" && deep < maxInclude:
			out = append(out, n.access(e, deep+1)...)
		default:
			if a, err := fleet.ParseAccess(w); err != nil || !a.From.IsValid() {
				n.r.note(e.at, strings.Join(e.words, " "), "is not an address, network or key that is known; it is left out")
				continue
			}
			out = append(out, w)
		}
	}
	return out
}

// peers reads a list of servers: ADDRESS [port N] [key K], or a named list.
func (n *bind) peers(s *statement, deep int) []fleet.Peer {
	port := uint16(53)
	for i, w := range s.words {
		if v, err := strconv.ParseUint(s.word(i+1), 10, 16); w == "port" && err == nil {
			port = uint16(v)
		}
	}
	var out []fleet.Peer
	for i := range s.block {
		e := &s.block[i]
		if l := n.lists["primaries "+e.word(0)]; l != nil && deep < maxInclude {
			out = append(out, n.peers(l, deep+1)...)
			continue
		}
		a, err := netip.ParseAddr(e.word(0))
		if err != nil {
			n.r.note(e.at, strings.Join(e.words, " "), "is not an address; it is left out")
			continue
		}
		p := fleet.Peer{Address: netip.AddrPortFrom(a, port)}
		for j, w := range e.words {
			next := e.word(j + 1)
			switch strings.ToLower(w) {
			case "port":
				if v, err := strconv.ParseUint(next, 10, 16); err == nil {
					p.Address = netip.AddrPortFrom(a, uint16(v))
				}
			case "key":
				if k, err := fleet.ParseName(next); err == nil && n.hasKey(k) {
					p.Key = k
				} else {
					n.r.note(e.at, "key "+next, "is not defined; it is left out")
				}
			case "tls":
				n.r.note(e.at, strings.Join(e.words, " "), "set tls.server_name of this server")
			}
		}
		if p.Address.Port() == 0 {
			n.r.note(e.at, strings.Join(e.words, " "), "has port 0; it is left out")
			continue
		}
		out = append(out, p)
	}
	return out
}

// updates reads allow-update; addresses alone let nobody update here.
func (n *bind) updates(s *statement, z *fleet.Zone) {
	for i := range s.block {
		e := &s.block[i]
		k, err := fleet.ParseName(e.word(1))
		switch {
		case e.word(0) == "none":
		case strings.EqualFold(e.word(0), "key") && err == nil && n.hasKey(k):
			z.Dynamic = true
			z.Updates = append(z.Updates, fleet.UpdateRule{Key: k})
		default:
			n.r.note(e.at, "allow-update "+strings.Join(e.words, " "), "updates must be signed by a key that is known; it is left out")
		}
	}
}

// policy reads update-policy: grant KEY RULE [NAME] TYPES.
func (n *bind) policy(s *statement, z *fleet.Zone) {
	for i := range s.block {
		e := &s.block[i]
		what := "update-policy " + strings.Join(e.words, " ")
		k, err := fleet.ParseName(e.word(1))
		if e.word(0) != "grant" || err != nil || !n.hasKey(k) {
			n.r.note(e.at, what, "is not a grant to a key that is known; it is left out")
			continue
		}
		u := fleet.UpdateRule{Key: k}
		types := 4
		switch e.word(2) {
		case "zonesub":
			types = 3
		case "name", "subdomain", "wildcard", "self", "selfsub":
			of := e.word(3)
			if strings.HasPrefix(e.word(2), "self") {
				of = e.word(1)
			}
			name, err := fleet.ParseName(strings.TrimPrefix(of, "*."))
			if err != nil || !name.In(z.Zone) {
				n.r.note(e.at, what, "its name is not in the zone; it is left out")
				continue
			}
			rel := relative(name, z.Zone)
			below := "*." + rel
			if rel == "@" {
				below = "*"
			}
			switch e.word(2) {
			case "name", "self":
				u.Names = []string{rel}
			case "wildcard":
				u.Names = []string{below}
			default:
				u.Names = []string{rel, below}
			}
			if below == "*" && u.Names[len(u.Names)-1] == "*" {
				u.Names = nil // all of the zone
			}
		default:
			n.r.note(e.at, what, "rules of kind %s have no counterpart; it is left out", e.word(2))
			continue
		}
		for _, t := range e.words[min(types, len(e.words)):] {
			if !strings.EqualFold(t, "ANY") {
				u.Types = append(u.Types, strings.ToUpper(t))
			}
		}
		z.Dynamic = true
		z.Updates = append(z.Updates, u)
	}
}

// where names a line of a zone file.
func where(file string, line int) string { return fmt.Sprintf("%s:%d", file, line) }
