package verdict

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"

	"meridian/fleet"
)

func sampleHoldings(limits int) HoldingsFrame {
	f := HoldingsFrame{Node: "fra-edge-1", Incarnation: 7, Seq: 42, List: make([]fleet.Holding, limits)}
	for i := range f.List {
		f.List[i] = fleet.Holding{Limit: uint64(i) << 40, Demand: uint32(i), Held: ^uint32(i)}
	}
	return f
}

func TestHoldingsSurviveTheWire(t *testing.T) {
	for _, n := range []int{0, 1, fleet.MaxHoldings} {
		f := sampleHoldings(n)
		f.Node = strings.Repeat("n", maxNameLen)
		b := f.Append(nil)
		if len(b) > MaxFrame {
			t.Errorf("%d limits: %d octets", n, len(b))
		}
		if got, err := ParseHoldings(b); err != nil || !reflect.DeepEqual(*got, f) {
			t.Errorf("%d limits: %+v, %v", n, got, err)
		}
	}
}

func TestHoldingsRefuseOtherOctets(t *testing.T) {
	f := sampleHoldings(3)
	good := f.Append(nil)
	for name, spoil := range map[string]func(b []byte) []byte{
		"empty":         func([]byte) []byte { return nil },
		"short":         func(b []byte) []byte { return b[:len(b)-1] },
		"long":          func(b []byte) []byte { return append(b, 0) },
		"other version": func(b []byte) []byte { b[0] = 3; return b },
		"no node":       func(b []byte) []byte { b[1] = 0; return b },
		"too many limits": func(b []byte) []byte {
			b[2] = fleet.MaxHoldings + 1
			return append(b, make([]byte, 16*(fleet.MaxHoldings-2))...)
		},
		"name with a newline": func(b []byte) []byte { b[holdingsHeader] = '\n'; return b },
	} {
		if _, err := ParseHoldings(spoil(bytes.Clone(good))); !errors.Is(err, ErrFrame) {
			t.Errorf("%s: got %v, want ErrFrame", name, err)
		}
	}
}

func FuzzParseHoldings(f *testing.F) {
	for _, n := range []int{0, 3} {
		s := sampleHoldings(n)
		f.Add(s.Append(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		fr, err := ParseHoldings(b)
		if err != nil {
			return
		}
		if again := fr.Append(nil); !bytes.Equal(again, b) {
			t.Errorf("parsed and appended again:\n% x\nwas\n% x", again, b)
		}
	})
}
