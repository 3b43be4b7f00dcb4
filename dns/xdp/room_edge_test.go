package xdp

import (
	"fmt"
	"strings"
	"testing"

	"meridian/dns/zone"
)

// Where additional data fits behind short names alone, it is there behind
// those, and not behind longer ones.
func TestAdditionalThatFitsShortNames(t *testing.T) {
	var b strings.Builder
	for i := range 16 {
		host := "h" + strings.Repeat("x", i)
		fmt.Fprintf(&b, "    *.w%c MX 10 %s\n    c%c NS s.c%c\n    c%c NS %s\n    $GENERATE 1-73 %s A 192.0.3.$\n", 'a'+i, host, 'a'+i, 'a'+i, 'a'+i, host, host)
	}
	m := newMachine(t, newPlan(t, strings.Replace(spec, "    caa CAA", b.String()+"    caa CAA", 1), nil))
	for i := range 16 {
		for _, below := range []string{"w", "c"} {
			for n := 1; n < 20; n++ {
				name := fmt.Sprintf("%s.%s%c.demo.test", strings.Repeat("q", n), below, 'a'+i)
				m.compare(t, withOptions(name, zone.TypeMX, n%2 > 0), nobodyPort)
			}
		}
	}
}
