package rules

import (
	"strings"
	"testing"

	"meridian/fleet"
)

// What filters name in files comes to gateways alone, and is refused where it is
// wrong before any gateway has it.
func TestObjectsOfFilters(t *testing.T) {
	doc := strings.Replace(spec, "    hosts: [www.a.test]\n", `    hosts: [www.a.test]
    filters: {basic_auth: {users: "file:users"}, error_pages: [{status: [5xx], body: "file:sorry.html"}]}
    routes:
      - {pool: main}
      - {path: /api, pool: main, filters: {basic_auth: {users: "file:others"}}}
      - {path: /gone, answer: {status: 410, body: "file:gone.html"}}
`, 1)
	s := compile(t, doc, 0)
	want := "certificate/web ca/file:pool-ca.pem ca/file:probe-ca.pem page/file:sorry.html secret/file:users secret/file:others page/file:gone.html"
	for node, want := range map[string]string{"edge-1": want, "dns-1": "zone/a.test. zone/b.test. ca/file:probe-ca.pem", "edge-2": ""} {
		var got []string
		for _, k := range WantedBy(s, node) {
			got = append(got, string(k.Kind)+"/"+k.ID)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s wants %v", node, got)
		}
	}
	const hash = "$2y$04$abcdefghijklmnopqrstuuiMrUw1cVUqKaHVRj9mZpjvoYoQjWPBi"
	objects := func(users string, page int) []fleet.Object {
		return append(complete(t),
			object(fleet.ObjectSecret, "file:users", "users", []byte(users)),
			object(fleet.ObjectSecret, "file:others", "others", []byte("ali:"+hash)),
			object(fleet.ObjectPage, "file:sorry.html", "sorry.html", make([]byte, page)),
			object(fleet.ObjectPage, "file:gone.html", "gone.html", []byte("gone")))
	}
	for name, tc := range map[string]struct {
		objects []fleet.Object
		want    string
	}{
		"good":        {objects("ali:"+hash, 10), ""},
		"wrong users": {objects("ali:secret", 10), "secret file:users: users: line 1: expected a hash of bcrypt ($2y$…) or argon2id ($argon2id$…)"},
		"a long page": {objects("ali:"+hash, fleet.MaxPage+1), "page file:sorry.html: sorry.html: is longer than 1048576 octets"},
	} {
		_, err := World(s, tc.objects, nil)
		got := ""
		if err != nil {
			got = err.Error()
		}
		if got != tc.want {
			t.Errorf("%s: got %q", name, got)
		}
	}
}
