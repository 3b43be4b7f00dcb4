package xdp

import (
	"os"
	"regexp"
	"strconv"
	"testing"
	"unsafe"

	"meridian/dns/answer"
	"meridian/dns/limit"
	"meridian/geo"
	"meridian/steer"
)

// What Go and the program must agree on is the same in both.
func TestConstants(t *testing.T) {
	text, err := os.ReadFile("bpf/consts.h")
	if err != nil {
		t.Fatal(err)
	}
	more, err := os.ReadFile("bpf/limit.h")
	if err != nil {
		t.Fatal(err)
	}
	defined := map[string]int{}
	for _, m := range regexp.MustCompile(`(?m)^#define (\w+) (0x[0-9a-fA-F]+|\d+)\b`).FindAllSubmatch(append(text, more...), -1) {
		n, err := strconv.ParseInt(string(m[2]), 0, 64)
		if err != nil {
			t.Fatal(err)
		}
		defined[string(m[1])] = int(n)
	}
	for name, want := range map[string]int{
		"BLOCK_SIZE": blockSize, "NAME_WORDS": nameWords, "MAX_CUTS": maxCuts, "GAPS": maxGaps, "MAX_NSID": maxNSID, "HASH_LABEL": hashLabel, "LATER": later, "GAP_LEVELS": gapLevels, "MAX_KINDS": maxKinds, "MAX_RELOCS": maxRelocs,
		"MAX_TAIL": maxTail, "WAYS": ways, "PROBES": probes, "LISTEN_SLOTS": listenSlots, "LISTEN_PROBES": listenProbes,
		"PAYLOAD": answer.PayloadUDP, "SECRETS": secretDays, "FIXED_SECRETS": fixedSecrets, "SLOTS": steer.Slots, "MAX_STATES": maxStates,
		"ENTRY_PASS": entryPass, "ENTRY_SLICED": entrySliced, "SCOPES_NONE": scopesNone, "SCOPES_OF_BLOCKS": scopesBlocks, "SCOPES_PASS": scopesPass,
		"IN_SIX_TO_FOUR": int(geo.InSixToFour), "IN_TEREDO": int(geo.InTeredo), "IN_LAST_32": int(geo.InLast32),
		"MAX_ZONES": maxZones, "TALLY_TYPES": tallyTypes, "TALLY_ZONES": tallyZones, "DEBT_SETS": debtSets, "MAX_BOUNDS": maxBounds,
		"WANTED_NOTE": wantedNote, "WANTED_LOG": wantedLog, "ROW": row, "TURNS": turns, "ROTATE_CLIENT": rotateClient, "ROTATE_QUERY": rotateQuery, "WINDOW": int(limit.Window),
	} {
		if got, ok := defined[name]; !ok || got != want {
			t.Errorf("%s is %d in the program, %d here", name, got, want)
		}
	}
	if blockSize-lastRecord != 1600 || defined["TALLY_TYPES"]+258 != tallyOther || 1<<(defined["BOUND_STEPS"]-1) < maxBounds || 1<<defined["GAP_STEPS"] != maxGaps || limit.DefaultNetworks != debtSets*len(limit.Set{}) {
		t.Error("a sum differs")
	}
	if unsafe.Sizeof(geo.Node{}) != 24 {
		t.Error("geo.Node differs")
	}
}
