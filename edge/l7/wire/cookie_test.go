package wire

import (
	"fmt"
	"testing"
)

func TestCookie(t *testing.T) {
	var h Head
	h.AddID(Cookie, "a=1; b=two;c=; d")
	h.AddID(Cookie, "e=x=y")
	for name, want := range map[string]string{"a": "1", "b": "two", "c": "", "d": "", "e": "x=y", "f": "", "A": ""} {
		if got := string(h.Cookie(name)); got != want {
			t.Errorf("cookie %s is %q, want %q", name, got, want)
		}
	}
	if n := testing.AllocsPerRun(100, func() { h.Cookie("e") }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestJoinCookies(t *testing.T) {
	for _, c := range []struct {
		in   []string // names and values
		want string
	}{
		{nil, ""},
		{[]string{"A", "1"}, "A: 1\n"},
		{[]string{"A", "1", "Cookie", "a=1", "B", "2"}, "A: 1\nCookie: a=1\nB: 2\n"},
		{[]string{"Cookie", "a=1", "B", "2", "cookie", "b=2", "C", "3", "Cookie", ""}, "Cookie: a=1; b=2; \nB: 2\nC: 3\n"},
	} {
		var h Head
		for i := 0; i < len(c.in); i += 2 {
			h.Add(c.in[i], c.in[i+1])
		}
		h.JoinCookies()
		got := ""
		for _, f := range h.Fields {
			got += fmt.Sprintf("%s: %s\n", f.Name, f.Value)
		}
		if got != c.want {
			t.Errorf("%q became %q, expected %q", c.in, got, c.want)
		}
	}
	piece := []byte("a=1")
	// However many there are, they are copied once: a head of few octets may
	// stand for many of them (RFC 7541).
	var h Head
	if n := testing.AllocsPerRun(10, func() {
		h.Reset()
		for range 1000 {
			h.AddBytes(Cookie, piece)
		}
		h.JoinCookies()
	}); n > 1 {
		t.Errorf("%v allocations", n)
	}
}
