package sign

import (
	"time"

	"meridian/fleet"
)

// NextSerial gives the serial of a zone whose content has changed, after old.
// It always comes after old in the sense of RFC 1982 section 3.2, by 1 where
// the policy's own number does not. content is the serial that the content
// has, which policy keep serves as it is; first is true where nothing was made
// of the content before: then it may have been served as it is, and old is left
// aside.
func NextSerial(policy fleet.SerialPolicy, old, content uint32, first bool, now time.Time) uint32 {
	var want uint32
	switch policy {
	case fleet.SerialKeep:
		return content
	case fleet.SerialUnixtime:
		want = uint32(now.Unix())
	case fleet.SerialDate:
		y, m, d := now.UTC().Date()
		want = uint32(y)*1000000 + uint32(m)*10000 + uint32(d)*100
	default: // increment
		if first {
			return max(content, 1)
		}
		want = content
	}
	if first {
		old = content
	}
	if SerialAfter(want, old) {
		return want
	}
	if old+1 == 0 {
		return 1 // 0 is read as "none" by some
	}
	return old + 1
}

// SerialAfter says whether serial a comes after b (RFC 1982 section 3.2).
func SerialAfter(a, b uint32) bool { return a != b && a-b < 1<<31 }
