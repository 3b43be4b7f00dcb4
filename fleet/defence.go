package fleet

// Defence is what layer 4 does against floods before it forwards a packet for
// a VIP, in the order of its fields.
type Defence struct {
	SynCookies SynCookies `json:"syn_cookies,omitzero" doc:"Floods of SYNs that the other means leave."`
}

func (d *Defence) fillDefaults() { d.SynCookies.fillDefaults() }

func (c *checker) defence() {
	d := c.spec.Defence
	if d == nil {
		return
	}
	d.SynCookies.check(c, "defence.syn_cookies")
}
