package transfer

import (
	"log/slog"
	"net/netip"
	"sync"
	"testing"

	"github.com/miekg/dns"

	"meridian/dns/zone"
	"meridian/fleet"
	"meridian/internal/testkit"
)

// An answer to the news of a version that comes after the zone has changed
// again does not end the news of that.
func TestAnOldAnswerEndsNoNewNotice(t *testing.T) {
	n := newNotifier(slog.New(slog.DiscardHandler), newMetrics())
	defer n.close()
	var readers sync.WaitGroup
	to := peer{Peer: fleet.Peer{Address: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), testkit.FreePort(t, "127.0.0.1"))}}
	key := noticeKey{"a.test.", to.Address}
	change := func(serial int) {
		t.Helper()
		z, err := zone.Load("a.test.", []byte(small("a.test.", serial)), "f")
		if err != nil {
			t.Fatal(err)
		}
		n.changed(z, []peer{to})
	}
	answer := func(id uint16) {
		t.Helper()
		m := new(dns.Msg).SetNotify("a.test.")
		m.Id, m.Response = id, true
		n.acknowledged(to.Address, pack(t, m))
	}
	change(1)
	n.send(t.Context(), n.notices[key], &readers)
	old := n.notices[key].id
	change(2)
	answer(old)
	if n.notices[key] == nil {
		t.Fatal("the news of serial 2 were dropped")
	}
	n.send(t.Context(), n.notices[key], &readers)
	answer(n.notices[key].id)
	if n.notices[key] != nil {
		t.Error("the news were not acknowledged")
	}
}
