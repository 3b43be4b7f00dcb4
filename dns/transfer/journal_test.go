package transfer

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"os"
	"path/filepath"
	"testing"

	"meridian/dns/zone"
)

// history makes versions 1 to n of a zone and writes their journal.
func history(t testing.TB, path string, n int, limit int64) ([]*zone.Zone, *journal) {
	t.Helper()
	j, err := openJournal(path)
	if err != nil {
		t.Fatal(err)
	}
	zones := []*zone.Zone{load(t, zoneText(1, 20, "v0 TXT x\n"))}
	d := digest(zones[0])
	for i := 2; i <= n; i++ {
		z := load(t, zoneText(uint32(i), 20+i%3, fmt.Sprintf("v%d TXT x\nback TXT %d\n", i, i%2)))
		s := between(zones[len(zones)-1], z, d)
		if d = s.digest; d != digest(z) {
			t.Fatalf("version %d: the digest by steps is not the zone's", i)
		}
		if err := j.add(s, limit); err != nil {
			t.Fatal(err)
		}
		zones = append(zones, z)
	}
	return zones, j
}

// leads says whether the journal leads from one version to the last.
func leads(t testing.TB, j *journal, from, last *zone.Zone) bool {
	t.Helper()
	changes, ok, err := j.since(from.Serial, math.MaxInt64)
	if err != nil {
		t.Fatal(err)
	}
	if !ok {
		return false
	}
	z, err := from.With(changes)
	if err != nil {
		t.Fatalf("from %d: %v", from.Serial, err)
	}
	if !bytes.Equal(z.Encode(), last.Encode()) {
		t.Fatalf("from %d: the differences lead to another zone", from.Serial)
	}
	return true
}

// RFC 1995 §6: differences from any version that the journal reaches back to lead to the last, as one step; they survive a restart.
func TestRFC1995Journal(t *testing.T) {
	for _, path := range []string{"", filepath.Join(t.TempDir(), "j")} {
		zones, j := history(t, path, 12, 1<<20)
		last := zones[len(zones)-1]
		if path != "" {
			var err error
			if j, err = openJournal(path); err != nil {
				t.Fatal(err)
			}
		}
		for _, z := range zones[:len(zones)-1] {
			if !leads(t, j, z, last) {
				t.Errorf("path %q: no way from serial %d", path, z.Serial)
			}
		}
		if leads(t, j, load(t, zoneText(99, 1, "")), last) {
			t.Error("a way from a version that never was")
		}
		if err := j.rewind(5, digest(zones[4])); err != nil {
			t.Fatal(err)
		}
		if tail := j.tail(); tail == nil || tail.to != 5 || !leads(t, j, zones[0], zones[4]) {
			t.Error("after going back to version 5")
		}
		if err := j.rewind(5, 1); err != nil || j.tail() != nil {
			t.Errorf("a version of that serial and other content is found: %v", err)
		}
	}
}

// Bad input: a journal that was cut off or damaged keeps the steps before.
func TestJournalDamage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j")
	zones, j := history(t, path, 6, 1<<20)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	fourth := j.steps[3]
	for what, data := range map[string][]byte{
		"cut in the fourth step":     whole[:fourth.at+fourth.size-1],
		"cut in its length":          whole[:fourth.at+2],
		"a flipped bit in it":        flip(whole, fourth.at+40),
		"a flipped bit in its frame": flip(whole, fourth.at),
	} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		j, err := openJournal(path)
		if err != nil || len(j.steps) != 3 || !leads(t, j, zones[0], zones[3]) {
			t.Errorf("%s: %d steps, %v", what, len(j.steps), err)
			continue
		}
		if err := j.add(between(zones[3], zones[4], digest(zones[3])), 1<<20); err != nil || !leads(t, j, zones[1], zones[4]) {
			t.Errorf("%s: cannot go on: %v", what, err)
		}
	}
	if err := os.WriteFile(path, []byte("no journal"), 0o600); err != nil {
		t.Fatal(err)
	}
	if j, err := openJournal(path); err != nil || len(j.steps) != 0 {
		t.Errorf("a file that is no journal: %v", err)
	}
}

func flip(b []byte, at int64) []byte {
	out := bytes.Clone(b)
	out[at] ^= 1
	return out
}

// The journal is bounded: the oldest steps go first, and one that is too long
// ends the history.
func TestJournalLimit(t *testing.T) {
	for _, path := range []string{"", filepath.Join(t.TempDir(), "j")} {
		zones, j := history(t, path, 40, 4000)
		if j.size > 4000 || len(j.steps) == 0 || len(j.steps) > 39 {
			t.Fatalf("%d octets, %d steps", j.size, len(j.steps))
		}
		last := zones[len(zones)-1]
		if leads(t, j, zones[0], last) || !leads(t, j, zones[len(zones)-2], last) {
			t.Error("it does not keep the newest")
		}
		if path != "" {
			if info, err := os.Stat(path); err != nil || info.Size() != j.size {
				t.Errorf("the file has %d octets, not %d", info.Size(), j.size)
			}
		}
		big := between(last, load(t, zoneText(41, 500, "")), 0)
		if err := j.add(big, 4000); err != nil || len(j.steps) != 0 {
			t.Errorf("a step that is too long: %d steps, %v", len(j.steps), err)
		}
	}
}

// Whatever is on disk, what is read are steps that lead on, and reading ends
// where they end.
func FuzzJournal(f *testing.F) {
	path := filepath.Join(f.TempDir(), "j")
	history(f, path, 4, 1<<20)
	whole, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add(whole[:len(whole)-7])
	f.Add([]byte(journalMagic))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		checkJournal(t, data)
		mended := bytes.Clone(data)
		mend(mended)
		checkJournal(t, mended)
	})
}

// mend writes the right checksums, which keep the fuzzer from what is behind
// them.
func mend(data []byte) {
	for at := len(journalMagic); at+stepHeader <= len(data); {
		n := int(binary.BigEndian.Uint32(data[at:]))
		if n > len(data)-at-stepHeader {
			return
		}
		binary.BigEndian.PutUint32(data[at+4:], crc32.Checksum(data[at+stepHeader:at+stepHeader+n], castagnoli))
		at += stepHeader + n
	}
}

func checkJournal(t *testing.T, data []byte) {
	t.Helper()
	steps, end := scanJournal(data)
	if end > int64(len(data)) {
		t.Fatal("it ends beyond the file")
	}
	for i, s := range steps {
		if i > 0 && steps[i-1].to != s.from {
			t.Fatal("steps do not meet")
		}
		body, ok := stepAt(data[s.at:end])
		if !ok {
			t.Fatal("a step is not there")
		}
		changes, err := decodeStep(body)
		if err != nil {
			continue
		}
		if again := (&step{s.from, s.to, s.digest, changes}).encode(); !bytes.Equal(again, data[s.at:s.at+s.size]) {
			t.Fatalf("%x is written again as %x", data[s.at:s.at+s.size], again)
		}
		for _, c := range condense(changes) {
			if zone.WireLen(c.Owner) != len(c.Owner) {
				t.Fatal("an owner is no name")
			}
		}
	}
}
