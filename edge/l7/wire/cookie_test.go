package wire

import "testing"

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
