#!/usr/bin/env bash
# Fuzzes every target for a while, two at a time, and repeats the tests that
# race with time. Each target of what a nameserver reads gets SECONDS_DNS (default
# 50); the rest, and what is found soon since there is little to it, SECONDS_EACH
# (default 15). All of it
# takes at most 25 minutes on two processors; the sum is printed first.
set -euo pipefail
cd "$(dirname "$0")/.."
dns=${SECONDS_DNS:-50}
each=${SECONDS_EACH:-15}
lanes=2

# One line a target: seconds, package, name; the long ones first.
targets=$(grep -rHo --include='*_test.go' '^func Fuzz[A-Za-z0-9_]*' . |
	sed 's|/[^/]*_test\.go:func | |' |
	awk -v dns="$dns" -v each="$each" -v small='^(dns/quic FuzzStream|dns/server FuzzTruncate|dns/stub FuzzDSYNC|dns/answer FuzzSubnet)$' '
		{ what = substr($1, 3) " " $2; print (what ~ /^(dns|steer)[\/ ]/ && what !~ small ? dns : each), $1, $2 }' | sort -k1,1nr -k2)
# Each target takes some 5 s more to build; the rest of the soak takes up to 7 min.
awk -v lanes="$lanes" '{ n++; s += $1 } END {
	fuzzing = s / lanes / 60; building = n * 5 / lanes / 60
	printf "%d targets, %d s of fuzzing, %d at a time: %.1f min, with building %.1f, with the rest %.1f of 25\n",
		n, s, lanes, fuzzing, fuzzing + building, fuzzing + building + 7
	exit fuzzing + building + 7 > 25 }' <<<"$targets"

# Whether a failed run's log has nothing but the end of -fuzztime, which Go's
# fuzzing engine up to 1.26 now and then takes for a failure: its coordinator
# may see its own deadline before its workers' context is cancelled
# (golang.org/issue/75804, mended in 1.27). Besides the counts, such a log has
# two lines and no other: that the target failed, and of what. A finding has
# more: what the target says, and where its failing input was written to.
ended() {
	[ "$(grep -vE '^(fuzz: elapsed: .*|FAIL(\s.*)?|exit status 1)$' "$1" | sed -E 's/ \([0-9.]+s\)$//')" = "--- FAIL: $2
    context deadline exceeded" ]
}

# Inputs are made smaller by few tries: by time, that of new coverage would
# take most of it.
fuzz() {
	local seconds=$1 dir=$2 target=$3 log
	log=$(mktemp)
	if go test -run '^$' -fuzz "^$target\$" -fuzztime "${seconds}s" -fuzzminimizetime 500x -parallel 1 "$dir" >"$log" 2>&1; then
		printf 'fuzz %s %s for %ss: %s\n' "$dir" "$target" "$seconds" "$(grep -o 'execs: [0-9]*' "$log" | tail -n 1)"
	elif ended "$log" "$target"; then
		printf 'fuzz %s %s for %ss: %s (golang.org/issue/75804 at the end)\n' "$dir" "$target" "$seconds" "$(grep -o 'execs: [0-9]*' "$log" | tail -n 1)"
	else
		printf 'fuzz %s %s FAILED\n' "$dir" "$target"
		cat "$log"
		# What is left of this machine is its log: the input has to stand there.
		sed -n "s|^ *Failing input written to |$dir/|p" "$log" | xargs -r head -c 100000
		return 1
	fi
	rm -f "$log"
}
export -f ended fuzz
xargs -P "$lanes" -L 1 bash -c 'fuzz "$@"' fuzz <<<"$targets"
echo "fuzzed (${SECONDS}s)"

echo "repeat what depends on concurrency"
go test -race -count 2 -short ./health/... ./node/... ./dns/server/... ./dns/transfer/... ./dns/keeper/... ./edge/l7/... ./synthetic/
echo "repeated (${SECONDS}s)"

echo "a balancer dies while gateways drain, come and get other weights, twenty times"
go test -count 20 -run 'TestNoConnectionBreaks/with_second_chance' ./edge/xdp
echo "outlived (${SECONDS}s)"

echo "lose regions, and the whole store, under load"
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
go build -o "$dir" ./cmd/gslb ./cmd/edge
(cd "$dir" && ./gslb demo --scenario region-loss --json)
(cd "$dir" && ./gslb demo --scenario store-loss --runs 1 --json)
echo "done (${SECONDS}s)"
