package node

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"

	"meridian/identity"
)

// LoadKey reads a fleet key file. One that others may read is refused.
func LoadKey(path string) (identity.Key, error) {
	st, err := os.Stat(path)
	if err != nil {
		return identity.Key{}, fmt.Errorf("fleet key: %w", err)
	}
	if st.Mode().Perm()&0o077 != 0 {
		return identity.Key{}, fmt.Errorf("fleet key: %s may be read by others (mode %04o); chmod 600 it", path, st.Mode().Perm())
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return identity.Key{}, fmt.Errorf("fleet key: %w", err)
	}
	k, err := identity.ParseKey(b)
	if err != nil {
		return identity.Key{}, fmt.Errorf("%s: %w", path, err)
	}
	return k, nil
}

// CreateKey draws a new fleet key and writes it to a file of mode 0600; one
// that exists is never overwritten (os.ErrExist).
func CreateKey(path string) (identity.Key, error) {
	k, err := identity.NewKey(rand.Reader)
	if err != nil {
		return identity.Key{}, err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return identity.Key{}, fmt.Errorf("fleet key: %w", err)
	}
	_, err = f.Write(k.Encode())
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return identity.Key{}, fmt.Errorf("fleet key: %w", err)
	}
	return k, nil
}

// LoadOrCreateKey reads the key at path, or draws one where there is none.
func LoadOrCreateKey(path string) (identity.Key, error) {
	k, err := CreateKey(path)
	if errors.Is(err, os.ErrExist) {
		return LoadKey(path)
	}
	return k, err
}
