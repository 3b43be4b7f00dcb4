package fleet

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

func (c *checker) gateway() {
	c.between("gateway.max_connections", c.spec.Gateway.MaxConnections, 0, 10_000_000)
	list := func(key string, prefixes []netip.Prefix) {
		for i, p := range prefixes {
			at := fmt.Sprintf("gateway.%s[%d]", key, i)
			switch {
			case !p.IsValid():
				c.errs.Addf(at, "expected a network as 192.0.2.0/28 or 2001:db8:1::/64")
			case p.Masked() != p:
				c.errs.Addf(at, "%s has bits beyond its length; expected %s", p, p.Masked())
			}
		}
	}
	list("proxies", c.spec.Gateway.Proxies)
	list("trusted_proxies", c.spec.Gateway.TrustedProxies)
	if t := c.spec.Gateway.Tracing; t != nil {
		c.tracing(t)
	}
}

// mostOneIn is the rarest that something may be asked for, one in so many.
const mostOneIn = 1_000_000

func (c *checker) tracing(t *Tracing) {
	const at = "gateway.tracing"
	if t.Endpoint != "" {
		i := strings.LastIndexByte(t.Endpoint, ':')
		if n, err := strconv.Atoi(t.Endpoint[i+1:]); i < 1 || err != nil || n < 1 || n > 65535 {
			c.errs.Addf(at+".endpoint", "%q: expected HOST:PORT", t.Endpoint)
		}
	} else if t.Logs != 0 || t.TLS {
		c.errs.Addf(at+".endpoint", "is needed where something is to be exported")
	}
	if t.Sample < 0 || t.Sample > mostOneIn {
		c.errs.Addf(at+".sample", "%d: expected 1 to %d", t.Sample, mostOneIn)
	}
	if t.Logs < 0 || t.Logs > mostOneIn {
		c.errs.Addf(at+".logs", "%d: expected 1 to %d", t.Logs, mostOneIn)
	}
}
