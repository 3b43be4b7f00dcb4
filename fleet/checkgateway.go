package fleet

import (
	"fmt"
	"net/netip"
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
}
