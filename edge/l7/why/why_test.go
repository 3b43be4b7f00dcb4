package why

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"meridian/edge/l7/balance"
)

var key = []byte("0123456789abcdef0123456789abcdef")

func TestATokenIsForItsHostAndTime(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	token := Token(key, "www.demo.test", now.Add(time.Minute))
	flipped := []byte(token)
	flipped[len(flipped)-2] ^= 1
	for name, tc := range map[string]struct {
		key   []byte
		host  string
		token string
		now   time.Time
		want  bool
	}{
		"as it was made":        {key, "www.demo.test", token, now, true},
		"at its last second":    {key, "www.demo.test", token, now.Add(time.Minute), true},
		"after it":              {key, "www.demo.test", token, now.Add(61 * time.Second), false},
		"of another host":       {key, "api.demo.test", token, now, false},
		"of another fleet":      {key[1:], "www.demo.test", token, now, false},
		"where there is no key": {nil, "www.demo.test", Token(nil, "www.demo.test", now), now, false},
		"for too long":          {key, "www.demo.test", Token(key, "www.demo.test", now.Add(2*time.Hour)), now, false},
		"changed":               {key, "www.demo.test", string(flipped), now, false},
		"with another end":      {key, "www.demo.test", strings.Replace(token, token[3:9], "zzzzzz", 1), now, false},
		"empty":                 {key, "www.demo.test", "", now, false},
		"one":                   {key, "www.demo.test", "1", now, false},
		"long":                  {key, "www.demo.test", token + strings.Repeat("A", 100), now, false},
	} {
		if got := Valid(tc.key, tc.host, []byte(tc.token), tc.now); got != tc.want {
			t.Errorf("a token %s: %t", name, got)
		}
	}
}

// However much there is to say, the field is bounded, ASCII and JSON.
func TestAReportIsBounded(t *testing.T) {
	r := Report{Node: "n1", Pool: "größe\x7f\U0001F600", Candidates: make([]balance.Candidate, 500), Tries: make([]Try, 100)}
	for i := range r.Tries {
		r.Tries[i].Status = i
	}
	b := r.Encode()
	if len(b) > MaxOctets {
		t.Fatalf("%d octets", len(b))
	}
	for _, c := range b {
		if c < ' ' || c > '~' {
			t.Fatalf("octet %#x in %s", c, b)
		}
	}
	var back Report
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	if back.Node != "n1" || back.Pool != "größe\x7f?" || len(back.Candidates)+back.More != 500 || back.Tries[len(back.Tries)-1].Status != 99 {
		t.Errorf("%d candidates and %d more, pool %q, %d tries", len(back.Candidates), back.More, back.Pool, len(back.Tries))
	}
	if len(r.Candidates) != 500 {
		t.Error("Encode changed the report")
	}

	// So is one with another region's in it, of which the least goes: who answered stays.
	inner := Report{Node: "n2", Candidates: make([]balance.Candidate, 50), Route: &Route{Name: "rest", Passed: make([]Other, 200)}}
	r = Report{Node: "n1", Route: &Route{Name: "rest", Passed: make([]Other, 500)}, Tries: []Try{{Endpoint: "e"}, {Region: "nyc", Gateway: &inner}}}
	back = Report{}
	if b = r.Encode(); len(b) > MaxOctets || json.Unmarshal(b, &back) != nil {
		t.Fatalf("%d octets: %s", len(b), b)
	}
	if g := back.Tries[1].Gateway; g == nil || g.Node != "n2" || g.Route.Name != "rest" || len(g.Candidates)+g.More != 50 || back.Route.Name != "rest" {
		t.Errorf("%s", b)
	}
	if len(inner.Candidates) != 50 || len(inner.Route.Passed) != 200 || len(r.Route.Passed) != 500 {
		t.Error("Encode changed the report")
	}
}
