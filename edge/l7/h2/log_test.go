package h2

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net/http"
	"testing"

	"meridian/edge/l7"
)

// The access log has what the client has asked for, whatever endpoints are asked in
// its place and by which version of HTTP.
func TestTheAccessLogHasTheClientsPath(t *testing.T) {
	asked := make(chan string, 1)
	say := func(_ http.ResponseWriter, r *http.Request) { asked <- r.Host + r.URL.String() }
	for pool, at := range map[string]string{"protocol: h2": endpoint(t, say, 10), "protocol: http1": plain(t, say)} {
		var log bytes.Buffer
		r := gateway(t, spec("routes: [{pool: main, rewrite: {host: in.test, regex: /page, replacement: /in}}]", pool, at),
			func(c *l7.Config) { c.AccessLog = slog.New(slog.NewJSONHandler(&log, nil)) })
		res, err := r.client(t).Get("https://www.demo.test/page?q")
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		r.stop()
		var line struct{ Host, Path string }
		if err := json.Unmarshal(log.Bytes(), &line); err != nil || line.Host != "www.demo.test" || line.Path != "/page" {
			t.Errorf("%s: %+v, %v: %s", pool, line, err, log.Bytes())
		}
		if got := <-asked; got != "in.test/in?q" {
			t.Errorf("%s: endpoint was asked for %q", pool, got)
		}
	}
}
