package xdp

import (
	"testing"

	"github.com/cilium/ebpf/btf"
)

// Processes of one version find each other's tables, and only those with the same
// contents.
func TestLayoutIsOfTheTablesContents(t *testing.T) {
	read := func() string {
		spec, err := loadEdge()
		if err != nil {
			t.Fatal(err)
		}
		return layout(spec)
	}
	same := read()
	if again := read(); again != same {
		t.Errorf("one program, two layouts: %s, %s", same, again)
	}
	for name, change := range map[string]func(m *btf.Member){
		"renamed": func(m *btf.Member) { m.Name += "x" },
		"moved":   func(m *btf.Member) { m.Offset += 8 },
		"retyped": func(m *btf.Member) { m.Type = &btf.Int{Name: "long", Size: 8} },
	} {
		spec, err := loadEdge()
		if err != nil {
			t.Fatal(err)
		}
		value, ok := btf.As[*btf.Struct](spec.Maps["endpoints"].Value)
		if !ok {
			t.Fatal("endpoints' values are no structs")
		}
		change(&value.Members[len(value.Members)-1])
		if layout(spec) == same {
			t.Errorf("a member is %s, and the layout is the same", name)
		}
	}
}
