package wire

import (
	"fmt"
	"strings"
	"testing"
)

// unchunk runs the decoder over octets that come in steps.
func unchunk(in []byte, step int) (body []byte, c *Chunks, rest int, f Fault) {
	c = new(Chunks)
	at := 0
	for end := min(step, len(in)); ; end = min(end+step, len(in)) {
		for {
			data, n, f := c.Next(in[at:end])
			body = append(body, data...)
			at += n
			if f != NoFault || c.Ended() {
				return body, c, len(in) - at, f
			}
			if n == 0 {
				break
			}
		}
		if end == len(in) {
			return body, c, len(in) - at, NoFault
		}
	}
}

func TestChunks(t *testing.T) {
	for in, want := range map[string]string{
		"0\r\n\r\n":                              "ended",
		"5\r\nhello\r\n0\r\n\r\n":                "hello ended",
		"5;a=b;c=\"d\"\r\nhello\r\n0\r\n\r\nGET": "hello ended 3 left",
		"5\r\nhello\r\n6\r\n world\r\n00\r\nX-Sum: 1\r\nX: 2\r\n\r\n": "hello world ended trailers X-Sum X",
		"5\r\nhello\r\n":                              "hello",
		"a\r\nhello":                                  "hello",
		"5\nhello\r\n0\r\n\r\n":                       "bare_lf",
		"5\r\nhello\n0\r\n\r\n":                       "hello chunk",
		"5\r\nhelloX0\r\n\r\n":                        "hello chunk",
		"5\r\nhello\r\n0\r\n\n":                       "hello bare_lf",
		"5 \r\nhello\r\n0\r\n\r\n":                    "chunk",
		" 5\r\nhello\r\n0\r\n\r\n":                    "chunk",
		"+5\r\nhello\r\n0\r\n\r\n":                    "chunk",
		"-5\r\nhello\r\n0\r\n\r\n":                    "chunk",
		"0x5\r\nhello\r\n0\r\n\r\n":                   "chunk",
		"\r\nhello":                                   "chunk",
		"5;a\x00\r\nhello\r\n0\r\n\r\n":               "chunk",
		"5;a\rb\r\nhello\r\n0\r\n\r\n":                "chunk",
		"10000000000000005\r\nhello":                  "chunk",
		"5;" + strings.Repeat("a", 600) + "\r\nhello": "chunk",
		"0\r\nContent-Length: 5\r\n\r\n":              "trailer",
		"0\r\nHost: b.test\r\n\r\n":                   "trailer",
		"0\r\nX : b\r\n\r\n":                          "field_name",
		"0\r\n X: b\r\n\r\n":                          "folded_field",
		"0\r\nX: b\n\r\n":                             "bare_lf",
	} {
		for _, step := range []int{len(in), 1, 3} {
			body, c, rest, f := unchunk([]byte(in), step)
			var got []string
			if len(body) > 0 {
				got = append(got, string(body))
			}
			if f != NoFault {
				got = append(got, f.String())
			} else if c.Ended() {
				got = append(got, "ended")
				if rest > 0 {
					got = append(got, fmt.Sprint(rest, " left"))
				}
				if len(c.Trailers.Fields) > 0 {
					got = append(got, "trailers")
				}
				for _, f := range c.Trailers.Fields {
					got = append(got, string(f.Name))
				}
			}
			if s := strings.Join(got, " "); s != want {
				t.Errorf("%.60q in steps of %d: %q, want %q", in, step, s, want)
			}
		}
	}
}

func TestChunksWithEndlessExtensions(t *testing.T) {
	in := strings.Repeat("1;"+strings.Repeat("a", 500)+"\r\nx\r\n", 200) + "0\r\n\r\n"
	if _, c, _, f := unchunk([]byte(in), len(in)); f != BadChunk || c.Ended() {
		t.Errorf("%q", f)
	}
}
