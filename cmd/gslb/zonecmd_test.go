package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"meridian/cli"
	"meridian/node"
)

// folderWith makes a folder with files.
func folderWith(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// printed gives what a command prints, and its error.
func printed(t *testing.T, args ...string) (string, error) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	old := os.Stdout
	os.Stdout = w
	got := make(chan string)
	go func() {
		var b strings.Builder
		buf := make([]byte, 4096)
		for {
			n, err := r.Read(buf)
			b.Write(buf[:n])
			if err != nil {
				got <- b.String()
				return
			}
		}
	}()
	err = runZone(t.Context(), args)
	os.Stdout = old
	w.Close()
	return <-got, err
}

const goodZone = "$TTL 60\n@ SOA ns h 5 2 3 4 5\n@ NS ns\nns A 192.0.2.53\n"

func TestZoneFilesAreCheckedAndCompared(t *testing.T) {
	dir := folderWith(t, map[string]string{
		"a.test.zone": goodZone, "new/a.test.zone": strings.Replace(goodZone, " 5 2 ", " 6 2 ", 1) + "www A 192.0.2.1\n",
		"odd.test.zone": goodZone + "sub NS ns.sub\n", "bad.test.zone": goodZone + "x A 1.2.3\ny CNAME z\ny A 192.0.2.1\n",
		"inc.test.zone": goodZone + "$INCLUDE more\n", "more": "m A 192.0.2.9\n",
	})
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, c := range []struct {
		args  []string
		want  []string
		fails bool
	}{
		{[]string{"check", at("a.test.zone")}, []string{"zone a.test. is good: serial 5, 3 records"}, false},
		{[]string{"check", "other.test", at("a.test.zone")}, []string{"zone other.test. is good"}, false},
		{[]string{"check", at("inc.test.zone")}, []string{"4 records"}, false},
		{[]string{"check", at("odd.test.zone")}, []string{"warning: " + at("odd.test.zone") + ":5:", "is good"}, false},
		{[]string{"check", "--strict", at("odd.test.zone")}, []string{"warning:"}, true},
		{[]string{"check", "--json", at("bad.test.zone")}, []string{`"good": false`, "bad.test.zone:5: "}, true},
		{[]string{"check", at("nothing.zone")}, []string{"no such file"}, true},
		{[]string{"diff", at("a.test.zone"), at("a.test.zone")}, nil, false},
		{[]string{"diff", at("a.test.zone"), at("new/a.test.zone")}, []string{
			"- a.test.\t60\tIN\tSOA\tns.a.test. h.a.test. 5 2 3 4 5\n", "+ a.test.\t60\tIN\tSOA\tns.a.test. h.a.test. 6", "+ www.a.test.\t60\tIN\tA\t192.0.2.1\n"}, true},
		{[]string{"diff", at("a.test.zone"), at("odd.test.zone")}, nil, true},
	} {
		out, err := printed(t, c.args...)
		if (err != nil) != c.fails {
			t.Errorf("%v: %v", c.args, err)
		}
		for _, want := range c.want {
			if !strings.Contains(out, want) {
				t.Errorf("%v: no %q in\n%s", c.args, want, out)
			}
		}
	}
	for _, wrong := range [][]string{{"explode"}, {"check"}, {"set", "a", "b"}, {"import", "x"}, {"diff", "a"}} {
		if _, err := printed(t, wrong...); !errors.Is(err, cli.ErrUsage) {
			t.Errorf("%v: %v", wrong, err)
		}
	}
}

func TestConfigurationsAreImported(t *testing.T) {
	dir := folderWith(t, map[string]string{
		"bind/named.conf": "key k { algorithm hmac-sha256; secret \"c2VjcmV0c2VjcmV0\"; };\nzone \"a.test\" { type master; file \"a.db\"; allow-transfer { key k; }; };\nzone \"b.test\" { type slave; masters { 192.0.2.1; }; };\n",
		"bind/a.db":       goodZone,
		"gdnsd/config":    "plugins => { simplefo => { www => { primary => 192.0.2.1, secondary => 192.0.2.2 } } }\n", "gdnsd/zones/a.test": goodZone + "www DYNA simplefo!www\n",
		"pdns/a.test.zone": goodZone + "www LUA A \"pickrandom({'192.0.2.1', '192.0.2.2'})\"\n",
		"r53.json": `{"ResourceRecordSets": [{"Name": "a.test.", "Type": "SOA", "TTL": 60, "ResourceRecords": [{"Value": "ns.a.test. h.a.test. 1 2 3 4 5"}]},
 {"Name": "a.test.", "Type": "NS", "TTL": 60, "ResourceRecords": [{"Value": "ns.other."}]},
 {"Name": "www.a.test.", "Type": "A", "TTL": 60, "SetIdentifier": "x", "Weight": 1, "ResourceRecords": [{"Value": "192.0.2.1"}]},
 {"Name": "www.a.test.", "Type": "A", "TTL": 60, "SetIdentifier": "y", "Weight": 2, "ResourceRecords": [{"Value": "192.0.2.2"}]}]}`,
	})
	for kind, path := range map[string]string{"bind": "bind/named.conf", "gdnsd": "gdnsd", "powerdns": "pdns", "route53": "r53.json"} {
		out := filepath.Join(dir, "out-"+kind)
		text, err := printed(t, "import", "--from", kind, "--out", out, filepath.Join(dir, path))
		if err != nil || !strings.Contains(text, "wrote ") {
			t.Errorf("%s: %v: %s", kind, err, text)
			continue
		}
		spec, err := os.ReadFile(filepath.Join(out, "spec.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		w, err := node.ReadWorld(filepath.Join(out, "spec.yaml"))
		if err != nil {
			t.Errorf("%s: %v\n%s", kind, err, spec)
			continue
		}
		if z := w.Snapshot.Spec.Zone("a.test."); z == nil || kind != "bind" && len(z.Steered) != 1 {
			t.Errorf("%s: zone %+v", kind, z)
		}
		if st, err := os.Stat(filepath.Join(out, "keys/k.tsig")); kind == "bind" && (err != nil || st.Mode().Perm() != 0o600) {
			t.Errorf("the key's file: %v", err)
		}
		if _, err := printed(t, "import", "--from", kind, "--out", out, filepath.Join(dir, path)); err == nil {
			t.Errorf("%s: written over what was there", kind)
		}
	}
}
