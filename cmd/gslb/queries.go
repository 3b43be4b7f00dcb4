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
		refuse(w, http.StatusNotFound, "this node is no nameserver")
		return
	}
	f := dnsserver.RecentFilter{Name: r.FormValue("name")}
	if c := r.FormValue("client"); c != "" {
		p, err := parseClient(c)
		if err != nil {
			refuse(w, http.StatusBadRequest, "client: expected an address or prefix")
			return
		}
		f.Client = p
	}
	if n := r.FormValue("n"); n != "" {
		var err error
		if f.Most, err = strconv.Atoi(n); err != nil || f.Most < 1 {
			refuse(w, http.StatusBadRequest, "n: expected a number above 0")
			return
		}
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(d.Recent(f)) // the client may be gone
}

// refuse answers with an error as the rest of the admin API does.
func refuse(w http.ResponseWriter, code int, why string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(map[string]string{"error": why}) // the client may be gone
}
