package xdp

import (
	"slices"

	"meridian/dns/zone"
)

// missing places a ghost, which is a name that does not exist, but that an
// answer mentions: queries for it, and below it, are answered with other
// compression.
func (c *compiler) missing(z *zone.Zone, name []byte) {
	asked := c.exact(z, name)
	found := z.Lookup(name)
	below := c.below(z, name)
	if found.Kind == zone.Wildcard {
		c.node(name, below, c.kinds(found.Node, asked))
		return
	}
	c.node(name, below, c.kinds(nil, asked))
}

// below gives what names below one get that have no node.
func (c *compiler) below(z *zone.Zone, name []byte) (refs [2]ref) {
	probe := c.probes(z, name)
	if probe == nil {
		return refs
	}
	found := z.Lookup(probe[0])
	asked := c.varied(z, name, probe, found.Kind != zone.Delegation)
	switch found.Kind {
	case zone.Delegation:
		return asked(zone.TypeA)
	case zone.Missing:
		refs = c.nothing(z, name, asked)
	case zone.Wildcard:
		r := c.share(c.kinds(found.Node, asked))
		refs = [2]ref{r, r}
	default:
		return refs
	}
	switch {
	case c.proves(z):
		refs[1] = c.gaps(z, name, found)
	case z.Signed && z.Denial == zone.DenyNSEC3 && z.Online == nil && !c.plain:
		if r, ok := c.proofs(z, name, found); ok {
			refs[1] = r
			break
		}
		asked = c.varied(z, name, probe, false)
		if found.Kind == zone.Missing {
			refs[1] = asked(zone.TypeA)[1]
		} else {
			refs[1] = c.share(c.kinds(found.Node, asked))
		}
	}
	return refs
}

// absence is what is answered below names of a zone where there is nothing.
type absence struct {
	refs   [2]ref
	labels int             // that the answer may write out
	names  map[string]bool // in the zone that the answer mentions, and what is above them
}

// nothing gives what names below one get that do not exist: the same in all of
// a zone, but below names that the answer mentions.
func (c *compiler) nothing(z *zone.Zone, name []byte, asked asking) [2]ref {
	apex := len(z.Apex().Name)
	if a := c.absent; a != nil && labels(name)+maxCuts+a.labels <= maxCompressed {
		mentioned := false
		for at := name; len(at) > apex && !mentioned; at = at[1+int(at[0]):] {
			mentioned = a.names[string(at)]
		}
		if !mentioned {
			return a.refs
		}
	}
	refs := asked(zone.TypeA)
	if z.Online != nil { // there every name has an NSEC
		r := c.share(kindsRecord(nil, refs))
		refs = [2]ref{r, r}
	}
	if len(name) == apex {
		a := &absence{refs, 0, map[string]bool{}}
		soa, _ := zone.Next(z.Apex().Get(zone.TypeSOA).Data)
		mname := zone.WireLen(soa)
		for _, host := range [][]byte{soa[:mname], soa[mname : len(soa)-20]} {
			a.labels += labels(host)
			for host = lower(host); len(host) > apex; host = host[1+int(host[0]):] {
				a.names[string(host)] = true
			}
		}
		c.absent = a
	}
	return refs
}

func lower(name []byte) []byte {
	name = slices.Clone(name)
	for i := range name {
		name[i] = zone.Lower(name[i])
	}
	return name
}

// mentioned notes names in an answer that do not exist: a query for one of
// them would be compressed against.
func (c *compiler) mentioned(z *zone.Zone, t *template) {
	for _, name := range t.names {
		if !z.Holds(name) {
			continue
		}
		for ; z.Node(name) == nil && !c.told[string(name)]; name = name[1+int(name[0]):] {
			if !c.holds(z, name) {
				continue // another zone's, below this one's
			}
			c.told[string(name)] = true
			c.part.ghosts = append(c.part.ghosts, string(name))
			c.queue = append(c.queue, name)
		}
	}
}

// probeLabels begin the names that are asked for below a name.
var probeLabels = [...]string{"\x09\xfemeridian", "\x03\xfeno\x09\xfemeridian", "\x01\xfe\x0e\xfemeridian-long"}

// probes gives names right below one, or deeper, that do not exist; nil where
// they do, or are too long.
func (c *compiler) probes(z *zone.Zone, name []byte) [][]byte {
	var out [][]byte
	for _, l := range probeLabels {
		p := append([]byte(l), name...)
		if len(p) > 255 || z.Node(p[len(p)-len(name)-1-9:]) != nil {
			return nil
		}
		out = append(out, p)
	}
	return out
}

func labels(name []byte) int {
	n := 0
	for ; name[0] != 0; name = name[1+int(name[0]):] {
		n++
	}
	return n
}
