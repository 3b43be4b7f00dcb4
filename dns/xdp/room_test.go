package xdp

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"meridian/dns/zone"
	"meridian/internal/testkit"
)

// grown is a zone of so many names whose addresses have a last octet.
func grown(t testing.TB, names, last int) *zone.Zone {
	t.Helper()
	var text strings.Builder
	text.WriteString("$TTL 300\n@ SOA ns1 admin 1 3600 600 86400 60\n@ NS ns1\nns1 A 192.0.2.53\n")
	for i := range names {
		fmt.Fprintf(&text, "host%d A 10.%d.%d.%d\n", i, i>>8, i&255, last)
	}
	z, err := zone.Load("example.test.", []byte(text.String()), "")
	if err != nil {
		t.Fatal(err)
	}
	return z
}

// A zone that outgrows --xdp-memory is the sockets' as a whole from then on,
// and a warning says so; the others stay in the kernel. It is there again when
// it fits.
func TestAZoneOutgrowsItsRoom(t *testing.T) {
	var log testkit.Buffer
	s := newSiteOf(t, newWorld(t, spec), newAtlas(), Config{Device: "eth0", Mode: Native, Memory: 24 * blockSize, Log: slog.New(slog.NewTextHandler(&log, nil))}, false)
	c := s.dialFrom("", siteServer4)
	hosts := func() (out [][]byte) {
		for i := range 300 {
			out = append(out, withOptions(fmt.Sprintf("host%d.example.test", i), zone.TypeA, false), withOptions(fmt.Sprintf("none%d.example.test", i), zone.TypeA, false))
		}
		return append(out, withOptions("example.test", zone.TypeNS, false), withOptions("ns1.example.test", zone.TypeA, false))
	}()
	others := [][]byte{withOptions("mx1.demo.test", zone.TypeA, false), withOptions("www.demo.test", zone.TypeA, false), withOptions("none.demo.test", zone.TypeA, false)}
	for i, step := range []struct {
		names  int
		kernel bool
	}{{1000, true}, {20_000, false}, {20_000, false}, {1000, true}, {20_000, false}, {500, true}} {
		warned := strings.Count(log.String(), "no room in the kernel")
		s.server.SetZone(grown(t, step.names, i))
		s.eventually("told", func() bool { return s.served.Load() == s.server.Plan() })
		if share := s.asks(c, hosts); share > 0 && share < 1 && !step.kernel {
			t.Errorf("step %d: %.0f %% of a zone without room answered in the kernel", i, 100*share)
		}
		want := 0.0
		if step.kernel {
			want = 1
		}
		s.eventually(fmt.Sprintf("step %d: settled", i), func() bool { return s.asks(c, hosts) == want && s.asks(c, others) == 1 })
		if !step.kernel && i != 2 {
			s.eventually("warned", func() bool { return strings.Count(log.String(), "no room in the kernel") > warned })
			if !strings.Contains(log.String(), "example.test.") {
				t.Errorf("the log does not name the zone:\n%s", log.String())
			}
		}
	}
}
