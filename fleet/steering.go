package fleet

import "net/netip"

// Steering is how DNS picks regions for the clients of a service.
type Steering struct {
	Selection
	Groups []Group        `json:"groups,omitempty" doc:"Virtual regions: each picks among regions and groups by a policy of its own, and stands wherever a region's id may stand."`
	Answer AnswerKind     `json:"answer,omitempty" doc:"Answer with regional or anycast addresses." default:"regional"`
	Rotate Rotate         `json:"rotate,omitempty" doc:"Order of the records within an answer: none (best first), query (another one first in each answer), client (by the client's /24 or /48, for which alone the answer then holds)." default:"none"`
	Demand map[string]int `json:"demand,omitempty" doc:"Load that each region's own clients make with this service, in the unit of regions[].capacity. Where health leaves less capacity than there is load, a share of clients spills over to the next region in order. Summed over services." default:"no spill-over"`
}

// Group is a virtual region.
type Group struct {
	Group string `json:"group" doc:"Id of the group, unlike any region's or other group's of the service. Lower-case letters, digits and hyphens."`
	Selection
}

// Selection is how one of several regions or groups is picked. Wherever it
// names a region it may name a group.
type Selection struct {
	Policy     SteeringPolicy     `json:"policy,omitempty" doc:"proximity, geo, subnet, latency, weighted, failover or all." default:"proximity"`
	Regions    []string           `json:"regions,omitempty" doc:"Candidates, regions or groups; for failover and all, in order." default:"all regions; a group must name its own"`
	Geo        []GeoRule          `json:"geo,omitempty" doc:"For policy geo: the first rule that matches the client wins; clients that none matches go by proximity."`
	Subnets    []SubnetRule       `json:"subnets,omitempty" doc:"For policy subnet: the longest prefix that holds the client wins; clients that none holds go by proximity."`
	SubnetMap  string             `json:"subnet_map,omitempty" doc:"For policy subnet: name of a map under subnet_maps, looked at where subnets says nothing." default:"none"`
	Weights    map[string]int     `json:"weights,omitempty" doc:"For policy weighted: candidate to weight (0 to 1000000). One of weight 0 serves only when all others are down."`
	Bias       map[string]float64 `json:"bias,omitempty" doc:"For policy proximity: kilometres added to a candidate's distance (negative draws clients)."`
	Records    int                `json:"records,omitempty" doc:"How many regions an answer holds at most (1 to 8). An answer never mixes a group's regions with others." default:"1, for policy all 8; in a group, as around it"`
	MinHealthy float64            `json:"min_healthy,omitempty" doc:"Share of the candidates, 0 to 1, that must be up: with fewer, all_down applies as if none were." default:"0: one is enough"`
	AllDown    AllDown            `json:"all_down,omitempty" doc:"Where health leaves too few: fail_open (served as if all were up), fail_closed (no address; a group counts as down for whoever names it), fallback (what fallback names)." default:"fail_open; for a group fail_closed"`
	Fallback   []string           `json:"fallback,omitempty" doc:"For all_down fallback: regions or groups, in order. Where health leaves none of them either, fail_open applies."`
	Unmapped   []string           `json:"unmapped,omitempty" doc:"Candidates, best first, for clients whose place is not known (networks that the geo database lacks, private ones among them); the others follow in order." default:"the order of regions"`
}

// GeoRule sends the clients of some places to candidates in order.
type GeoRule struct {
	Continents   []string `json:"continents,omitempty" doc:"AF, AN, AS, EU, NA, OC, SA."`
	Countries    []string `json:"countries,omitempty" doc:"ISO 3166-1 two-letter codes."`
	Subdivisions []string `json:"subdivisions,omitempty" doc:"ISO 3166-2 codes, as US-CA."`
	ASNs         []uint32 `json:"asns,omitempty" doc:"AS numbers of client networks."`
	Regions      []string `json:"regions" doc:"Regions or groups for these clients, best first; the others follow by proximity."`
}

// SubnetRule sends the clients of some networks to candidates in order.
type SubnetRule struct {
	Prefixes []netip.Prefix `json:"prefixes" doc:"Networks of clients, IPv4 or IPv6. Clients whose IPv6 address carries an IPv4 one (mapped, 6to4, Teredo, 64:ff9b::/96) go by that."`
	Regions  []string       `json:"regions" doc:"Regions or groups for these clients, best first; the others follow by proximity."`
}

// SubnetMap is a list of networks that several services share.
type SubnetMap struct {
	Map     string       `json:"map" doc:"Unique name of the map."`
	Subnets []SubnetRule `json:"subnets" doc:"Networks, and the regions or groups for them; those that a service does not have are passed over."`
}
