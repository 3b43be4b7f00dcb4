package verdict

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"meridian/fleet"
)

func sampleFrame(cells int) Frame {
	f := Frame{
		Node: "fra-gslb-1", Region: "fra", Roles: []fleet.Role{fleet.RoleDNS, fleet.RoleProbe}, Observer: Prober,
		Incarnation: 7, Seq: 42, Revision: 12, Hash: [8]byte{1, 2}, List: [8]byte{3, 4},
	}
	all := make([]Cell, cells)
	for i := range all {
		all[i] = Cell{fleet.State(i % 4), fleet.Cause(i % 16), latencyOf(uint16(i % 1024))}
	}
	return f.Shards(all)[0]
}

func TestFrameSurvivesTheWire(t *testing.T) {
	for _, n := range []int{0, 1, 13, ShardTargets} {
		f := sampleFrame(n)
		b := f.Append(nil)
		got, err := ParseFrame(b)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(*got, f) {
			t.Errorf("%d cells: got %+v, want %+v", n, *got, f)
		}
	}
}

func TestFrameFitsOnePacket(t *testing.T) {
	f := sampleFrame(ShardTargets)
	f.Node, f.Region = strings.Repeat("n", 63), strings.Repeat("r", 63)
	if n := len(f.Append(nil)); n > MaxFrame {
		t.Errorf("the largest frame has %d octets, limit %d", n, MaxFrame)
	}
}

func TestShardsCoverTheList(t *testing.T) {
	for _, n := range []int{0, 1, ShardTargets, ShardTargets + 1, 3 * ShardTargets} {
		cells := make([]Cell, n)
		next := 0
		for _, f := range (Frame{Node: "a"}).Shards(cells) {
			if f.Offset != next || f.Total != n {
				t.Fatalf("%d cells: shard at %d of %d, want at %d", n, f.Offset, f.Total, next)
			}
			if _, err := ParseFrame(f.Append(nil)); err != nil {
				t.Fatal(err)
			}
			next += len(f.Cells)
		}
		if next != n {
			t.Errorf("shards hold %d of %d cells", next, n)
		}
	}
}

func TestFrameRefusesOtherOctets(t *testing.T) {
	f := sampleFrame(3)
	good := f.Append(nil)
	for name, spoil := range map[string]func(b []byte) []byte{
		"empty":               func([]byte) []byte { return nil },
		"short":               func(b []byte) []byte { return b[:len(b)-1] },
		"long":                func(b []byte) []byte { return append(b, 0) },
		"other version":       func(b []byte) []byte { b[0] = 2; return b },
		"unknown observer":    func(b []byte) []byte { b[1] = 9; return b },
		"unknown role":        func(b []byte) []byte { b[2] |= 0x80; return b },
		"no node":             func(b []byte) []byte { b[4] += b[3]; b[3] = 0; return b },
		"huge list":           func(b []byte) []byte { b[45] = 0xff; return b },
		"offset inside":       func(b []byte) []byte { b[52] = 1; return b },
		"name with a newline": func(b []byte) []byte { b[frameHeader] = '\n'; return b },
	} {
		if _, err := ParseFrame(spoil(bytes.Clone(good))); !errors.Is(err, ErrFrame) {
			t.Errorf("%s: got %v, want ErrFrame", name, err)
		}
	}
}

func TestLatencyScale(t *testing.T) {
	for d := 10 * time.Microsecond; d < 60*time.Second; d += d / 7 {
		got := latencyOf(latencyCode(d))
		if e := float64(got-d) / float64(d); e > 0.01 || e < -0.01 {
			t.Errorf("%s comes back as %s", d, got)
		}
	}
	for code := range uint16(1024) {
		if got := latencyCode(latencyOf(code)); got != code {
			t.Errorf("code %d comes back as %d", code, got)
		}
	}
	if latencyCode(0) != 0 || latencyCode(time.Hour) != 1023 || latencyCode(1) != 1 {
		t.Error("the scale's ends are not clamped")
	}
}

func FuzzParseFrame(f *testing.F) {
	for _, n := range []int{0, 3, ShardTargets} {
		s := sampleFrame(n)
		f.Add(s.Append(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		fr, err := ParseFrame(b)
		if err != nil {
			return
		}
		if again := fr.Append(nil); !bytes.Equal(again, b) {
			t.Errorf("parsed and appended again:\n% x\nwas\n% x", again, b)
		}
	})
}

func BenchmarkParseFrame(b *testing.B) {
	f := sampleFrame(ShardTargets)
	wire := f.Append(nil)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseFrame(wire); err != nil {
			b.Fatal(err)
		}
	}
}
