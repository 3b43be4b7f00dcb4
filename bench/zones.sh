#!/usr/bin/env bash
# Loads the same zones into Meridian and into NSD and compares time and memory
# for each record. RECORDS sets how many (default 1000000), SHAPES which.
set -euo pipefail
cd "$(dirname "$0")/.."
records=${RECORDS:-1000000}
shapes=${SHAPES:-hosts delegations mixed tiny signed}
work=$(mktemp -d)
nsd=
cleanup() {
	[ -z "$nsd" ] || kill "$nsd" 2>/dev/null || true
	rm -rf "$work"
}
trap cleanup EXIT
go build -o "$work/zones" bench/zones.go

# nsd_rss DIR gives the KiB of NSD's largest process with the zones of DIR.
nsd_rss() {
	local dir=$1 port last conf=$work/nsd.conf
	for _ in 1 2 3; do # another port where one is taken
		port=$((20000 + RANDOM % 10000))
		{
			printf 'server:\n  ip-address: 127.0.0.1@%s\n  username: ""\n  chroot: ""\n  zonesdir: "%s"\n  pidfile: ""\n' "$port" "$dir"
			printf '  database: ""\n  zonelistfile: "%s/list"\n  xfrdfile: "%s/xfrd"\n  xfrdir: "%s"\n  logfile: "%s/nsd.log"\n  server-count: 1\n' "$work" "$work" "$work" "$work"
			printf 'remote-control:\n  control-enable: no\n'
			for f in "$dir"/*.zone; do
				f=${f##*/}
				printf 'zone:\n  name: %s\n  zonefile: %s\n' "${f%.zone}" "$f"
			done
		} >"$conf"
		last=${f%.zone}
		nsd -d -c "$conf" >"$work/nsd.out" 2>&1 &
		nsd=$!
		for _ in $(seq 300); do
			kill -0 "$nsd" 2>/dev/null || break
			if dig +short +time=1 +tries=1 @127.0.0.1 -p "$port" "$last" SOA 2>/dev/null | grep -q ns1; then
				largest "$nsd"
				kill "$nsd"
				wait "$nsd" 2>/dev/null || true
				nsd=
				return
			fi
			sleep 0.2
		done
		kill "$nsd" 2>/dev/null || true
		wait "$nsd" 2>/dev/null || true
		nsd=
	done
	echo "nsd does not serve $dir:" >&2
	cat "$work/nsd.out" "$work/nsd.log" >&2
	return 1
}

# largest PID gives the KiB of the largest among a process and its children.
largest() {
	local pid children=$1 max=0 kib
	for pid in $children $(ps -o pid= --ppid "$1"); do
		children="$children $pid $(ps -o pid= --ppid "$pid" | tr '\n' ' ')"
	done
	for pid in $children; do
		kib=$(awk '/^VmRSS/ {print $2}' "/proc/$pid/status" 2>/dev/null || echo 0)
		[ "$kib" -le "$max" ] || max=$kib
	done
	echo "$max"
}

mkdir "$work/none"
"$work/zones" make "$work/none" tiny 5
base=$(nsd_rss "$work/none")
for shape in $shapes; do
	dir=$work/$shape
	mkdir "$dir"
	"$work/zones" make "$dir" "$shape" "$records"
	ours=$(SETTLE=${SETTLE:-5} "$work/zones" load "$dir")
	n=$(sed 's/.*"records":\([0-9]*\).*/\1/' <<<"$ours")
	mine=$(sed 's/.*"rss_octets_per_record":\([0-9]*\).*/\1/' <<<"$ours")
	theirs=$((($(nsd_rss "$dir") - base) * 1024 / n))
	echo "$shape: meridian $ours"
	awk -v s="$shape" -v a="$mine" -v b="$theirs" 'BEGIN {printf "%s: nsd %d octets per record; ratio %.2f (at most 2)\n", s, b, a / b}'
	rm -rf "$dir"
done
