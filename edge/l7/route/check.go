package route

import (
	"fmt"
	"strings"

	"meridian/fleet"
)

// Check notes what the gateways could not serve: hosts that two services of
// one port both want, routes for hosts that are not the service's, routes that
// can never match, https without certificates.
func Check(spec *fleet.Spec, errs *fleet.Errors) {
	owners := map[string]string{} // port and host pattern to the path of its first use
	for i := range spec.Services {
		s, at := &spec.Services[i], fmt.Sprintf("services[%d]", i)
		if !s.Gateway() || s.Protocol == fleet.UDP {
			continue
		}
		if s.Protocol == fleet.HTTPS && len(spec.Certificates) == 0 {
			errs.Addf(at+".protocol", "https needs a certificate; expected at least one under certificates")
		}
		checkHosts(s, at, owners, errs)
		checkRoutes(s, at, errs)
	}
}

func checkHosts(s *fleet.Service, at string, owners map[string]string, errs *fleet.Errors) {
	seen := map[string]string{}
	claim := func(host, path string) {
		for _, p := range s.Ports {
			key := fmt.Sprintf("%s on port %d", host, p)
			if was, ok := owners[key]; ok {
				errs.Addf(path, "%s is already served by %s", key, was)
				continue
			}
			owners[key] = fmt.Sprintf("service %q", s.Service)
		}
	}
	if len(s.Hosts) == 0 {
		claim("any host", at+".hosts")
	}
	for i, h := range s.Hosts {
		path := fmt.Sprintf("%s.hosts[%d]", at, i)
		if !validHost(h, path, errs) {
			continue
		}
		if was, ok := seen[fold(h)]; ok {
			errs.Addf(path, "%q is already at %s", h, was)
			continue
		}
		seen[fold(h)] = path
		claim(fold(h), path)
	}
	if strings.HasPrefix(s.Healthcheck.Host, "*.") && s.Healthcheck.Type != fleet.CheckTCP {
		errs.Addf(at+".healthcheck.host", "expected the host to check, since the service's first host (%s) is a wildcard", s.Healthcheck.Host)
	}
}

// validHost notes a pattern that is not a host name, an address or *.DOMAIN.
func validHost(pattern, path string, errs *fleet.Errors) bool {
	name, err := Host(strings.TrimPrefix(pattern, "*."))
	if err == nil && name != "" && !strings.Contains(pattern, ":") {
		return true
	}
	errs.Addf(path, "%q: expected a host name or *.DOMAIN, without port", pattern)
	return false
}

func checkRoutes(s *fleet.Service, at string, errs *fleet.Errors) {
	seen := map[string]string{}
	for i := range s.Routes {
		r, here := &s.Routes[i], fmt.Sprintf("%s.routes[%d]", at, i)
		before := errs.Len()
		e := compileEntry(r, i, here, errs)
		compileRoute(s, i, here, errs)
		if errs.Len() > before {
			continue
		}
		hosts := r.Hosts
		if len(hosts) == 0 {
			hosts = []string{""}
		}
		for j, h := range hosts {
			path := here
			if h != "" {
				path = fmt.Sprintf("%s.hosts[%d]", here, j)
				if !validHost(h, path, errs) || !ofService(s, h, path, errs) {
					continue
				}
			}
			key := fold(h) + " " + e.identity()
			if was, ok := seen[key]; ok {
				errs.Addf(path, "never matches: hosts, path and conditions are those of %s", was)
				continue
			}
			seen[key] = here
		}
	}
}

func ofService(s *fleet.Service, host, path string, errs *fleet.Errors) bool {
	for _, h := range s.Hosts {
		if covers(h, host) {
			return true
		}
	}
	if len(s.Hosts) == 0 {
		return true
	}
	errs.Addf(path, "%q is not among the service's hosts (%s)", host, strings.Join(s.Hosts, ", "))
	return false
}
