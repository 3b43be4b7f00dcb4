package hop

import (
	"bytes"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"meridian/edge/l7/wire"
	"meridian/fleet"
)

var (
	now  = time.UnixMilli(1_700_000_000_123)
	mark = Mark{From: "fra", Client: netip.MustParseAddr("2001:db8::7"), ID: "id-1", Draw: 1<<64 - 1, Sent: now, Left: 1500 * time.Millisecond}
)

// head is that of a request, with fields as "Name: value".
func head(method, host, target string, fields ...string) *wire.Head {
	h := &wire.Head{Method: []byte(method), Authority: []byte(host), Target: []byte(target)}
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ":")
		h.Add(name, value)
	}
	return h
}

func plain() *wire.Head {
	return head("GET", "www.demo.test", "/x?y", "X-Request-ID: id", "X-User: ali")
}

// What one gateway says the other reads, of the same request, in time.
func TestMark(t *testing.T) {
	k := Key("key")
	text := k.Append([]byte("before"), mark, plain())[6:]
	// As it arrives, with what belongs to the connection.
	came := head("GET", "www.demo.test", "/x?y", "Host: www.demo.test", "X-Request-ID:id", "X-User:ali", "Content-Length: 3", "TE: trailers", Field+": "+string(text))
	if got, err := k.Read(text, came, now.Add(time.Second)); err != nil || got != mark {
		t.Errorf("%+v, %v", got, err)
	}
	for what, tc := range map[string]struct {
		key  Key
		text string
		head *wire.Head
		at   time.Duration
		want error
	}{
		"another key":    {Key("kez"), string(text), plain(), 0, ErrSign},
		"no key":         {nil, string(text), plain(), 0, ErrMark},
		"another method": {k, string(text), head("PUT", "www.demo.test", "/x?y", "X-Request-ID: id", "X-User: ali"), 0, ErrSign},
		"another target": {k, string(text), head("GET", "www.demo.test", "/z", "X-Request-ID: id", "X-User: ali"), 0, ErrSign},
		"shifted parts":  {k, string(text), head("GETw", "ww.demo.test", "/x?y", "X-Request-ID: id", "X-User: ali"), 0, ErrSign},
		"another field":  {k, string(text), head("GET", "www.demo.test", "/x?y", "X-Request-ID: id", "X-User: bob"), 0, ErrSign},
		"one more field": {k, string(text), head("GET", "www.demo.test", "/x?y", "X-Request-ID: id", "X-User: ali", "X-User: bob"), 0, ErrSign},
		"one field less": {k, string(text), head("GET", "www.demo.test", "/x?y", "X-Request-ID: id"), 0, ErrSign},
		"more time":      {k, strings.Replace(string(text), " 1500 ", " 9500 ", 1), plain(), 0, ErrSign},
		"too old":        {k, string(text), plain(), Skew + 2*time.Second, ErrOld},
		"too new":        {k, string(text), plain(), -Skew - time.Second, ErrOld},
		"nothing":        {k, "", plain(), 0, ErrMark},
		"too long":       {k, string(text) + strings.Repeat("x", 512), plain(), 0, ErrMark},
		"another form":   {k, "3" + string(text[1:]), plain(), 0, ErrMark},
	} {
		if _, err := tc.key.Read([]byte(tc.text), tc.head, now.Add(tc.at)); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// Nothing that is not signed is believed, and reading never panics.
func FuzzMark(f *testing.F) {
	k := Key("key")
	good := k.Append(nil, mark, plain())
	f.Add(good)
	f.Fuzz(func(t *testing.T, text []byte) {
		if _, err := k.Read(text, plain(), now); err == nil && !bytes.Equal(text, good) {
			t.Errorf("%q is believed", text)
		}
	})
}

func TestNext(t *testing.T) {
	s := fleet.Spec{Regions: []fleet.Region{
		{ID: "fra", Location: fleet.Location{Latitude: 50, Longitude: 8}},
		{ID: "syd", Location: fleet.Location{Latitude: -33, Longitude: 151}},
		{ID: "ams", Location: fleet.Location{Latitude: 52, Longitude: 4}},
		{ID: "nyc", Location: fleet.Location{Latitude: 40, Longitude: -74}},
		{ID: "bare"},
	}}
	for i := range s.Regions {
		s.Regions[i].State = fleet.Active
		if s.Regions[i].ID != "bare" {
			s.Regions[i].VIPs.V4 = []netip.Addr{netip.MustParseAddr("192.0.2.1")}
		}
	}
	all := &fleet.Pool{Endpoints: []fleet.Endpoint{{State: fleet.Active}}}
	some := &fleet.Pool{Endpoints: []fleet.Endpoint{{Region: "fra", State: fleet.Active}, {Region: "nyc", State: fleet.Active}, {Region: "ams", State: fleet.Disabled}}}
	near := fleet.Service{Steering: fleet.Steering{Selection: fleet.Selection{Policy: fleet.Proximity}}}
	listed := fleet.Service{Steering: fleet.Steering{Selection: fleet.Selection{Policy: fleet.Failover, Regions: []string{"syd", "fra", "eu", "syd"}},
		Groups: []fleet.Group{{Group: "eu", Selection: fleet.Selection{Regions: []string{"fra", "ams", "eu"}}}}}}
	for what, tc := range map[string]struct {
		service *fleet.Service
		pool    *fleet.Pool
		own     string
		want    string
	}{
		"the nearest first":           {&near, all, "fra", "ams nyc syd"},
		"from elsewhere":              {&near, all, "nyc", "ams fra syd"},
		"only those with endpoints":   {&near, some, "fra", "nyc"},
		"failover has its order":      {&listed, all, "fra", "syd ams"},
		"of a region that is no more": {&near, all, "gone", ""},
	} {
		var got []string
		for _, r := range Next(&s, tc.service, tc.pool, tc.own) {
			got = append(got, r.ID)
		}
		if strings.Join(got, " ") != tc.want {
			t.Errorf("%s: %v, expected %s", what, got, tc.want)
		}
	}
}
