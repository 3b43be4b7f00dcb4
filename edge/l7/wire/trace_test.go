package wire

import "testing"

const traceExample = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

// W3C Trace Context, section 3.2.
func TestTraceparent(t *testing.T) {
	for name, tc := range map[string]struct {
		value string
		want  string // as it is written again; "": ignored
	}{
		"the standard's example":    {traceExample, traceExample},
		"not sampled":               {traceExample[:54] + "0", traceExample[:54] + "0"},
		"flags of a later level":    {traceExample[:53] + "ff", traceExample},
		"a later version":           {"cc" + traceExample[2:], traceExample},
		"a later version, longer":   {"cc" + traceExample[2:] + "-what-comes", traceExample},
		"longer without a dash":     {"cc" + traceExample[2:] + "x", ""},
		"version 00, longer":        {traceExample + "-x", ""},
		"version ff":                {"ff" + traceExample[2:], ""},
		"upper case":                {"00-4BF92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", ""},
		"no trace":                  {"00-00000000000000000000000000000000-00f067aa0ba902b7-01", ""},
		"no parent":                 {"00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", ""},
		"short":                     {traceExample[:54], ""},
		"empty":                     {"", ""},
		"other dashes":              {"00_" + traceExample[3:], ""},
		"what is no digit in flags": {traceExample[:53] + "0g", ""},
	} {
		got, ok := ParseTrace([]byte(tc.value))
		if ok != (tc.want != "") {
			t.Errorf("%s: %t", name, ok)
		}
		if ok && string(AppendTrace(nil, &got)) != tc.want {
			t.Errorf("%s: %s", name, AppendTrace(nil, &got))
		}
	}
}
