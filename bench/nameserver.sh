#!/usr/bin/env bash
# Runs the nameserver's benchmarks in one go and prints each figure beside its
# aim. It takes some two minutes on two processors and wants them to itself:
# the load before and after is printed, figures taken under load are worth
# little. Memory beside NSD is measured by bench/zones.sh.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# bench DIR NAME TIMES WHAT AIM prints one figure.
bench() {
	local out
	out=$(go test -run '^$' -bench "$2" -benchtime "$3" -benchmem -timeout 10m "$1" 2>&1) || {
		echo "$out" >&2
		return 1
	}
	awk -v what="$4" -v aim="$5" '/^Benchmark/ {
		name = $1; sub(/^Benchmark/, "", name); sub(/-[0-9]+$/, "", name)
		t = $3; u = "ns"
		if (t >= 1e6) { t /= 1e6; u = "ms" } else if (t >= 1e3) { t /= 1e3; u = "us" }
		worst = ""
		for (i = 4; i < NF; i++) {
			if ($(i + 1) == "allocs/op") allocs = $i
			if ($(i + 1) == "worst-ms") worst = sprintf("; at worst %.3g ms", $i)
		}
		printf "%-44s %-34s %8.3g %s  %6d allocations   %s%s\n", what, name, t, u, allocs, aim, worst
	}' <<<"$out"
}

printf 'load %s, %s processors, %s\n' "$(cut -d' ' -f1-3 /proc/loadavg)" "$(nproc)" "$(go version | cut -d' ' -f3)"
go build -o "$work/zones" bench/zones.go
mkdir "$work/mixed"
"$work/zones" make "$work/mixed" mixed 1000000 >/dev/null
printf '%-44s %s   aim: under 2 s\n' '1,000 zones of 1,000 records, loaded' "$("$work/zones" load "$work/mixed")"
rm -rf "$work/mixed"
bench ./dns/answer 'Answer$' 1s 'answers' 'aim: no allocation'
bench ./dns/answer 'WithView20x10000$' 20x 'health change, 20 regions, 10,000 names' 'aim: under 20 ms'
bench ./dns/answer 'OneZoneOf100000$' 50x 'one zone of 100,000, in the plan' 'aim: under 50 ms in all'
bench ./cmd/gslb 'WriteOneZoneOf100000$' 50x 'one zone of 100,000, from API to live' 'aim: under 50 ms'
bench ./cmd/gslb 'SIGHUPOneOf100000$' 50x 'one zone file of 100,000, SIGHUP to answer' 'aim: under 50 ms'
bench ./cmd/gslb 'OneZoneOf100000OnANode$' 50x 'one zone of 100,000, on a node' 'aim: under 50 ms'
bench ./dns/keeper 'DeriveOne' 20x 'one change, signed anew' ''
bench ./dns/transfer 'AXFR' 5x 'zone transfer' ''
bench ./dns/limit 'Check' 1s 'rate limit' 'aim: no allocation'
printf 'load %s\n' "$(cut -d' ' -f1-3 /proc/loadavg)"
