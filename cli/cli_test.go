package cli

import (
	"context"
	"errors"
	"flag"
	"io"
	"slices"
	"testing"
)

func TestFlagsMayStandAfterArguments(t *testing.T) {
	fs := Flags("prog do WHAT", "prog do it --json")
	fs.SetOutput(io.Discard)
	json := fs.Bool("json", false, "")
	rest, err := Parse(fs, []string{"a", "--json", "b"})
	if err != nil || !slices.Equal(rest, []string{"a", "b"}) || !*json {
		t.Errorf("rest %v, json %v, err %v", rest, *json, err)
	}
}

func TestWrongCallsAreUsageErrors(t *testing.T) {
	fs := Flags("prog", "prog")
	fs.SetOutput(io.Discard)
	if _, err := Parse(fs, []string{"--nonsense"}); !errors.Is(err, ErrUsage) {
		t.Errorf("unknown flag: %v", err)
	}
	if _, err := Parse(fs, []string{"--help"}); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("--help: %v", err)
	}
	p := &Program{Name: "prog"}
	if err := p.run(context.Background(), []string{"nonsense"}); !errors.Is(err, ErrUsage) {
		t.Errorf("unknown command: %v", err)
	}
}

func TestListsAreRepeatableAndSplit(t *testing.T) {
	var l List
	for _, v := range []string{"a,b", " c "} {
		if err := l.Set(v); err != nil {
			t.Fatal(err)
		}
	}
	if l.String() != "a,b,c" {
		t.Errorf("got %q", l.String())
	}
}
