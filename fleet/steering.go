package fleet

// Steering is how DNS picks regions for the clients of a service.
type Steering struct {
	Policy  SteeringPolicy     `json:"policy,omitempty" doc:"proximity, geo, weighted or failover." default:"proximity"`
	Regions []string           `json:"regions,omitempty" doc:"Candidate regions; for failover, in order." default:"all regions"`
	Geo     []GeoRule          `json:"geo,omitempty" doc:"For policy geo: the first rule that matches the client wins; clients that none matches go by proximity."`
	Weights map[string]int     `json:"weights,omitempty" doc:"For policy weighted: region to weight (0 to 1000000)."`
	Bias    map[string]float64 `json:"bias,omitempty" doc:"For policy proximity: kilometres added to a region's distance (negative draws clients)."`
	Answer  AnswerKind         `json:"answer,omitempty" doc:"Answer with regional or anycast addresses." default:"regional"`
	Records int                `json:"records,omitempty" doc:"How many regions an answer holds at most (1 to 8)." default:"1"`
	AllDown AllDown            `json:"all_down,omitempty" doc:"Where health leaves no region: fail_open or fail_closed." default:"fail_open"`
}

// GeoRule sends the clients of some places to regions in order.
type GeoRule struct {
	Continents   []string `json:"continents,omitempty" doc:"AF, AN, AS, EU, NA, OC, SA."`
	Countries    []string `json:"countries,omitempty" doc:"ISO 3166-1 two-letter codes."`
	Subdivisions []string `json:"subdivisions,omitempty" doc:"ISO 3166-2 codes, as US-CA."`
	ASNs         []uint32 `json:"asns,omitempty" doc:"AS numbers of client networks."`
	Regions      []string `json:"regions" doc:"Regions for these clients, best first; the others follow by proximity."`
}
