package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"

	"meridian/edge/xdp"
	"meridian/fleet"
	"meridian/rules"
)

// maxSpec bounds a Spec that is to be planned, octets.
const maxSpec = 16 << 20

func (a *admin) explain(x *xdp.Layer4, w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	flow, err := xdp.ParseFlow(q.Get("protocol"), q.Get("client"), q.Get("vip"))
	if err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	e, err := x.Explain(flow)
	answer(w, e, err)
}

func (a *admin) plan(x *xdp.Layer4, w http.ResponseWriter, r *http.Request) {
	doc, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxSpec))
	if err != nil {
		refuse(w, http.StatusBadRequest, fmt.Errorf("read the Spec: %w", err))
		return
	}
	if !a.planner.TryLock() {
		refuse(w, http.StatusTooManyRequests, errors.New("another plan is being made"))
		return
	}
	defer a.planner.Unlock()
	snap, err := rules.Compile(doc, 0)
	if err != nil {
		refuse(w, http.StatusUnprocessableEntity, err)
		return
	}
	list, err := x.Changes(&fleet.World{Snapshot: snap})
	answer(w, list, err)
}

// show prints v as JSON, or as text does.
func show(asJSON bool, v any, text func(io.Writer)) error {
	if !asJSON {
		text(os.Stdout)
		return nil
	}
	enc := json.NewEncoder(os.Stdout)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
