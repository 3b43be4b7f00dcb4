package catalog

import (
	"cmp"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"meridian/dns/zone"
	"meridian/fleet"
)

// Member is one zone that a catalog lists.
type Member struct {
	ID     string     // its label below "zones", in wire form without length; another one resets the zone
	Zone   fleet.Name //
	Groups []string   // values of its group property
	Coo    fleet.Name // the catalog that it may move to, or ""
}

// version is the only one there is (RFC 9432 section 4.3.1).
const version = "2"

// maxErr bounds how much of a broken catalog an error tells.
const maxErr = 5

// Read gives the members that a catalog zone lists. A broken catalog
// (RFC 9432 sections 4 and 5.1) is an error and must not be processed;
// properties that are not known are passed over.
func Read(z *zone.Zone) ([]Member, error) {
	apex := z.Apex().Name
	if err := checkVersion(z, apex); err != nil {
		return nil, err
	}
	r := reading{zones: "\x05zones" + apex, byID: map[string]*Member{}}
	for n := range z.Nodes() {
		r.node(n)
	}
	seen := map[fleet.Name]bool{}
	var out []Member
	for _, m := range r.members {
		if m.Zone == "" {
			continue // properties alone make no member
		}
		if seen[m.Zone] {
			r.failf("member %s is listed twice", m.Zone)
		}
		seen[m.Zone] = true
		out = append(out, *m)
	}
	if len(r.errs) > maxErr {
		r.errs = append(r.errs[:maxErr], fmt.Errorf("and %d more", len(r.errs)-maxErr))
	}
	if err := errors.Join(r.errs...); err != nil {
		return nil, fmt.Errorf("catalog %s is broken: %w", z.Name, err)
	}
	slices.SortFunc(out, func(a, b Member) int { return cmp.Compare(a.Zone, b.Zone) })
	return out, nil
}

func checkVersion(z *zone.Zone, apex string) error {
	n := z.Node([]byte("\x07version" + apex))
	if n == nil || n.Get(zone.TypeTXT) == nil {
		return fmt.Errorf("catalog %s is broken: it has no version", z.Name)
	}
	set := n.Get(zone.TypeTXT)
	if data, _ := zone.Next(set.Data); set.Count != 1 || string(data) != "\x01"+version {
		return fmt.Errorf("catalog %s is broken: its version is not %s", z.Name, version)
	}
	return nil
}

// reading is a catalog on its way to members.
type reading struct {
	zones   string // wire form of the name above the members
	byID    map[string]*Member
	members []*Member
	errs    []error
}

func (r *reading) failf(format string, args ...any) {
	r.errs = append(r.errs, fmt.Errorf(format, args...))
}

// node reads one name: ID.zones, group.ID.zones or coo.ID.zones.
func (r *reading) node(n *zone.Node) {
	if !zone.Below(n.Name, r.zones) || n.Name == r.zones || len(n.Sets) == 0 {
		return
	}
	labels := n.Name[:len(n.Name)-len(r.zones)]
	first := labels[1 : 1+int(labels[0])]
	rest := labels[1+len(first):]
	if rest == "" {
		if set := n.Get(zone.TypePTR); set != nil {
			r.member(first).Zone = r.pointer(set, n)
		}
		return
	}
	id := rest[1 : 1+int(rest[0])]
	if len(rest) != 1+len(id) {
		return
	}
	switch first {
	case "group":
		if set := n.Get(zone.TypeTXT); set != nil {
			r.member(id).Groups = texts(set)
		}
	case "coo":
		if set := n.Get(zone.TypePTR); set != nil {
			r.member(id).Coo = r.pointer(set, n)
		}
	}
}

func (r *reading) member(id string) *Member {
	m := r.byID[id]
	if m == nil {
		m = &Member{ID: id}
		r.byID[id] = m
		r.members = append(r.members, m)
	}
	return m
}

// pointer gives the target of a PTR, which must be alone.
func (r *reading) pointer(set *zone.RRset, n *zone.Node) fleet.Name {
	if set.Count != 1 {
		r.failf("%s has %d PTR records", zone.Text([]byte(n.Name)), set.Count)
	}
	data, _ := zone.Next(set.Data)
	low := slices.Clone(data)
	for i, c := range low {
		low[i] = zone.Lower(c)
	}
	return zone.Text(low)
}

// texts gives the first string of each TXT record.
func texts(set *zone.RRset) []string {
	var out []string
	for rest := set.Data; len(rest) > 0; {
		var data []byte
		data, rest = zone.Next(rest)
		out = append(out, string(data[1:1+int(data[0])]))
	}
	return out
}

// ID is the label under which we list a zone: a hash of its name, so that every
// nameserver of the fleet lists it under the same.
func ID(name fleet.Name) string {
	sum := sha256.Sum256([]byte(name))
	return strings.ToLower(base32.HexEncoding.EncodeToString(sum[:20]))
}

// Make gives the catalog zone that lists the members, with that serial. Their
// IDs are made anew; of their groups the first counts.
func Make(name fleet.Name, members []Member, serial uint32) (*zone.Zone, error) {
	const refresh, retry, expire = 3600, 600, 2147483646
	b := zone.NewBuilder(name)
	apex := zone.Wire(name)
	under := func(labels ...string) []byte {
		var out []byte
		for _, l := range labels {
			out = append(append(out, byte(len(l))), l...)
		}
		return append(out, apex...)
	}
	var errs []error
	add := func(owner []byte, t uint16, data []byte) {
		if err := b.Add(owner, t, 0, data); err != nil {
			errs = append(errs, fmt.Errorf("catalog %s: %s: %w", name, zone.Text(owner), err))
		}
	}
	invalid := zone.Wire("invalid.")
	soa := append(slices.Clone(invalid), invalid...)
	for _, n := range []uint32{serial, refresh, retry, expire, 0} {
		soa = binary.BigEndian.AppendUint32(soa, n)
	}
	add(apex, zone.TypeSOA, soa)
	add(apex, zone.TypeNS, invalid)
	add(under("version"), zone.TypeTXT, []byte("\x01"+version))
	for _, m := range members {
		id := ID(m.Zone)
		add(under(id, "zones"), zone.TypePTR, zone.Wire(m.Zone))
		if len(m.Groups) > 0 && m.Groups[0] != "" {
			g := m.Groups[0]
			if len(g) > 255 {
				errs = append(errs, fmt.Errorf("catalog %s: the group of %s is longer than 255 octets", name, m.Zone))
				continue
			}
			add(under("group", id, "zones"), zone.TypeTXT, append([]byte{byte(len(g))}, g...))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return b.Build()
}
