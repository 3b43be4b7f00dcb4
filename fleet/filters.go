package fleet

// Filters is what a gateway does with requests and answers on their way, in
// the order: maintenance, access, methods and sizes, CORS, basic
// authentication, JWT, forward_auth, request fields; then of the answer: error
// pages, answer fields, HSTS, compression.
type Filters struct {
	Maintenance   *Maintenance  `json:"maintenance,omitempty" doc:"Answer every request with a maintenance page." default:"off"`
	Access        []string      `json:"access,omitempty" doc:"Which client addresses are served: PREFIX or an address, with ! before it to refuse. The first line that fits decides; a client that none fits is served where all lines refuse." default:"all"`
	Bounds        *Bounds       `json:"bounds,omitempty" doc:"Limits on single requests."`
	CORS          *CORS         `json:"cors,omitempty" doc:"Answer cross-origin preflight requests, and let scripts of other origins read answers." default:"left to endpoints"`
	BasicAuth     *BasicAuth    `json:"basic_auth,omitempty" doc:"Ask for a user name and password." default:"none"`
	JWT           *JWT          `json:"jwt,omitempty" doc:"Ask for a JSON Web Token." default:"none"`
	ForwardAuth   *ForwardAuth  `json:"forward_auth,omitempty" doc:"Ask another pool whether a request may pass." default:"none"`
	RequestFields *FieldChanges `json:"request_fields,omitempty" doc:"Changes to the header that endpoints get."`
	AnswerFields  *FieldChanges `json:"answer_fields,omitempty" doc:"Changes to the header that clients get."`
	ErrorPages    []ErrorPage   `json:"error_pages,omitempty" doc:"Bodies in place of those of failed requests. The first line that fits decides." default:"a line of text"`
	HSTS          *HSTS         `json:"hsts,omitempty" doc:"Strict-Transport-Security in answers over https, where the endpoint has sent none." default:"on"`
	Compression   *Compression  `json:"compression,omitempty" doc:"Compress answers that are not yet." default:"off"`
	Stale         *Stale        `json:"stale_if_error,omitempty" doc:"Answer from memory when no endpoint answers (RFC 5861)." default:"off"`
}

// Maintenance answers in place of endpoints.
type Maintenance struct {
	On         bool     `json:"on,omitempty" doc:"Whether it is in force." default:"false"`
	Status     int      `json:"status,omitempty" doc:"Status code (200 to 599)." default:"503"`
	RetryAfter Duration `json:"retry_after,omitempty" doc:"Retry-After in the answer; 0 for none." default:"0s"`
	Body       string   `json:"body,omitempty" doc:"Text, or file:PATH (relative to the Spec), up to 1 MiB." default:"a line of text"`
	Except     []string `json:"except,omitempty" doc:"Client addresses and prefixes that are served all the same." default:"none"`
}

// Bounds are limits on single requests.
type Bounds struct {
	Body    int64    `json:"body,omitempty" doc:"Octets of a request's body; more is refused with 413." default:"that of the gateway"`
	Header  int      `json:"header,omitempty" doc:"Octets of a request's header fields, names and values; more is refused with 431." default:"that of the gateway"`
	Methods []string `json:"methods,omitempty" doc:"Methods that are served; others are refused with 405." default:"all"`
	MinRate int      `json:"min_rate,omitempty" doc:"Octets a second that a request's body must bring, after the first 5 seconds; slower ones are ended with 408." default:"none"`
}

// CORS is what scripts of other origins may do (Fetch standard).
type CORS struct {
	Origins     []string `json:"origins" doc:"Origins such as https://app.example.com, or https://*.example.com, or * for any."`
	Methods     []string `json:"methods,omitempty" doc:"Methods allowed." default:"[GET, HEAD, POST]"`
	Headers     []string `json:"headers,omitempty" doc:"Request fields allowed; * for those asked for." default:"none"`
	Expose      []string `json:"expose,omitempty" doc:"Answer fields that scripts may read." default:"none"`
	Credentials bool     `json:"credentials,omitempty" doc:"Whether requests may carry cookies and the like; not with any origin." default:"false"`
	MaxAge      Duration `json:"max_age,omitempty" doc:"How long a browser may remember." default:"10m0s"`
}

// BasicAuth asks for a user name and password (RFC 7617).
type BasicAuth struct {
	Off   bool   `json:"off,omitempty" doc:"Ask for none, where the service does." default:"false"`
	Users Secret `json:"users" doc:"Users, a line NAME:HASH each, as htpasswd -B writes them: file:PATH (relative to the Spec) or env:NAME. Hashes of bcrypt and argon2id."`
	Realm string `json:"realm,omitempty" doc:"What is shown to people who are asked." default:"the service's name"`
	Keep  bool   `json:"keep,omitempty" doc:"Pass the Authorization field on to endpoints." default:"false"`
	Field string `json:"field,omitempty" doc:"Request field that tells endpoints the user's name." default:"none"`
}

// JWT asks for a JSON Web Token (RFC 7519, 7515).
type JWT struct {
	Off       bool              `json:"off,omitempty" doc:"Ask for none, where the service does." default:"false"`
	Keys      Secret            `json:"keys" doc:"A JWK Set (RFC 7517): file:PATH (relative to the Spec) or env:NAME. Keys of RSA, P-256, Ed25519 or of 32 octets and more (HS256)."`
	Issuer    string            `json:"issuer,omitempty" doc:"What iss must be." default:"anything"`
	Audiences []string          `json:"audiences,omitempty" doc:"aud must hold one of these." default:"anything"`
	Leeway    Duration          `json:"leeway,omitempty" doc:"How far clocks may differ (up to 10m)." default:"30s"`
	Cookie    string            `json:"cookie,omitempty" doc:"Cookie that holds the token where there is no Authorization: Bearer." default:"none"`
	Claims    map[string]string `json:"claims,omitempty" doc:"Claims that endpoints are told: request field to claim. Texts, numbers and true or false; those fields of clients are removed."`
	Optional  bool              `json:"optional,omitempty" doc:"Let requests without a token pass; a wrong one is refused all the same." default:"false"`
	Keep      bool              `json:"keep,omitempty" doc:"Pass the Authorization field on to endpoints." default:"false"`
}

// ForwardAuth asks a pool whether a request may pass.
type ForwardAuth struct {
	Off      bool     `json:"off,omitempty" doc:"Ask nobody, where the service does." default:"false"`
	Pool     string   `json:"pool" doc:"Id of the pool that is asked: GET with the request's header, and what was asked in X-Forwarded-Method, -Proto, -Host, -Uri. An answer 2xx lets it pass, another one goes to the client."`
	Path     string   `json:"path,omitempty" doc:"Path that it is asked at." default:"/"`
	Copy     []string `json:"copy,omitempty" doc:"Fields of its answer that endpoints get; those of clients are removed." default:"none"`
	Timeout  Duration `json:"timeout,omitempty" doc:"Limit of asking (10ms to 1m)." default:"2s"`
	FailOpen bool     `json:"fail_open,omitempty" doc:"Let requests pass while it does not answer, in place of 503." default:"false"`
}

// FieldChanges are changes to a header, in the order remove, set, add.
type FieldChanges struct {
	Remove []string          `json:"remove,omitempty" doc:"Fields to take away."`
	Set    map[string]string `json:"set,omitempty" doc:"Fields to put in place of those of that name. Values may hold {client_ip}, {request_id}, {region}, {node}, {service}, {route}, {host}, {method}, {path}, {query}, {scheme}; {{ stands for a brace."`
	Add    map[string]string `json:"add,omitempty" doc:"Fields to add to those of that name, likewise."`
}

// ErrorPage is the body of failed requests.
type ErrorPage struct {
	Status      []string `json:"status" doc:"Status codes: single (404) or a class (5xx)."`
	Body        string   `json:"body" doc:"Text, or file:PATH (relative to the Spec), up to 1 MiB. {status} and {request_id} are filled in."`
	ContentType string   `json:"content_type,omitempty" doc:"Content-Type of the body." default:"text/html where the body begins with <, else text/plain; both in UTF-8"`
	Endpoints   bool     `json:"endpoints,omitempty" doc:"In place of endpoints' bodies too, not only of the gateway's own." default:"false"`
}

// HSTS is HTTP Strict Transport Security (RFC 6797).
type HSTS struct {
	Off               bool     `json:"off,omitempty" doc:"Send none." default:"false"`
	MaxAge            Duration `json:"max_age,omitempty" doc:"How long clients shall come by https alone (1s to 87600h)." default:"24h0m0s"`
	IncludeSubdomains bool     `json:"include_subdomains,omitempty" doc:"Also to all names below." default:"false"`
	Preload           bool     `json:"preload,omitempty" doc:"Agree to be in browsers' lists; needs include_subdomains and a year." default:"false"`
}

// Compression compresses answers.
type Compression struct {
	Off       bool     `json:"off,omitempty" doc:"Compress nothing, where the service does." default:"false"`
	Encodings []Coding `json:"encodings,omitempty" doc:"br, zstd and gzip, the preferred first." default:"[zstd, br, gzip]"`
	Types     []string `json:"types,omitempty" doc:"Media types, as text/html or text/*." default:"text, JSON, XML, JavaScript, SVG, WebAssembly and the like"`
	MinLength int      `json:"min_length,omitempty" doc:"Octets of the shortest body to compress (1 to 1048576); bodies of unknown length are compressed." default:"1024"`
}

// Coding is a content coding of answers (RFC 9110 section 8.4.1).
type Coding string

// The codings.
const (
	Gzip   Coding = "gzip"
	Brotli Coding = "br"
	Zstd   Coding = "zstd"
)

// Values lists the codings.
func (Coding) Values() []string { return []string{"gzip", "br", "zstd"} }

// Stale answers from memory when no endpoint answers.
type Stale struct {
	Off     bool     `json:"off,omitempty" doc:"Keep nothing, where the service does." default:"false"`
	For     Duration `json:"for,omitempty" doc:"How long after it went stale an answer may be used (1s to 168h)." default:"1h0m0s"`
	Size    int      `json:"size,omitempty" doc:"Octets that a gateway keeps for the service (65536 to 1073741824)." default:"67108864"`
	MaxBody int      `json:"max_body,omitempty" doc:"Octets of the longest body that is kept (1 to 16777216)." default:"1048576"`
}

// TrustedField is the field that trusted proxies speak by.
type TrustedField string

// The fields of trusted proxies.
const (
	TrustXForwardedFor TrustedField = "x_forwarded_for"
	TrustForwarded     TrustedField = "forwarded"
)

// Values lists the fields of trusted proxies.
func (TrustedField) Values() []string { return []string{"x_forwarded_for", "forwarded"} }
