package steer

import (
	"testing"

	"meridian/fleet"
	"meridian/internal/testkit"
)

// A Spec that breaks a rule of steering is refused with the exact message: each
// file in testdata/invalid begins with the errors expected, as comments.
func TestInvalidSpecsSayWhatIsWrong(t *testing.T) {
	testkit.Invalid(t, func(doc []byte) error { _, err := fleet.Compile(doc, 0, Check); return err })
}
