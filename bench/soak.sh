#!/usr/bin/env bash
# Fuzzes every target for a while and repeats the tests that race with time.
# SECONDS_EACH sets the time for one fuzz target (default 20).
set -euo pipefail
cd "$(dirname "$0")/.."
each=${SECONDS_EACH:-20}

packages=$(grep -rl --include='*_test.go' '^func Fuzz' . | xargs -n1 dirname | sort -u)
for dir in $packages; do
	for target in $(grep -h '^func Fuzz' "$dir"/*_test.go | sed 's/^func \(Fuzz[A-Za-z0-9_]*\).*/\1/'); do
		echo "fuzz $dir $target for ${each}s"
		go test -run '^$' -fuzz "^$target\$" -fuzztime "${each}s" -parallel 2 "$dir"
	done
done

echo "repeat what depends on concurrency"
go test -race -count 3 -short ./health/... ./node/... ./dns/server/... ./edge/l7/... ./synthetic/

echo "lose regions, and the whole store, under load"
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
go build -o "$dir" ./cmd/gslb ./cmd/edge
(cd "$dir" && ./gslb demo --scenario region-loss --json)
(cd "$dir" && ./gslb demo --scenario store-loss --runs 1 --json)
