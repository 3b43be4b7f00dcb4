package keeper

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"meridian/dns/sign"
	"meridian/fleet"
)

// maxBody bounds what is sent to Handler, in octets.
const maxBody = 64 << 20

// Handler serves /keys and what is below for the admin API, which has checked
// who asks:
//
//	GET  /keys                 every zone's keys
//	GET  /keys/ZONE            one zone's
//	POST /keys/ZONE/roll       {"role": "ksk"}
//	POST /keys/ZONE/parent     {"key_tag": 1, "state": "seen"}
//	POST /keys/ZONE/new        new ones for a zone without, whatever its parent has
//	POST /keys/ZONE/import     {"files": [{"name": N, "text": T}], "role": "csk"}
//	POST /keys/ZONE/export     private keys as files
//	POST /keys/-/backup        all keys, sealed with the fleet key
//	POST /keys/-/restore       such a backup
func Handler(keys Keys) http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern string, do func(r *http.Request, zone fleet.Name) (any, error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			r.Body = http.MaxBytesReader(w, r.Body, maxBody)
			zone, err := zoneIn(r)
			var out any
			if err == nil {
				out, err = do(r, zone)
			}
			reply(w, out, err)
		})
	}
	handle("GET /keys", func(r *http.Request, _ fleet.Name) (any, error) { return keys.List(r.Context()) })
	handle("GET /keys/{zone}", func(r *http.Request, z fleet.Name) (any, error) { return keys.Show(r.Context(), z) })
	handle("POST /keys/{zone}/roll", func(r *http.Request, z fleet.Name) (any, error) {
		var in struct {
			Role string `json:"role"`
		}
		if err := body(r, &in); err != nil {
			return nil, err
		}
		role, err := sign.ParseRole(in.Role)
		if err != nil {
			return nil, fmt.Errorf("%w: role: %w", ErrInput, err)
		}
		return keys.Roll(r.Context(), z, role)
	})
	handle("POST /keys/{zone}/parent", func(r *http.Request, z fleet.Name) (any, error) {
		var in struct {
			KeyTag uint16         `json:"key_tag"`
			State  sign.HandCheck `json:"state"`
		}
		if err := body(r, &in); err != nil {
			return nil, err
		}
		return keys.Parent(r.Context(), z, in.KeyTag, in.State)
	})
	handle("POST /keys/{zone}/new", func(r *http.Request, z fleet.Name) (any, error) { return keys.New(r.Context(), z) })
	handle("POST /keys/{zone}/import", func(r *http.Request, z fleet.Name) (any, error) {
		var in struct {
			Files []sign.File `json:"files"`
			Role  sign.Role   `json:"role"`
		}
		if err := body(r, &in); err != nil {
			return nil, err
		}
		return keys.Import(r.Context(), z, in.Files, in.Role)
	})
	handle("POST /keys/{zone}/export", func(r *http.Request, z fleet.Name) (any, error) { return keys.Export(r.Context(), z) })
	handle("POST /keys/-/backup", func(r *http.Request, _ fleet.Name) (any, error) { return keys.Backup(r.Context()) })
	handle("POST /keys/-/restore", func(r *http.Request, _ fleet.Name) (any, error) {
		var in []byte
		if err := body(r, &in); err != nil {
			return nil, err
		}
		return keys.Restore(r.Context(), in)
	})
	return mux
}

func zoneIn(r *http.Request) (fleet.Name, error) {
	text := r.PathValue("zone")
	if text == "" {
		return "", nil
	}
	n, err := fleet.ParseName(text)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrInput, err)
	}
	return n, nil
}

func body(r *http.Request, into any) error {
	b, err := io.ReadAll(r.Body)
	if err == nil {
		err = json.Unmarshal(b, into)
	}
	if err != nil {
		return fmt.Errorf("%w: body: %w", ErrInput, err)
	}
	return nil
}

// reply writes out as JSON, or an error as the admin API does.
func reply(w http.ResponseWriter, out any, err error) {
	code := http.StatusOK
	switch {
	case err == nil:
	case errors.Is(err, ErrNoKeys):
		code = http.StatusNotFound
	case errors.Is(err, ErrInput):
		code = http.StatusUnprocessableEntity
	case errors.Is(err, ErrConflict):
		code = http.StatusConflict
	default:
		code = http.StatusServiceUnavailable
	}
	if err != nil {
		out = map[string]string{"error": err.Error()}
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(out)
}
