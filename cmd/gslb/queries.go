package main

import (
	"encoding/json"
	"net/http"
	"strconv"

	dnsserver "meridian/dns/server"
)

// queries answers GET /queries?name=&client=&n= with queries that this node has
// answered not long ago, the newest first.
func (s *gslbNode) queries(w http.ResponseWriter, r *http.Request) {
	d := s.dns.Load()
	if d == nil {
		http.Error(w, "this node is no nameserver", http.StatusNotFound)
		return
	}
	f := dnsserver.RecentFilter{Name: r.FormValue("name")}
	if c := r.FormValue("client"); c != "" {
		p, err := parseClient(c)
		if err != nil {
			http.Error(w, "client: expected an address or prefix", http.StatusBadRequest)
			return
		}
		f.Client = p
	}
	if n := r.FormValue("n"); n != "" {
		var err error
		if f.Most, err = strconv.Atoi(n); err != nil || f.Most < 1 {
			http.Error(w, "n: expected a number above 0", http.StatusBadRequest)
			return
		}
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(d.Recent(f)) // the client may be gone
}
