package rules

import (
	"encoding/json"
	"fmt"

	"meridian/fleet"
)

// encoded is the form of a World on disk.
type encoded struct {
	Version  int             `json:"version"`
	Revision uint64          `json:"revision"`
	Spec     json.RawMessage `json:"spec"`
	Objects  []encodedObject `json:"objects"`
	Shifts   []fleet.Shift   `json:"shifts,omitempty"`
}

type encodedObject struct {
	Kind fleet.ObjectKind `json:"kind"`
	ID   string           `json:"id"`
	File string           `json:"file,omitempty"`
	Data []byte           `json:"data"`
}

const version = 1

// Encode gives a World's form for disk; Decode reads it. It holds private keys.
func Encode(w *fleet.World) ([]byte, error) {
	e := encoded{Version: version, Revision: w.Snapshot.Revision, Spec: w.Snapshot.Canonical(), Shifts: w.Shifts}
	for _, k := range w.Snapshot.Wanted() {
		if o, ok := w.Objects[k]; ok {
			e.Objects = append(e.Objects, encodedObject{k.Kind, k.ID, o.File, o.Data})
		}
	}
	return json.Marshal(e)
}

// Decode reads what Encode gave. The World may hold the objects of one node
// only; each that it holds is verified.
func Decode(b []byte) (*fleet.World, error) {
	var e encoded
	if err := json.Unmarshal(b, &e); err != nil {
		return nil, fmt.Errorf("encoded world: %w", err)
	}
	if e.Version != version {
		return nil, fmt.Errorf("encoded world: version %d is not known", e.Version)
	}
	s, err := Compile(e.Spec, e.Revision)
	if err != nil {
		return nil, fmt.Errorf("encoded world: %w", err)
	}
	var objects []fleet.Object
	var keys []fleet.ObjectKey
	for _, o := range e.Objects {
		k := fleet.ObjectKey{Kind: o.Kind, ID: o.ID}
		keys = append(keys, k)
		objects = append(objects, fleet.Object{Key: k, Data: o.Data, File: o.File})
	}
	w, err := assemble(s, keys, objects, e.Shifts)
	if err != nil {
		return nil, fmt.Errorf("encoded world: %w", err)
	}
	return w, nil
}

// EncodeShifts gives a form of shifts that is equal exactly for equal ones.
func EncodeShifts(list []fleet.Shift) ([]byte, error) {
	if list == nil {
		list = []fleet.Shift{}
	}
	return json.Marshal(list)
}
