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
	local dir=$1 port conf=$work/nsd.conf
	port=$((20000 + RANDOM % 20000))
	{
		printf 'server:\n  ip-address: 127.0.0.1@%s\n  username: ""\n  chroot: ""\n  zonesdir: "%s"\n  pidfile: ""\n' "$port" "$dir"
		printf '  database: ""\n  zonelistfile: "%s/list"\n  xfrdfile: "%s/xfrd"\n  xfrdir: "%s"\n  logfile: "%s/nsd.log"\n  server-count: 1\n' "$work" "$work" "$work" "$work"
		printf 'remote-control:\n  control-enable: no\n'
		for f in "$dir"/*.zone; do
			f=${f##*/}
			printf 'zone:\n  name: %s\n  zonefile: %s\n' "${f%.zone}" "$f"
		done
	} >"$conf"
	nsd -d -c "$conf" >/dev/null 2>&1 &
	nsd=$!
	local last=${f%.zone}
	for _ in $(seq 600); do
		if dig +short +time=1 +tries=1 @127.0.0.1 -p "$port" "$last" SOA 2>/dev/null | grep -q ns1; then break; fi
		sleep 0.5
	done
	local max=0 kib pid
	for pid in $nsd $(ps -o pid= --ppid "$nsd"); do
		kib=$(awk '/^VmRSS/ {print $2}' "/proc/$pid/status")
		[ "$kib" -le "$max" ] || max=$kib
		for child in $(ps -o pid= --ppid "$pid"); do
			kib=$(awk '/^VmRSS/ {print $2}' "/proc/$child/status")
			[ "$kib" -le "$max" ] || max=$kib
		done
	done
	kill "$nsd"
	wait "$nsd" 2>/dev/null || true
	nsd=
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
