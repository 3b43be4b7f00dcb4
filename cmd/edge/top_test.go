package main

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"
	"time"

	"meridian/edge/sflow"
	"meridian/edge/xdp"
)

func sampleOf(src, reason string, length int) *xdp.Sample {
	return &xdp.Sample{Time: time.Unix(1000, 5), Source: netip.MustParseAddrPort(src), Destination: netip.MustParseAddrPort("198.51.100.1:443"),
		Reason: reason, Length: length, Rate: 10, Head: []byte{1, 2, 3}, Device: 7}
}

// What a look shows is the difference of two readings by the time between
// them, and samples stand for as many packets as their rate says.
func TestLook(t *testing.T) {
	before := &xdp.Traffic{Reasons: map[string]uint64{"tx_tunnel": 100, "drop_rule": 0, "pass_other": 9},
		VIPs: []xdp.VIPTraffic{{VIP: "tcp/198.51.100.1:443", Service: "web", Packets: 100, Octets: 1000}}}
	now := &xdp.Traffic{Reasons: map[string]uint64{"tx_tunnel": 300, "drop_rule": 2000, "pass_other": 9},
		VIPs: []xdp.VIPTraffic{{VIP: "tcp/198.51.100.1:443", Service: "web", Packets: 300, Octets: 21000}, {VIP: "udp/198.51.100.1:53"}}}
	l := lookAt(before, now, []*xdp.Sample{
		sampleOf("192.0.2.1:1000", "drop_rule", 100), sampleOf("192.0.2.1:1001", "drop_rule", 100), sampleOf("192.0.2.2:1000", "tx_tunnel", 60),
		sampleOf("192.0.2.1:1000", "tx_tunnel", 100), {Reason: "pass_other", Rate: 10},
	}, 2, 10)
	if l.Packets != 1100 || l.Dropped != 1000 || len(l.Reasons) != 2 || l.Reasons[0] != (counted{Name: "drop_rule", Packets: 1000}) {
		t.Errorf("packets %v, dropped %v, reasons %v", l.Packets, l.Dropped, l.Reasons)
	}
	if len(l.VIPs) != 1 || l.VIPs[0] != (counted{"tcp/198.51.100.1:443", "web", 100, 80000}) {
		t.Errorf("VIPs %v", l.VIPs)
	}
	if len(l.Talkers) != 2 || l.Talkers[0] != (talker{netip.MustParseAddr("192.0.2.1"), 15, 12000, 10, "198.51.100.1:443", "drop_rule"}) {
		t.Errorf("talkers %v", l.Talkers)
	}
	var b bytes.Buffer
	if err := l.show(&b); err != nil || !strings.Contains(b.String(), "1.1k packets/s, 1.0k dropped") || !strings.Contains(b.String(), "192.0.2.1") {
		t.Errorf("shown as %s, %v", b.String(), err)
	}
	if l := lookAt(now, before, nil, 1, 1); l.Packets != 0 {
		t.Errorf("counters that began anew: %v packets", l.Packets)
	}
}

func TestShort(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 999: "999", 999.6: "1.0k", 99_940: "99.9k", 99_960: "100k", 1_234_567: "1.2M", 2.5e12: "2.5T"} {
		if got := short(v); got != want {
			t.Errorf("%v: %s, expected %s", v, got, want)
		}
	}
}

func TestOutputs(t *testing.T) {
	for reason, want := range map[string]sflow.Output{"pass_local": sflow.OutputHere, "drop_reply": sflow.OutputHere, "tx_tunnel": 7, "drop_no_service": sflow.OutputDropped} {
		if got := outputOf(sampleOf("192.0.2.1:1", reason, 60)); got != want {
			t.Errorf("%s: %x, expected %x", reason, got, want)
		}
	}
	if got := outputOf(&xdp.Sample{Reason: "drop_rule", Defended: true}); got != sflow.OutputDenied {
		t.Errorf("a rule: %x", got)
	}
}
