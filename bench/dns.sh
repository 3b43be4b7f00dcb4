#!/usr/bin/env bash
# Measures Meridian's nameserver beside its peers; see usage.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
	cat <<'END'
usage: bench/dns.sh [flags]

Measures Meridian's nameserver beside NSD, Knot, gdnsd, PowerDNS, BIND and CoreDNS, and
beside echoes in C and Go that do no DNS. Runs as root on Debian with Go and two
processors; installs the peers by apt-get, their services kept from starting, and builds
CoreDNS. Takes an hour on a calm machine.

sockets   Each server alone on CPU 0 with one thread, the generator (bench/dns/blast.c) on
          CPU 1, by loopback. The same zone and queries for all, every answer checked:
            mix     1,100 names: 90 % of queries ask for one of them, 5 % for none, 5 % for
                    www, which is steered by a database of 220,000 networks where the
                    server can that
            subnet  www with Client Subnet, another network in each query
            do      the mix over the signed zone, DO set; static for all but Meridian
          With 200 queries in flight; for latency the mix also at half of the rate that came of
          it, and at half of Knot's, the same for all that can.
veth      Servers in one network namespace, kxdpgun in another: Knot by sockets and by
          AF_XDP, Meridian by sockets and by XDP; and an echo in XDP that does no DNS,
          which tells what kxdpgun can send at all. All share two processors.
apart     The same, each on its own processor (see bench/dns/veth.sh).

program   Meridian's XDP program alone, run by the kernel on queries in memory
          (BPF_PROG_RUN), net of the harness.

Servers are started afresh for each measurement, and rounds are interleaved. CPU is user and
system time of the server's processes for each answer. Before a measurement the machine has to be
calm (other work under 8 % of a processor) and the two processors near each other (bench/dns/near.c);
one that other work took over 10 % of, that the processors parted in, or in which over 1 % of
answers were lost to a pause of the machine, is repeated, up to ten times.

flags:
  --rounds N         rounds (default 5)
  --seconds N        of each measurement (default 2)
  --only LIST        only these of: mix,subnet,do,veth,apart,program
  --servers LIST     only these of: echo-c,echo-go,gdnsd,knot,nsd,powerdns,bind,coredns,
                     meridian,echo-xdp,knot-xdp,meridian-xdp
  --queues N         of each end of the veth pair (default 1; see bench/dns/veth.sh)
  --keep DIR         where raw figures and the servers' logs go (default a new one in /tmp)
  --rough            do not wait for a calm machine, repeat nothing
  --realtime         real-time priority for server and generator: other work hardly runs
                     meanwhile, and hardly counts; but latencies of more than some
                     milliseconds are then the scheduler's
  --help             this text

Prints the medians of the rounds, and where Meridian stands against what it must reach. Ends
with status 1 if a server did not start, gave wrong answers, or lost over 1 % of them each time.
END
}

rounds=5 seconds=2 only=mix,subnet,do,veth,apart,program keep='' queues=1 rough='' priority=()
servers=echo-c,echo-go,gdnsd,knot,nsd,powerdns,bind,coredns,meridian,echo-xdp,knot-xdp,meridian-xdp
while [ $# -gt 0 ]; do
	case $1 in
	--rounds | --seconds | --only | --servers | --queues | --keep)
		[ $# -ge 2 ] || { usage >&2; exit 2; }
		declare "${1#--}=$2"
		shift
		;;
	--rough) rough=yes ;;
	--realtime) priority=(chrt -r 10) ;; # not -f: Go's runtime may wait for a thread that would never run
	--help | -h) usage; exit ;;
	*) usage >&2; exit 2 ;;
	esac
	shift
done
[ "$(id -u)" = 0 ] || { echo 'bench/dns.sh: expected to run as root' >&2; exit 1; }
[ "$(nproc)" -ge 2 ] || { echo 'bench/dns.sh: expected two processors' >&2; exit 1; }
keep=${keep:-$(mktemp -d /tmp/bench-dns.XXXXXX)}
mkdir -p "$keep"
: >"$keep/raw.txt"
work=$(mktemp -d)
bin=$work/bin data=$work/data
mkdir -p "$bin" "$data"
. bench/lib.sh
. bench/dns/peers.sh
. bench/dns/veth.sh

server='' pids='' policy='' failed=0
cleanup() {
	stop
	veth_down
	[ -z "$policy" ] || rm -f "$policy"
	rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

# build builds what is measured and what measures, and makes zones and queries.
build() {
	gcc -O2 -Wall -Wextra -Werror -o "$bin/blast" bench/dns/blast.c
	gcc -O2 -Wall -Wextra -Werror -o "$bin/echo-c" bench/dns/echo.c
	gcc -O2 -Wall -Wextra -Werror -o "$bin/near" bench/dns/near.c
	clang -O2 -g -Wall -target bpf -I"/usr/include/$(gcc -dumpmachine)" -c -o "$bin/echo-xdp.o" bench/dns/echo.bpf.c
	go build -o "$bin/echo-go" bench/dns/echo.go
	go build -o "$bin/make" bench/dns/make.go
	go build -o "$bin/table" bench/dns/table.go
	go build -o "$bin/gslb" ./cmd/gslb
	if wants "$servers" coredns; then GOBIN=$bin go install github.com/coredns/coredns@v1.15.0 2>/dev/null; fi
	"$bin/make" "$data"
	mkdir "$work/keys"
	dnssec-keygen -q -K "$work/keys" -a ECDSAP256SHA256 -f KSK $zone >/dev/null
	dnssec-keygen -q -K "$work/keys" -a ECDSAP256SHA256 $zone >/dev/null
	(cd "$work/keys" && dnssec-signzone -q -S -K . -o $zone -f "$data/signed.zone" "$data/plain.zone" >/dev/null)
	chmod -R a+rX "$work"
}

# start NAME CASE starts a server by way of the command in place; what it says goes into its log.
start() {
	local name=$1 case=$2 command=()
	dir=$(mktemp -d "$work/run.XXXXXX")
	chmod a+rx "$dir"
	port=${fixed_port:-$(free_port)}
	"$name"
	echo "--- $(date -u +%T) ${command[*]}" >>"$keep/$case-$name.log"
	"${place[@]}" "${command[@]}" >>"$keep/$case-$name.log" 2>&1 &
	server=$!
}

# answers tells whether the server answers by now, or waits until it does.
answers() {
	local i
	for i in $(seq 150); do
		kill -0 "$server" 2>/dev/null || return 1
		if [ -n "$(dig +short +noedns +norecurse +time=1 +tries=1 -p "$port" "@$addr" host1.$zone 2>/dev/null | grep -v '^;')" ]; then
			pids=$(tree "$server")
			return 0
		fi
		sleep 0.2
	done
	return 1
}

# near tells whether the two processors share a cache now: on a virtual machine
# that changes, and with it the rate of all servers by half.
near() { [ -n "$rough" ] || [ "$("$bin/near" 0 1)" -le 250 ]; }

# ask LOAD ARGS... measures once, again where other work was in the way, and keeps the figures.
ask() {
	local what=$1 try out status
	shift
	for try in $(seq 10); do
		calm
		status=0
		out=$("${priority[@]}" taskset -c 1 "$bin/blast" -a "$addr" -p "$port" -P "$pids" -u 0.5 -t "$seconds" "$@" 2>>"$keep/$case-$name.log") || status=$?
		[ -z "$rough" ] || break
		[ "$(value other_cpu "$out" | cut -d. -f1)" -lt 10 ] 2>/dev/null && near && [ "$status" = 0 ] && break
	done
	note "case=$case server=$name round=$round load=$what status=$status $out"
	if [ "$status" != 0 ]; then
		echo "$case $name: wrong or lost answers: $out" >&2
		failed=1
	fi
	last=$out
}

# sockets CASE ROUND measures all servers that can do the case.
sockets() {
	local case=$1 round=$2 name list=$3 last options rate even=0
	for name in $list; do
		wants "$servers" "$name" || continue
		options=(-q "$data/$case.q")
		if [[ $name == echo-* ]]; then options+=(-n); fi
		start "$name" "$case"
		if answers; then
			ask full "${options[@]}"
			rate=$(awk -v q="$(value qps "$last")" 'BEGIN {printf "%d", q / 2}')
			if [ "$name" = knot ]; then even=$rate; fi
			if [ "$case" = mix ] && [ "$rate" -gt 0 ]; then ask half "${options[@]}" -r "$rate"; fi
			if [ "$case" = mix ] && [ "$even" -gt 0 ] && [ "$even" -lt $((rate * 8 / 5)) ]; then ask even "${options[@]}" -r "$even"; fi
		else
			echo "$case $name: does not start, see $keep/$case-$name.log" >&2
			failed=1
		fi
		stop
	done
}

# program measures Meridian's XDP program by its own benchmark in dns/xdp.
program() {
	local round name key value
	go test -c -o "$bin/xdp.test" ./dns/xdp
	for round in $(seq "$rounds"); do
		calm
		"${priority[@]}" taskset -c 0 "$bin/xdp.test" -test.run '^$' -test.bench 'Program$|Image$' -test.benchtime 1x >"$keep/program-$round.log" 2>&1 || {
			echo "program: failed, see $keep/program-$round.log" >&2
			failed=1
			return 0
		}
		while read -r name key value; do
			note "case=program server=meridian-xdp round=$round load=$name status=0 $key=$value"
		done < <(awk '/^Benchmark/ {
			sub(/^Benchmark[A-Za-z]*./, "", $1)
			sub(/-[0-9]+$/, "", $1)
			for (i = 2; i < NF; i++) {
				if ($(i + 1) == "ns/query") print $1, "ns", $i
				if ($(i + 1) == "kernel-MB") print $1, "kernel_mb", $i
			}
		}' "$keep/program-$round.log")
	done
	echo "the program alone done (${SECONDS}s, load $(cut -d' ' -f1 /proc/loadavg))"
}

install_packages nsd knot knot-module-geoip knot-dnsutils gdnsd pdns-server pdns-backend-geoip bind9 bind9-utils bind9-dnsutils \
	gcc libc6-dev clang libbpf-dev iproute2 procps util-linux
build
versions nsd knot gdnsd pdns-server bind9
if [ -x "$bin/coredns" ]; then "$bin/coredns" -version | sed -n 1p | tee -a "$keep/versions.txt"; fi
echo "raw figures in $keep, load $(cut -d' ' -f1-3 /proc/loadavg)"
workers=1 addr=127.0.0.1 interface='' place=("${priority[@]}" taskset -c 0)
for round in $(seq "$rounds"); do
	wants "$only" mix || wants "$only" subnet || wants "$only" do || break
	if wants "$only" mix; then sockets mix "$round" 'knot echo-c echo-go gdnsd nsd powerdns bind coredns meridian'; fi
	if wants "$only" subnet; then sockets subnet "$round" 'gdnsd knot powerdns meridian'; fi
	if wants "$only" do; then sockets do "$round" 'knot nsd bind meridian'; fi
	echo "round $round of sockets done (${SECONDS}s, load $(cut -d' ' -f1 /proc/loadavg))"
done
if wants "$only" veth; then veth veth; fi
if wants "$only" apart; then veth apart; fi
if wants "$only" program; then program; fi
"$bin/table" "$keep/raw.txt" | tee "$keep/table.txt"
echo "raw figures in $keep, load $(cut -d' ' -f1-3 /proc/loadavg)"
exit $failed
