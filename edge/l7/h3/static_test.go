package h3

import (
	"testing"

	"github.com/quic-go/qpack"

	"meridian/edge/l7/wire"
)

// The table is that of an independent implementation.
func TestStaticTableIsTheRFCs(t *testing.T) {
	if len(static) != 99 {
		t.Fatalf("%d entries", len(static))
	}
	for i := range static {
		f, err := qpack.NewDecoder().Decode(wire.AppendInteger([]byte{0, 0}, 0xc0, 6, i))()
		if err != nil || f.Name != static[i].name || f.Value != string(static[i].Value) {
			t.Errorf("%d: %q %q, elsewhere %q %q, %v", i, static[i].name, static[i].Value, f.Name, f.Value, err)
		}
	}
}
