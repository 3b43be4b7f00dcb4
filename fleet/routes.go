package fleet

// Route says what is done with the requests that match all of its conditions:
// exactly one of Pool, Split, Redirect and Answer.
type Route struct {
	Name      string       `json:"name,omitempty" doc:"Name to show to people, in metrics and explanations." default:"its place in the list"`
	Hosts     []string     `json:"hosts,omitempty" doc:"Only requests for these of the service's hosts: exact, or *.DOMAIN." default:"all"`
	Path      string       `json:"path,omitempty" doc:"Path prefix, on whole segments." default:"/, unless path_exact or path_regex is given"`
	PathExact string       `json:"path_exact,omitempty" doc:"The whole path, in place of a prefix."`
	PathRegex string       `json:"path_regex,omitempty" doc:"Regular expression (RE2) for the whole path, in place of a prefix."`
	Methods   []string     `json:"methods,omitempty" doc:"Only requests with one of these methods." default:"all"`
	Headers   []FieldMatch `json:"headers,omitempty" doc:"Conditions on header fields. All must hold."`
	Query     []FieldMatch `json:"query,omitempty" doc:"Conditions on parameters of the query, in their decoded form. All must hold."`
	Cookies   []FieldMatch `json:"cookies,omitempty" doc:"Conditions on cookies. All must hold."`

	Pool     string       `json:"pool,omitempty" doc:"Id of the pool that serves."`
	Split    *Split       `json:"split,omitempty" doc:"Pools that serve a share each, in place of pool."`
	Redirect *Redirect    `json:"redirect,omitempty" doc:"Send the client elsewhere, in place of pool."`
	Answer   *FixedAnswer `json:"answer,omitempty" doc:"Answer from the Spec, in place of pool."`

	Connect bool `json:"connect,omitempty" doc:"Pass CONNECT on to the pool's endpoints, which are proxies, and carry the tunnels that they open. Else it gets 405. For pools without protocol h2; the path is /." default:"false"`

	Rewrite  *Rewrite       `json:"rewrite,omitempty" doc:"What endpoints are asked in place of what the client asks." default:"the same"`
	Mirror   *Mirror        `json:"mirror,omitempty" doc:"Send copies of requests to another pool, whose answers are dropped." default:"none"`
	Timeouts *RouteTimeouts `json:"timeouts,omitempty" doc:"Limits on time of this route." default:"the service's"`
	Retries  *Retries       `json:"retries,omitempty" doc:"How failed tries of this route are repeated; the budget stays the service's." default:"the service's"`
	Filters  *Filters       `json:"filters,omitempty" doc:"As the service's filters; each key given here goes in place of the service's." default:"the service's"`
}

// FieldMatch is a condition on a header field, a query parameter or a cookie:
// at most one of Value, Prefix, Regex and Absent. None: it must be there.
type FieldMatch struct {
	Name   string  `json:"name" doc:"Name of the field, parameter or cookie; header fields in any case."`
	Value  *string `json:"value,omitempty" doc:"The whole value."`
	Prefix string  `json:"prefix,omitempty" doc:"What the value begins with."`
	Regex  string  `json:"regex,omitempty" doc:"Regular expression (RE2) for the whole value."`
	Absent bool    `json:"absent,omitempty" doc:"It must not be there." default:"false"`
}

// Split shares requests among pools by weight.
type Split struct {
	Pools  []Share `json:"pools" doc:"The pools and their weights. At least one."`
	By     SplitBy `json:"by,omitempty" doc:"request: each request for itself; client: by the client's address, the same pool each time; cookie: by the value of cookie, which is set where it is missing." default:"request"`
	Cookie string  `json:"cookie,omitempty" doc:"Name of the cookie of by: cookie." default:"meridian_split"`
}

// Share is one pool of a Split.
type Share struct {
	Pool   string `json:"pool" doc:"Id of the pool."`
	Weight *int   `json:"weight,omitempty" doc:"Its share relative to the others (0 to 1000000)." default:"1"`
}

// SplitBy is what of a request decides its share.
type SplitBy string

// The ways to split.
const (
	SplitByRequest SplitBy = "request"
	SplitByClient  SplitBy = "client"
	SplitByCookie  SplitBy = "cookie"
)

// Values lists the ways to split.
func (SplitBy) Values() []string { return []string{"request", "client", "cookie"} }

// Redirect sends a client elsewhere. What is not given stays as the client
// asked for it.
type Redirect struct {
	Scheme    string `json:"scheme,omitempty" doc:"http or https." default:"the request's"`
	Host      string `json:"host,omitempty" doc:"Host name, or HOST:PORT." default:"the request's"`
	Path      string `json:"path,omitempty" doc:"The whole path." default:"the request's"`
	Prefix    string `json:"prefix,omitempty" doc:"What goes in place of the route's path prefix." default:"the request's"`
	DropQuery bool   `json:"drop_query,omitempty" doc:"Leave the query out." default:"false"`
	Status    int    `json:"status,omitempty" doc:"301, 302, 303, 307 or 308." default:"302"`
}

// FixedAnswer is an answer that stands in the Spec.
type FixedAnswer struct {
	Status      int    `json:"status,omitempty" doc:"Status code (200 to 599)." default:"200"`
	Body        string `json:"body,omitempty" doc:"Text, or file:PATH (relative to the Spec), up to 1 MiB." default:"none"`
	ContentType string `json:"content_type,omitempty" doc:"Content-Type of the body." default:"text/html where the body begins with <, else text/plain; both in UTF-8"`
}

// Rewrite changes what endpoints are asked. Prefix and Regex exclude each other.
type Rewrite struct {
	Host        string  `json:"host,omitempty" doc:"Host that endpoints are asked for." default:"the request's"`
	Prefix      *string `json:"prefix,omitempty" doc:"What goes in place of the route's path prefix; empty takes it away." default:"the request's"`
	Regex       string  `json:"regex,omitempty" doc:"Regular expression (RE2) whose first match in the path is replaced."`
	Replacement string  `json:"replacement,omitempty" doc:"What regex's match becomes; $1 or ${name} stand for its groups."`
}

// Mirror sends copies of requests to another pool.
type Mirror struct {
	Pool    string   `json:"pool" doc:"Id of the pool that gets the copies."`
	Percent *float64 `json:"percent,omitempty" doc:"Share of requests that are copied, in percent (0 to 100). Requests with a body of more than 64 KiB, and those in excess of what the pool takes, are not copied." default:"100"`
}

// RouteTimeouts are a route's own limits on time.
type RouteTimeouts struct {
	Request *Duration `json:"request,omitempty" doc:"From the request's header to the response's end; 0 for no limit." default:"the service's"`
}

// Serves says whether the route passes requests to endpoints.
func (r *Route) Serves() bool { return r.Pool != "" || r.Split != nil }
