package fleet

import (
	"fmt"
	"strings"
	"time"
)

// Duration is a length of time, written as 250ms, 5s, 1m30s or 1h.
type Duration time.Duration

// D gives the standard library's form.
func (d Duration) D() time.Duration { return time.Duration(d) }

// String writes the duration as the Spec does.
func (d Duration) String() string { return time.Duration(d).String() }

// MarshalText writes the duration as the Spec does.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads a duration with its unit; negative ones are refused.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err != nil || v < 0 {
		return fmt.Errorf("%q is not a duration such as 250ms, 5s or 1h", b)
	}
	*d = Duration(v)
	return nil
}

// Secret is a reference to a secret, file:PATH or env:NAME. The secret itself
// is never part of the Spec, so it cannot be shown by printing one.
type Secret string

// UnmarshalText refuses anything but a reference, without repeating it.
func (s *Secret) UnmarshalText(b []byte) error {
	v := string(b)
	if p, ok := strings.CutPrefix(v, "file:"); ok && p != "" {
		*s = Secret(v)
		return nil
	}
	if p, ok := strings.CutPrefix(v, "env:"); ok && p != "" {
		*s = Secret(v)
		return nil
	}
	return fmt.Errorf("a secret must be a reference: file:PATH or env:NAME")
}
