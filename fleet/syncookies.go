package fleet

// SynCookies is how layer 4 meets floods of SYNs for the ports of http and
// https services.
type SynCookies struct {
	Mode      SynCookieMode `json:"mode,omitempty" doc:"off; auto: layer 4 answers SYNs with cookies while a VIP is under attack, and any gateway of the region takes them (all gateways need Linux 6.9); always: it answers all; kernel: each gateway answers with cookies of its own kernel while a VIP is under attack (net.ipv4.tcp_syncookies has to be 2 there)." default:"off"`
	Threshold int           `json:"threshold,omitempty" doc:"SYNs a second to one port of one VIP address, on each node, from which on it is under attack (1 to 100000000). The attack is over when there have been less than half as many for ten seconds." default:"10000"`

	KeyGeneration int `json:"key_generation,omitempty" doc:"Generation of the keys of cookies (0 to 1000000000): with another one all keys are others, at once on each node that has the Spec. Nodes take cookies of the generations next to theirs, too: a step of one breaks no connection while it goes through the fleet; a larger one may, under attack." default:"0"`
}

// SynCookieMode is who answers SYNs with cookies, and when.
type SynCookieMode string

// The modes.
const (
	CookiesOff    SynCookieMode = "off"
	CookiesAuto   SynCookieMode = "auto"
	CookiesAlways SynCookieMode = "always"
	CookiesKernel SynCookieMode = "kernel"
)

// Values lists the modes.
func (SynCookieMode) Values() []string { return []string{"off", "auto", "always", "kernel"} }

func (k *SynCookies) fillDefaults() {
	def(&k.Mode, CookiesOff)
	def(&k.Threshold, 10_000)
}

func (k *SynCookies) check(c *checker, at string) {
	c.between(at+".threshold", k.Threshold, 1, 100_000_000)
	c.between(at+".key_generation", k.KeyGeneration, 0, 1_000_000_000)
}

// Cookies gives the settings of a Spec that may have no defence: all of them, also
// where they are off.
func (d *Defence) Cookies() SynCookies {
	var k SynCookies
	if d != nil {
		k = d.SynCookies
	}
	k.fillDefaults()
	return k
}
