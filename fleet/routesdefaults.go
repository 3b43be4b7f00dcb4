package fleet

import "time"

// fillRouteDefaults completes routes and filters of an http or https service.
func (s *Service) fillRouteDefaults() {
	if len(s.Routes) == 0 && len(s.Pools) > 0 && s.Protocol.Gateway() {
		s.Routes = []Route{{Pool: s.Pools[0].ID}}
	}
	s.Filters.fillDefaults(s)
	for i := range s.Routes {
		s.Routes[i].fillDefaults(s)
	}
}

func (r *Route) fillDefaults(s *Service) {
	if r.PathExact == "" && r.PathRegex == "" {
		def(&r.Path, "/")
	}
	if sp := r.Split; sp != nil {
		def(&sp.By, SplitByRequest)
		if sp.By == SplitByCookie {
			def(&sp.Cookie, "meridian_split")
		}
		for i := range sp.Pools {
			if sp.Pools[i].Weight == nil {
				sp.Pools[i].Weight = ptr(1)
			}
		}
	}
	if r.Redirect != nil {
		def(&r.Redirect.Status, 302)
	}
	if r.Answer != nil {
		def(&r.Answer.Status, 200)
	}
	if r.Mirror != nil && r.Mirror.Percent == nil {
		r.Mirror.Percent = ptr(100.0)
	}
	if r.Retries != nil {
		r.Retries.fillDefaults()
	}
	if r.Filters != nil {
		r.Filters.fillDefaults(s)
	}
}

func (f *Filters) fillDefaults(s *Service) {
	if f.Maintenance != nil {
		def(&f.Maintenance.Status, 503)
	}
	if c := f.CORS; c != nil {
		def(&c.MaxAge, Duration(10*time.Minute))
		if len(c.Methods) == 0 {
			c.Methods = []string{"GET", "HEAD", "POST"}
		}
	}
	if f.BasicAuth != nil {
		def(&f.BasicAuth.Realm, s.Service)
	}
	if f.JWT != nil {
		def(&f.JWT.Leeway, Duration(30*time.Second))
	}
	if f.ForwardAuth != nil {
		def(&f.ForwardAuth.Path, "/")
		def(&f.ForwardAuth.Timeout, Duration(2*time.Second))
	}
	if f.HSTS != nil {
		def(&f.HSTS.MaxAge, Duration(24*time.Hour))
	}
	if c := f.Compression; c != nil {
		def(&c.MinLength, 1024)
		if len(c.Encodings) == 0 {
			c.Encodings = []Coding{Zstd, Brotli, Gzip}
		}
	}
	if f.Stale != nil {
		def(&f.Stale.For, Duration(time.Hour))
		def(&f.Stale.Size, 64<<20)
		def(&f.Stale.MaxBody, 1<<20)
	}
}

func (r *Retries) fillDefaults() {
	if r.Attempts == nil {
		r.Attempts = ptr(2)
	}
	if r.BudgetPercent == nil {
		r.BudgetPercent = ptr(20)
	}
	if r.NextRegion == nil {
		r.NextRegion = ptr(true)
	}
	if len(r.RetryOn) == 0 {
		r.RetryOn = []string{"connect_failure", "reset", "503"}
	}
}

// twin is the port at which plain HTTP comes by custom for https at 443.
const twin = 80

// fillTwins says which https services redirect from plain HTTP.
func (s *Spec) fillTwins() {
	taken := false
	for i := range s.Services {
		svc := &s.Services[i]
		taken = taken || svc.Protocol != HTTP && svc.Protocol != UDP && (svc.AllPorts || contains(svc.Ports, twin))
	}
	for i := range s.Services {
		if svc := &s.Services[i]; svc.Protocol == HTTPS && svc.RedirectHTTP == nil && contains(svc.Ports, 443) {
			svc.RedirectHTTP = ptr(!taken)
		}
	}
}

// Twin gives the port at which gateways redirect to the service from plain
// HTTP, 0 where they do not.
func (s *Service) Twin() uint16 {
	if s.Protocol == HTTPS && s.RedirectHTTP != nil && *s.RedirectHTTP {
		return twin
	}
	return 0
}
