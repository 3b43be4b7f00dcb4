package imports

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"meridian/fleet"
)

// r53Set is one entry of aws route53 list-resource-record-sets.
type r53Set struct {
	Name             string
	Type             string
	TTL              *uint32
	SetIdentifier    string
	Weight           *int
	Region           string
	Failover         string
	MultiValueAnswer bool
	HealthCheckID    string `json:"HealthCheckId"`
	GeoLocation      *struct {
		ContinentCode, CountryCode, SubdivisionCode string
	}
	GeoProximityLocation *struct {
		AWSRegion, LocalZoneGroup string
		Bias                      int
		Coordinates               *struct{ Latitude, Longitude string }
	}
	CidrRoutingConfig *struct{ CollectionID, LocationName string }
	ResourceRecords   []struct{ Value string }
	AliasTarget       *struct {
		HostedZoneID, DNSName string
		EvaluateTargetHealth  bool
	}
}

func (s *r53Set) simple() bool { return s.SetIdentifier == "" }

// Route53 reads the JSON of aws route53 list-resource-record-sets for one
// zone.
func Route53(text []byte) (*Result, error) {
	var doc struct {
		ResourceRecordSets []r53Set
	}
	if err := json.Unmarshal(text, &doc); err != nil {
		return nil, fmt.Errorf("route 53: %w", err)
	}
	apex := slices.IndexFunc(doc.ResourceRecordSets, func(s r53Set) bool { return s.Type == "SOA" })
	if apex < 0 {
		return nil, errors.New("route 53: there is no SOA among the record sets: expected all of one zone")
	}
	name, err := r53Name(doc.ResourceRecordSets[apex].Name)
	if err != nil {
		return nil, fmt.Errorf("route 53: %w", err)
	}
	a := &r53{r: newResult(), zone: name, sets: map[r53Key][]*r53Set{}}
	a.s = newSteering(a.r)
	for i := range doc.ResourceRecordSets {
		s := &doc.ResourceRecordSets[i]
		owner, err := r53Name(s.Name)
		if err != nil || !owner.In(name) {
			a.r.note(s.Name, s.Type, "is not a name in zone %s; it is left out", name)
			continue
		}
		k := r53Key{owner, s.Type}
		if a.sets[k] == nil {
			a.order = append(a.order, k)
		}
		a.sets[k] = append(a.sets[k], s)
	}
	a.write()
	return a.r, nil
}

type r53Key struct {
	name  fleet.Name
	rtype string
}

type r53 struct {
	r     *Result
	s     *steering
	zone  fleet.Name
	sets  map[r53Key][]*r53Set
	order []r53Key
	depth int // of aliases

	followed int // aliases so far
}

// maxFollowed bounds how many references from one choice to another an import
// follows: they may multiply.
const maxFollowed = 10_000

// r53Name reads a name with Route 53's octal escapes.
func r53Name(s string) (fleet.Name, error) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				if c := byte(n); c == '*' || c == '_' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' {
					b.WriteByte(c)
				} else {
					fmt.Fprintf(&b, "\\%03d", n)
				}
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return fleet.ParseName(b.String())
}

func (a *r53) write() {
	var text strings.Builder
	z := fleet.Zone{Zone: a.zone}
	steered := map[fleet.Name]bool{}
	for _, k := range a.order {
		list := a.sets[k]
		at := string(k.name) + " " + k.rtype
		switch {
		case len(list) == 1 && list[0].simple() && list[0].AliasTarget == nil:
			a.records(&text, at, k, list[0])
		case k.rtype != "A" && k.rtype != "AAAA":
			a.r.note(at, "routing policy or alias", "only addresses are steered; it is left out")
		case steered[k.name]:
		default:
			steered[k.name] = true
			a.steer(k.name, &z)
		}
	}
	st, al := z.Steered, z.Aliases
	z.Steered, z.Aliases = nil, nil
	added := a.r.zone("route 53", z, []byte(text.String()))
	added.Steered, added.Aliases = st, al
}

// records writes a plain record set.
func (a *r53) records(w *strings.Builder, at string, k r53Key, s *r53Set) {
	if s.HealthCheckID != "" {
		a.r.note(at, "health check "+s.HealthCheckID, "a plain record is answered whatever its health")
	}
	ttl := uint32(300)
	if s.TTL != nil {
		ttl = *s.TTL
	}
	for _, v := range s.ResourceRecords {
		if strings.ContainsAny(v.Value, "\n\r") {
			a.r.note(at, v.Value, "holds a line break; it is left out")
			continue
		}
		fmt.Fprintf(w, "%s %d IN %s %s\n", k.name, ttl, k.rtype, v.Value)
	}
}

// steer makes the steered name of the A and AAAA sets of a name, or its ALIAS.
func (a *r53) steer(name fleet.Name, z *fleet.Zone) {
	at := string(name)
	var root *pick
	var ttl *uint32
	for _, t := range []string{"A", "AAAA"} {
		list := a.sets[r53Key{name, t}]
		if len(list) == 1 && list[0].simple() && list[0].AliasTarget != nil && a.outside(at, name, list[0], z) {
			return
		}
		p := a.tree(at+" "+t, r53Key{name, t})
		switch {
		case p == nil:
		case root == nil:
			root = p
		case !root.merge(p):
			a.r.note(at, "AAAA", "is chosen in another way than A; A alone is brought over")
		}
		for _, s := range list {
			if ttl == nil {
				ttl = s.TTL
			}
			if s.HealthCheckID != "" {
				a.r.note(at, "health check "+s.HealthCheckID, "set healthcheck of its service")
			}
		}
	}
	if root == nil {
		a.r.note(at, "record sets", "have nothing to steer to; the name is not answered")
		return
	}
	host := strings.TrimSuffix(string(name), ".")
	svc := a.s.service(at, host, []string{host}, root, check{})
	if svc == "" {
		return
	}
	st := fleet.Steered{Name: relative(name, a.zone), Service: svc}
	if ttl != nil && *ttl > 0 {
		st.TTL = fleet.Duration(time.Duration(*ttl) * time.Second)
	}
	z.Steered = append(z.Steered, st)
}

// outside makes an ALIAS of a plain alias to a name that is not in the zone.
func (a *r53) outside(at string, name fleet.Name, s *r53Set, z *fleet.Zone) bool {
	target, err := r53Name(s.AliasTarget.DNSName)
	if err != nil || target.In(a.zone) {
		return false
	}
	if !slices.ContainsFunc(z.Aliases, func(al fleet.Alias) bool { return al.Name == relative(name, a.zone) }) {
		z.Aliases = append(z.Aliases, fleet.Alias{Name: relative(name, a.zone), Target: target})
		if s.AliasTarget.EvaluateTargetHealth {
			a.r.note(at, "EvaluateTargetHealth", "an alias keeps its last good addresses")
		}
	}
	return true
}

// leaf gives the addresses of one record set, following an alias in the zone.
func (a *r53) leaf(at string, k r53Key, s *r53Set) *pick {
	if s.AliasTarget == nil {
		p := &pick{label: s.SetIdentifier}
		if p.label == "" {
			p.label = string(k.name)
		}
		var values []string
		for _, v := range s.ResourceRecords {
			values = append(values, v.Value)
		}
		p.v4, p.v6 = a.r.addresses(at, values)
		if len(p.v4)+len(p.v6) == 0 {
			return nil
		}
		return p
	}
	target, err := r53Name(s.AliasTarget.DNSName)
	if err != nil || !target.In(a.zone) {
		a.r.note(at, "alias to "+s.AliasTarget.DNSName, "a name outside of the zone cannot be one of several choices; it is left out")
		return nil
	}
	if a.depth++; a.depth > maxInclude || a.followed >= maxFollowed {
		a.depth--
		a.r.note(string(k.name)+" "+k.rtype, "alias to "+string(target), "aliases more than %d deep, or too many", maxInclude)
		return nil
	}
	a.followed++
	defer func() { a.depth-- }()
	return a.tree(at, r53Key{target, k.rtype})
}

// tree makes the choice of one name and type; nil where there is nothing.
func (a *r53) tree(at string, k r53Key) *pick {
	list := a.sets[k]
	if len(list) == 0 {
		if a.depth > 0 {
			a.r.note(at, "alias", "there is no such record set")
		}
		return nil
	}
	if len(list) == 1 && list[0].simple() {
		return a.leaf(at, k, list[0])
	}
	p := &pick{label: strings.TrimSuffix(string(k.name), ".")}
	var ranked []*r53Set
	for _, s := range list {
		q := a.leaf(at, k, s)
		if q == nil {
			continue
		}
		if !q.leaf() {
			q.label = s.SetIdentifier
		}
		p.of, ranked = append(p.of, q), append(ranked, s)
	}
	if len(p.of) == 0 {
		return nil
	}
	a.policy(at, p, ranked)
	return p
}

// policy reads the routing policy that the sets of one name have alike.
func (a *r53) policy(at string, p *pick, sets []*r53Set) {
	switch s := sets[0]; {
	case s.Weight != nil:
		p.policy = fleet.Weighted
		for _, s := range sets {
			w := 0
			if s.Weight != nil {
				w = min(max(*s.Weight, 0), 255)
			}
			p.weights = append(p.weights, w)
		}
	case s.Region != "":
		p.policy = fleet.Latency
		for i, s := range sets {
			a.awsRegion(at, p.of[i], s.Region)
		}
	case s.GeoProximityLocation != nil:
		p.policy = fleet.Proximity
		for i, s := range sets {
			a.proximity(at, p.of[i], s)
		}
	case s.Failover != "":
		p.policy = fleet.Failover
		if s.Failover == "SECONDARY" && len(p.of) == 2 {
			p.of[0], p.of[1] = p.of[1], p.of[0]
		}
	case s.GeoLocation != nil:
		a.geo(at, p, sets)
	case s.CidrRoutingConfig != nil:
		p.policy = fleet.Failover
		a.r.note(at, "CIDR collection "+s.CidrRoutingConfig.CollectionID, "its networks are not in the export: write them under steering.subnets; failover is written")
	case s.MultiValueAnswer:
		p.policy, p.records = fleet.All, 8
	default:
		p.policy = fleet.Failover
		a.r.note(at, "routing policy", "is not known; failover in this order is written")
	}
}

func (a *r53) awsRegion(at string, p *pick, region string) {
	if xy, ok := awsRegions[region]; ok {
		p.at(&xy)
		if p.leaf() {
			p.label = region
		}
		return
	}
	a.r.note(at, "region "+region, "where it is is not known")
}

func (a *r53) proximity(at string, p *pick, s *r53Set) {
	g := s.GeoProximityLocation
	switch {
	case g == nil:
		a.r.note(at, s.SetIdentifier, "is of another routing policy than the others")
		return
	case g.AWSRegion != "":
		a.awsRegion(at, p, g.AWSRegion)
	case g.Coordinates != nil:
		p.place([]string{g.Coordinates.Latitude, g.Coordinates.Longitude})
	default:
		a.r.note(at, "local zone group "+g.LocalZoneGroup, "where it is is not known")
	}
	if g.Bias != 0 {
		a.r.note(at, fmt.Sprintf("bias %d of %s", g.Bias, s.SetIdentifier), "is not in kilometres: set steering.bias")
	}
}

func (a *r53) geo(at string, p *pick, sets []*r53Set) {
	p.policy = fleet.Geo
	var fallback *geoRule
	for i, s := range sets {
		rule := geoRule{to: []int{i}}
		g := s.GeoLocation
		switch {
		case g == nil:
			continue
		case g.SubdivisionCode != "":
			rule.Subdivisions = []string{g.CountryCode + "-" + g.SubdivisionCode}
		case g.CountryCode == "*":
			rule.Continents = continents
			fallback = &rule
			continue
		case g.CountryCode != "":
			rule.Countries = []string{g.CountryCode}
		default:
			rule.Continents = []string{g.ContinentCode}
		}
		p.geo = append(p.geo, rule)
	}
	slices.SortStableFunc(p.geo, func(x, y geoRule) int { return narrow(y) - narrow(x) })
	if fallback != nil {
		p.geo = append(p.geo, *fallback)
	} else {
		a.r.note(at, "geolocation without default", "clients elsewhere go to the nearest, where Route 53 gives no answer")
	}
}

// awsRegions are where the regions of AWS are, by city.
var awsRegions = map[string][2]float64{
	"us-east-1": {38.9, -77.4}, "us-east-2": {40.0, -83.0}, "us-west-1": {37.4, -121.9}, "us-west-2": {45.8, -119.7},
	"ca-central-1": {45.5, -73.6}, "ca-west-1": {51.0, -114.1}, "mx-central-1": {20.6, -100.4}, "sa-east-1": {-23.5, -46.6},
	"eu-west-1": {53.3, -6.3}, "eu-west-2": {51.5, -0.1}, "eu-west-3": {48.9, 2.4}, "eu-central-1": {50.1, 8.7}, "eu-central-2": {47.4, 8.5},
	"eu-north-1": {59.3, 18.1}, "eu-south-1": {45.5, 9.2}, "eu-south-2": {41.6, -0.9},
	"ap-northeast-1": {35.7, 139.7}, "ap-northeast-2": {37.6, 127.0}, "ap-northeast-3": {34.7, 135.5}, "ap-southeast-1": {1.35, 103.8},
	"ap-southeast-2": {-33.9, 151.2}, "ap-southeast-3": {-6.2, 106.8}, "ap-southeast-4": {-37.8, 145.0}, "ap-southeast-5": {3.1, 101.7},
	"ap-southeast-7": {13.8, 100.5}, "ap-south-1": {19.1, 72.9}, "ap-south-2": {17.4, 78.5}, "ap-east-1": {22.3, 114.2},
	"me-south-1": {26.1, 50.6}, "me-central-1": {24.5, 54.4}, "il-central-1": {32.1, 34.8}, "af-south-1": {-33.9, 18.4},
}
