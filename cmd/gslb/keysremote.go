package main

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"

	"meridian/controlplane/api"
	"meridian/dns/keeper"
	"meridian/dns/sign"
	"meridian/fleet"
)

// remoteKeys are the keys of a node, through its admin API.
type remoteKeys struct{ c *api.Client }

func keysAt(name fleet.Name, what string) string {
	return "/keys/" + url.PathEscape(string(name)) + what
}

func (r *remoteKeys) post(ctx context.Context, path string, in, out any) error {
	b, err := json.Marshal(in) // octets as base64
	if err != nil {
		return err
	}
	return r.c.Do(ctx, http.MethodPost, path, b, out)
}

func (r *remoteKeys) List(ctx context.Context) (out []keeper.ZoneKeys, err error) {
	err = r.c.Do(ctx, http.MethodGet, "/keys", nil, &out)
	return out, err
}

func (r *remoteKeys) Show(ctx context.Context, name fleet.Name) (*keeper.ZoneKeys, error) {
	var out keeper.ZoneKeys
	return &out, r.c.Do(ctx, http.MethodGet, keysAt(name, ""), nil, &out)
}

func (r *remoteKeys) Roll(ctx context.Context, name fleet.Name, role sign.Role) (*keeper.ZoneKeys, error) {
	var out keeper.ZoneKeys
	return &out, r.post(ctx, keysAt(name, "/roll"), map[string]any{"role": role}, &out)
}

func (r *remoteKeys) Parent(ctx context.Context, name fleet.Name, tag uint16, word sign.HandCheck) (*keeper.ZoneKeys, error) {
	var out keeper.ZoneKeys
	return &out, r.post(ctx, keysAt(name, "/parent"), map[string]any{"key_tag": tag, "state": word}, &out)
}

func (r *remoteKeys) New(ctx context.Context, name fleet.Name) (*keeper.ZoneKeys, error) {
	var out keeper.ZoneKeys
	return &out, r.post(ctx, keysAt(name, "/new"), nil, &out)
}

func (r *remoteKeys) Export(ctx context.Context, name fleet.Name) (out []sign.File, err error) {
	err = r.post(ctx, keysAt(name, "/export"), nil, &out)
	return out, err
}

func (r *remoteKeys) Import(ctx context.Context, name fleet.Name, files []sign.File, role sign.Role) (*keeper.ZoneKeys, error) {
	var out keeper.ZoneKeys
	return &out, r.post(ctx, keysAt(name, "/import"), map[string]any{"files": files, "role": role}, &out)
}

func (r *remoteKeys) Backup(ctx context.Context) (out []byte, err error) {
	err = r.post(ctx, "/keys/-/backup", nil, &out)
	return out, err
}

func (r *remoteKeys) Restore(ctx context.Context, backup []byte) (out []fleet.Name, err error) {
	err = r.post(ctx, "/keys/-/restore", backup, &out)
	return out, err
}
