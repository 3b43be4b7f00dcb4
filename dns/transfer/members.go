package transfer

import (
	"slices"

	"meridian/dns/catalog"
	"meridian/dns/zone"
	"meridian/fleet"
)

// consumed is a catalog whose members we serve.
type consumed struct {
	zone    *zone.Zone // that was looked at last, good or not
	good    *zone.Zone // the last good one that was looked at, to be kept on disk
	read    bool       // members is from a good one
	members []catalog.Member
}

// member is one zone that a catalog lists.
type member struct {
	catalog fleet.Name
	owner   catalog.Owner
	policy  *policy
}

// consume reads a catalog that is served, where it has changed, and brings the
// members in line. A broken one changes nothing (RFC 9432 section 5.1).
func (t *Transfer) consume(name fleet.Name, p *policy) {
	t.mu.Lock()
	z := t.cfg.Zones.Zone(name) // read here, so that no version is taken after a newer one
	c := t.catalogs[name]
	if z == nil || c != nil && c.zone == z {
		t.mu.Unlock()
		return
	}
	if c == nil {
		c = &consumed{}
		t.catalogs[name] = c
	}
	c.zone = z
	members, err := catalog.Read(z)
	if err != nil {
		t.metrics.catalogs.WithLabelValues(string(name)).Inc()
		t.log.Error("a catalog is not taken; its members stay", "catalog", name, "serial", z.Serial, "err", err)
		members = t.lastMembers(name)
		if c.read || members == nil {
			t.mu.Unlock()
			return
		}
	} else {
		c.good = z
	}
	c.read = true
	c.members = members
	before := len(t.members)
	fresh, gone := t.reconcile()
	t.log.Info("catalog", "catalog", name, "serial", z.Serial, "members", len(members), "before", before, "after", len(t.members))
	t.mu.Unlock()
	t.keepCatalog(name)
	t.stop(gone)
	t.start(fresh)
}

// keepCatalog writes the last good version of a catalog to disk. The disk is
// waited for without mu; versions are written one after another, so that the
// last one stays.
func (t *Transfer) keepCatalog(name fleet.Name) {
	t.keeping.Lock()
	defer t.keeping.Unlock()
	t.mu.Lock()
	c := t.catalogs[name]
	if c == nil || c.good == nil {
		t.mu.Unlock()
		return
	}
	z := c.good
	c.good = nil
	t.mu.Unlock()
	if err := t.disk.saveCatalog(z); err != nil {
		t.log.Error("keeping a catalog", "catalog", name, "err", err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.catalogs[name] == nil { // it has gone meanwhile
		if err := t.disk.unlink("catalogs", name); err != nil {
			t.log.Error("removing a catalog's copy", "catalog", name, "err", err)
		}
	}
}

// lastMembers reads the last good version of a catalog from disk, for a start
// with one that is broken (RFC 9432 section 5.1).
func (t *Transfer) lastMembers(name fleet.Name) []catalog.Member {
	z, err := t.disk.loadCatalog(name)
	if err != nil {
		t.log.Error("reading a catalog's last good version", "catalog", name, "err", err)
	}
	if z == nil {
		return nil
	}
	members, err := catalog.Read(z)
	if err != nil {
		t.log.Error("reading a catalog's last good version", "catalog", name, "err", err)
	}
	return members
}

// renewMembers works out which zones are members of which catalog, and with
// what settings. It gives those that are to begin anew. It is called with mu
// held.
func (t *Transfer) renewMembers() (reset []fleet.Name) {
	lists, before := map[fleet.Name][]catalog.Member{}, map[fleet.Name]catalog.Owner{}
	for name, c := range t.catalogs {
		if p := t.intent.zones[name]; p == nil || p.Catalog == nil {
			delete(t.catalogs, name)
			if err := t.disk.unlink("catalogs", name); err != nil {
				t.log.Error("removing a catalog's copy", "catalog", name, "err", err)
			}
		} else {
			lists[name] = c.members
		}
	}
	for name, m := range t.members {
		before[name] = m.owner
	}
	a := catalog.Assign(before, lists)
	if n := len(a.Clash); n > 0 { // one line, however many a catalog lists
		o := a.Clash[0]
		t.log.Warn("a catalog lists zones that another has", "zones", n, "first", o.Member.Zone, "catalog", o.Catalog, "owner", a.Owners[o.Member.Zone].Catalog)
	}
	next := make(map[fleet.Name]*member, len(a.Owners))
	read := map[[2]string]*policy{}
	var own []fleet.Name
	for name, o := range a.Owners {
		if _, written := t.intent.world.Zones.Get(name); written || t.intent.zones[name] != nil { // RFC 9432 section 5.2
			own = append(own, name)
			continue
		}
		p := t.intent.zones[o.Catalog]
		template := p.Catalog.Template
		for _, g := range o.Member.Groups {
			if named, ok := p.Catalog.Groups[g]; ok {
				template = named
				break
			}
		}
		key := [2]string{string(o.Catalog), template}
		if read[key] == nil {
			settings, err := t.intent.read.member(p, template)
			if err != nil { // templates have been read before
				t.log.Error("a catalog's template", "catalog", o.Catalog, "template", template, "err", err)
				settings = &policy{}
			}
			if len(settings.primaries) == 0 {
				t.log.Warn("members of a catalog have no primaries", "catalog", o.Catalog, "template", template)
			}
			read[key] = settings
		}
		next[name] = &member{o.Catalog, o, read[key]}
	}
	if len(own) > 0 {
		first := slices.Min(own)
		t.log.Warn("a catalog lists zones that the fleet has in any case; the fleet's own stay", "zones", len(own), "first", first, "catalog", a.Owners[first].Catalog)
	}
	t.members = next
	return a.Reset
}

// stop takes zones out of service that are no longer the fleet's.
func (t *Transfer) stop(gone []fleet.Name) {
	for _, name := range gone {
		t.showing.Lock() // what was shown before is removed
		t.cfg.Zones.RemoveZone(name)
		t.showing.Unlock()
		t.forget(name)
		t.log.Info("zone removed", "zone", name)
	}
}
