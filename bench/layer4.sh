#!/usr/bin/env bash
# Measures layer 4; see usage.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
	cat <<'END'
usage: bench/layer4.sh [flags]

Measures layer 4's program in the kernel (BPF_PROG_RUN, each packet another flow's, what it did to
the packet undone by the harness): the time of one packet net of the harness and an empty
program, which are measured beside it with the same packets. And, in namespaces, how long after a gateway's
death (its machine silent, or its process ended) it is out of every ring, of a hundred deaths a
round. Runs as root with Go.

flags:
  --rounds N      rounds (default 5)
  --cpu N         processor to measure on (default 1)
  --only REGEXP   only these benchmarks (default all: Program, ProgramDefended, Cookie,
                  TenMillionFlows, Tables, RingSwap, GatewayDeath)
  --keep DIR      where raw figures go (default a new one in /tmp)
  --help          this text

Prints for each case the median of the rounds, the least and the most of them, and what it
must reach.
END
}

rounds=5 cpu=1 only='Program$|ProgramDefended|Cookie|TenMillionFlows|Tables|RingSwap|GatewayDeath' keep=''
while [ $# -gt 0 ]; do
	case $1 in
	--rounds | --cpu | --only | --keep)
		[ $# -ge 2 ] || { usage >&2; exit 2; }
		declare "${1#--}=$2"
		shift
		;;
	--help | -h) usage; exit ;;
	*) usage >&2; exit 2 ;;
	esac
	shift
done
[ "$(id -u)" = 0 ] || { echo 'bench/layer4.sh: expected to run as root' >&2; exit 1; }
keep=${keep:-$(mktemp -d /tmp/bench-layer4.XXXXXX)}
mkdir -p "$keep"
. bench/lib.sh

versions
go test -c -o "$keep/xdp.test" ./edge/xdp
for round in $(seq "$rounds"); do
	(cd edge/xdp && taskset -c "$cpu" "$keep/xdp.test" -test.run '^$' -test.bench "$only" -test.benchtime 1x) >"$keep/round-$round.txt" ||
		{ cat "$keep/round-$round.txt"; exit 1; }
	echo "round $round of $rounds done (${SECONDS}s, load $(cut -d' ' -f1 /proc/loadavg))"
done

# One line a case and metric: the median of the rounds and their range.
awk '
	function median(list, n,    a, i, j, t) {
		n = split(list, a, " ")
		for (i = 2; i <= n; i++)
			for (j = i; j > 1 && a[j - 1] + 0 > a[j] + 0; j--) { t = a[j]; a[j] = a[j - 1]; a[j - 1] = t }
		least = a[1]; most = a[n]
		return n % 2 ? a[(n + 1) / 2] : (a[n / 2] + a[n / 2 + 1]) / 2
	}
	function goal(what, most) { aim[what] = most }
	BEGIN {
		goal("Program/safe_slot/flows=1 net-ns/packet", 55)
		goal("Program/safe_slot/flows=65536 net-ns/packet", 55)
		goal("Program/safe_slot/flows=524288 net-ns/packet", 55)
		goal("Program/safe_slot/flows=new net-ns/packet", 55)
		goal("Program/tracked/flows=1 net-ns/packet", 60)
		goal("Program/tracked/flows=65536 net-ns/packet", 190)
		goal("Program/tracked/flows=524288 net-ns/packet", 235)
		goal("Program/tracked/flows=new net-ns/packet", 240)
		goal("TenMillionFlows octets/flow", 60)
		goal("Tables MB", 150)
		goal("RingSwap ns/op", 25e6)
		goal("GatewayDeath/silent p99-ms", 1000)
		goal("GatewayDeath/refused p99-ms", 1000)
	}
	/^Benchmark/ {
		name = $1
		sub(/^Benchmark/, "", name)
		sub(/-[0-9]+$/, "", name)
		for (i = 3; i < NF; i += 2) {
			key = name " " $(i + 1)
			if (!(key in seen)) order[++cases] = key
			seen[key] = seen[key] " " $i
		}
	}
	END {
		printf "%-52s %12s %23s   %s\n", "", "median", "least to most", "must reach"
		for (i = 1; i <= cases; i++) {
			key = order[i]
			if (key ~ / ns\/op$/ && key !~ /^(RingSwap|Tables)/) continue
			m = median(seen[key])
			text = ""
			if (key in aim) text = sprintf("%g: %s", aim[key], m <= aim[key] ? "reached" : sprintf("missed by %.0f %%", (m / aim[key] - 1) * 100))
			printf "%-52s %12.1f %11.1f to %-11.1f %s\n", key, m, least, most, text
		}
	}' "$keep"/round-*.txt | tee "$keep/table.txt"
echo "raw figures in $keep"
