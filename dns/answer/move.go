package answer

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"iter"
	"maps"
	"net/netip"
	"slices"

	"meridian/fleet"
	"meridian/geo"
)

// Sample is one client of a sampled space.
type Sample struct {
	Client  netip.Addr
	Country string // ISO 3166-1, or empty
}

// Samples draws about n clients from the networks of a database, evenly over
// the IPv4 addresses that it has data for, so that a country counts by its
// addresses. The same database gives the same clients.
func Samples(source geo.Source, n int) []Sample {
	total := uint64(0)
	for size := range networks4(source) {
		total += size.count
	}
	every := max(1, total/uint64(max(1, n)))
	var out []Sample
	next := every / 2
	for net := range networks4(source) {
		for ; next < net.count; next += every {
			var b [4]byte
			binary.BigEndian.PutUint32(b[:], net.first+uint32(next))
			out = append(out, Sample{netip.AddrFrom4(b), net.country})
		}
		next -= net.count
	}
	return out
}

type network4 struct {
	first   uint32
	count   uint64
	country string
}

func networks4(source geo.Source) iter.Seq[network4] {
	return func(yield func(network4) bool) {
		for p, place := range source.Networks() {
			if !p.Addr().Is4() {
				continue
			}
			b := p.Masked().Addr().As4()
			if !yield(network4{binary.BigEndian.Uint32(b[:]), 1 << (32 - p.Bits()), place.Country}) {
				return
			}
		}
	}
}

// Move is how many of a service's clients one plan sends elsewhere than
// another.
type Move struct {
	Service   string             `json:"service"`
	Share     float64            `json:"share"`               // of all clients, 0 to 1
	Samples   int                `json:"samples"`             // clients looked at
	From      map[string]float64 `json:"from,omitempty"`      // by region: share of all clients that it would lose
	To        map[string]float64 `json:"to,omitempty"`        // and gain
	Countries []CountryMove      `json:"countries,omitempty"` // with clients that would go elsewhere, most clients first
	Examples  []Example          `json:"examples,omitempty"`  // ten at most
}

// CountryMove is the same for one country.
type CountryMove struct {
	Country string  `json:"country"`
	Share   float64 `json:"share"`  // of the country's clients
	Clients float64 `json:"of_all"` // the same clients, as a share of all
}

// Example is one client that would go elsewhere.
type Example struct {
	Client  netip.Prefix `json:"client"` // its /24
	Country string       `json:"country,omitempty"`
	Before  string       `json:"before"` // region, anycast, or none
	After   string       `json:"after"`
}

// Moves compares where two plans send the clients of each service that both
// have, by the first region of the answer.
func Moves(before, after *Plan, clients []Sample) []Move {
	if before.world == nil || after.world == nil {
		return nil
	}
	type pair struct{ before, after *state }
	known := map[pair]Move{}
	var out []Move
	for i := range after.world.Snapshot.Spec.Services {
		name := after.world.Snapshot.Spec.Services[i].Service
		j := before.service(name)
		if j < 0 {
			continue
		}
		kind := after.firstKind()
		states := pair{before.steering.states[j][kind], after.steering.states[i][kind]}
		m, ok := known[states]
		if !ok {
			m = move(before, after, states.before, states.after, clients)
			known[states] = m
		}
		m.Service = name
		out = append(out, m)
	}
	return out
}

// firstKind is A, or AAAA in a fleet without IPv4 addresses.
func (p *Plan) firstKind() answerKind {
	spec := p.world.Snapshot.Spec
	if len(spec.Anycast.V4) == 0 && !slices.ContainsFunc(spec.Regions, func(r fleet.Region) bool { return len(r.VIPs.V4) > 0 }) {
		return kindAAAA
	}
	return kindA
}

// goes names where a client goes.
func (p *Plan) goes(st *state, client netip.Addr) string {
	var w scratch
	o, _, _ := p.lookup(&w, st, client)
	c := &o.v4
	if st.kind == kindAAAA {
		c = &o.v6
	}
	switch {
	case c.Anycast:
		return "anycast"
	case len(c.Regions()) == 0:
		return "none"
	}
	return p.world.Snapshot.Spec.Regions[c.Regions()[0]].ID
}

func move(before, after *Plan, was, is *state, clients []Sample) Move {
	m := Move{Samples: len(clients), From: map[string]float64{}, To: map[string]float64{}}
	all, moved := map[string]int{}, map[string]int{}
	each := 1 / float64(max(1, len(clients)))
	examples := map[string]bool{}
	for _, c := range clients {
		all[c.Country]++
		from, to := before.goes(was, c.Client), after.goes(is, c.Client)
		if from == to {
			continue
		}
		moved[c.Country]++
		m.From[from] += each
		m.To[to] += each
		m.Share += each
		if kind := fmt.Sprint(c.Country, from, to); len(m.Examples) < 10 && !examples[kind] {
			examples[kind] = true
			net, _ := c.Client.Prefix(24)
			m.Examples = append(m.Examples, Example{net, c.Country, from, to})
		}
	}
	for _, country := range slices.Sorted(maps.Keys(moved)) {
		n := float64(moved[country])
		m.Countries = append(m.Countries, CountryMove{country, n / float64(all[country]), n * each})
	}
	slices.SortStableFunc(m.Countries, func(a, b CountryMove) int { return cmp.Compare(b.Clients, a.Clients) })
	return m
}
