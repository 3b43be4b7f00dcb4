#!/usr/bin/env bash
# Measures Meridian's gateway beside its peers; see usage.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
	cat <<'END'
usage: bench/l7.sh [flags]

Measures Meridian's gateway beside HAProxy, nginx and Caddy: what a request costs the proxy in CPU
time, the latency under a steady load, and the memory of idle connections. Runs as
root on Debian with Go and two processors; installs the peers by apt-get, their services kept
from starting. Takes some 25 minutes on a calm machine.

Each proxy runs alone on CPU 0 with one thread (see bench/l7/peers.sh for what all of them
do); the generator and the backend, an nginx, share CPU 1. Proxies are started afresh for each
measurement, and rounds are interleaved. CPU is user and system time of the proxy's processes for each
request that succeeded. Cases:

  plain      HTTP/1.1, 1 KiB, 64 connections (wrk)
  p99        the same by bench/l7/load.go, first as fast as it goes, then at 70 % of that, or of what
             HAProxy did where that is less; latency from each request's intended time. With
             --realtime it says nothing: the kernel halts real-time work for 50 ms a second
  tls        plain over TLS
  handshake  a new TLS 1.3 connection for each request, X25519, ECDSA P-256, 16 at a time (load.go)
  h2         HTTP/2 over TLS, 1 KiB, 16 connections, 20 streams each (h2load)
  h3         HTTP/3, 1 KiB, 4 connections, 20 streams each (load.go); Caddy and Meridian
  body       1 MiB, 16 connections, without TLS (wrk); CPU for each MiB
  bodytls    the same over TLS
  idle10k    resident memory with 10,000 idle connections without TLS
  idle100k   the same with 100,000; fewer where the limit of open files is lower

flags:
  --rounds N      rounds (default 5)
  --seconds N     of each measurement (default 5)
  --only LIST     only these cases
  --peers LIST    only these of haproxy,nginx,caddy,meridian
  --keep DIR      where raw figures and the proxies' logs go (default a new one in /tmp)
  --rough         do not wait for a calm machine
  --realtime      real-time priority for all of it: other work hardly runs meanwhile
  --help          this text

Example:
  bench/l7.sh --only plain,tls --peers haproxy,meridian --rounds 3 --rough

Prints for each case the median of the rounds, the least and the most, Meridian's ratio to each peer,
and where that stands against what it must reach. Ends with status 1 if a proxy did not start, or
more than 1 % of its requests failed.
END
}

rounds=5 seconds=5 keep='' rough='' priority=()
only=plain,p99,tls,handshake,h2,h3,body,bodytls,idle10k,idle100k
peers=haproxy,nginx,caddy,meridian
while [ $# -gt 0 ]; do
	case $1 in
	--rounds | --seconds | --only | --peers | --keep)
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
[ "$(id -u)" = 0 ] || { echo 'bench/l7.sh: expected to run as root' >&2; exit 1; }
[ "$(nproc)" -ge 2 ] || { echo 'bench/l7.sh: expected two processors' >&2; exit 1; }
keep=${keep:-$(mktemp -d /tmp/bench-l7.XXXXXX)}
mkdir -p "$keep"
: >"$keep/raw.txt"
work=$(mktemp -d)
bin=$work/bin
mkdir -p "$bin"
ulimit -n 262144 2>/dev/null || ulimit -n "$(ulimit -Hn)"
. bench/lib.sh
. bench/l7/peers.sh

server='' pids='' policy='' failed=0 origin='' idler=''
cleanup() {
	stop
	for p in $origin $idler; do kill "$p" 2>/dev/null || true; done
	[ -z "$policy" ] || rm -f "$policy"
	rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

build() {
	go build -o "$bin/load" bench/l7/load.go
	go build -o "$bin/table" bench/l7/table.go
	CGO_ENABLED=0 go build -o "$bin/edge" ./cmd/edge # as docs/operating.md has it
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -subj /CN=localhost \
		-addext 'subjectAltName=DNS:localhost,IP:127.0.0.1' -keyout "$work/key.pem" -out "$work/cert.pem" 2>/dev/null
	cat "$work/cert.pem" "$work/key.pem" >"$work/both.pem"
	mkdir "$work/www"
	head -c 1024 /dev/zero | tr '\0' x >"$work/www/1k"
	head -c 1048576 /dev/zero | tr '\0' x >"$work/www/1m"
	echo ok >"$work/www/health"
	chmod -R a+rX "$work"
}

# backend starts the endpoint, for the whole run.
backend() {
	backend=$(free_port)
	cat >"$work/backend.conf" <<-END
		daemon off; worker_processes 1; worker_rlimit_nofile 65536; pid $work/backend.pid; error_log $work/backend.log;
		events { worker_connections 8192; }
		http {
		  access_log off; sendfile on; tcp_nopush on; tcp_nodelay on; keepalive_requests 100000000; keepalive_timeout 600s;
		  open_file_cache max=10; default_type application/octet-stream;
		  client_body_temp_path $work/b; proxy_temp_path $work/p; fastcgi_temp_path $work/f; uwsgi_temp_path $work/u; scgi_temp_path $work/s;
		  server { listen 127.0.0.1:$backend backlog=4096; root $work/www; }
		}
	END
	"${priority[@]}" taskset -c 1 "$(type -P nginx)" -c "$work/backend.conf" -e "$work/backend.log" &
	origin=$!
}

# start NAME starts a proxy on CPU 0.
start() {
	local name=$1 i command=()
	dir=$(mktemp -d "$work/run.XXXXXX")
	chmod a+rx "$dir"
	plain=$(free_port) secure=$(free_port)
	"$name"
	echo "--- $(date -u +%T) ${command[*]}" >>"$keep/$case-$name.log"
	"${priority[@]}" taskset -c 0 "${command[@]}" >>"$keep/$case-$name.log" 2>&1 &
	server=$!
	for i in $(seq 100); do
		kill -0 "$server" 2>/dev/null || break
		if [ "$(curl -sk -o /dev/null -w '%{http_code}' "https://127.0.0.1:$secure/1k")" = 200 ] &&
			[ "$(curl -s -o /dev/null -w '%{http_code}' "http://127.0.0.1:$plain/1k")" = 200 ]; then
			pids=$(tree "$server")
			return 0
		fi
		sleep 0.1
	done
	echo "$case $name: does not start, see $keep/$case-$name.log" >&2
	failed=1
	return 1
}

# generate CASE prints requests=N failed=N and more.
generate() {
	local on=("${priority[@]}" taskset -c 1) own=(env GOMAXPROCS=1 "$bin/load")
	case $1 in
	plain) "${on[@]}" wrk -t1 -c64 -d "$seconds" "http://127.0.0.1:$plain/1k" | wrk_figures ;;
	tls) "${on[@]}" wrk -t1 -c64 -d "$seconds" "https://127.0.0.1:$secure/1k" | wrk_figures ;;
	body) "${on[@]}" wrk -t1 -c16 -d "$seconds" "http://127.0.0.1:$plain/1m" | wrk_figures ;;
	bodytls) "${on[@]}" wrk -t1 -c16 -d "$seconds" "https://127.0.0.1:$secure/1m" | wrk_figures ;;
	h2) "${on[@]}" h2load -t1 -c16 -m20 -D "$seconds" "https://127.0.0.1:$secure/1k" |
		sed -n 's/^requests: .* \([0-9]*\) succeeded, \([0-9]*\) failed.*/requests=\1 failed=\2/p' ;;
	handshake) "${on[@]}" "${own[@]}" handshake -addr "127.0.0.1:$secure" -conns 16 -for "${seconds}s" ;;
	h3) "${on[@]}" "${own[@]}" h3 -addr "127.0.0.1:$secure" -conns 4 -for "${seconds}s" ;;
	p99)
		rate=$(rate_of "$name" "$("${on[@]}" "${own[@]}" open -addr "127.0.0.1:$plain" -conns 64 -for "${seconds}s")")
		"${on[@]}" "${own[@]}" open -addr "127.0.0.1:$plain" -conns 64 -rate "$rate" -for "${seconds}s"
		;;
	esac
}

wrk_figures() {
	awk '/ requests in / { n = $1 } /Non-2xx/ { bad = $NF } /Socket errors/ { gsub(",", ""); bad += $4 + $6 + $8 + $10 } END { printf "requests=%d failed=%d\n", n - bad, bad }'
}

# measure NAME measures one proxy in $case once.
measure() {
	local name=$1 before after out n cpu
	calm
	before=$(spent "$pids")
	out=$(generate "$case" 2>>"$keep/$case-$name.log") || true
	after=$(spent "$pids")
	n=$(value requests " $out") n=${n:-0}
	cpu=$(awk -v t=$((after - before)) -v hz="$(getconf CLK_TCK)" -v n="$n" 'BEGIN { printf "%.2f", n ? t / hz * 1e6 / n : 0 }')
	[ "$case" != p99 ] || cpu=0 # of two runs, and n of the second
	note "case=$case peer=$name round=$round cpu_us=$cpu $out"
	if [ "$n" = 0 ] || [ "$(value failed " $out")" -gt $((n / 100)) ]; then
		echo "$case $name: $out; see $keep/$case-$name.log" >&2
		failed=1
	fi
}

# idle NAME N measures memory with N connections that have had an answer.
idle() {
	local name=$1 n=$2 limit line
	limit=$(($(ulimit -n) * 3 / 4)) # the proxy has connections to the backend as well
	[ "$n" -le "$limit" ] || n=$limit
	coproc IDLE { exec taskset -c 1 "$bin/load" idle -addr "127.0.0.1:$plain" -conns "$n" 2>>"$keep/$case-$name.log"; }
	idler=$IDLE_PID
	if read -r -t 300 line <&"${IDLE[0]}" && [ "$line" = "idle=$n" ]; then
		sleep 3
		note "case=$case peer=$name round=$round conns=$n mb=$(resident "$pids")"
	else
		echo "$case $name: no $n connections, see $keep/$case-$name.log" >&2
		failed=1
	fi
	kill "$idler" 2>/dev/null || true
	wait "$idler" 2>/dev/null || true
	idler=''
}

# rate_of NAME FIGURES is what p99 sends a second after a run with those figures.
rate_of() {
	local r
	r=$(awk -v n="$(value requests " $2")" -v s="$(value seconds " $2")" 'BEGIN { printf "%d", n / s * 0.7 }')
	[ "$1" != haproxy ] || echo "$r" >"$work/rate"
	if [ -s "$work/rate" ] && [ "$(cat "$work/rate")" -lt "$r" ]; then r=$(cat "$work/rate"); fi
	echo "$r"
}

install_packages haproxy nginx caddy wrk nghttp2-client openssl curl procps util-linux
build
versions haproxy nginx caddy wrk nghttp2-client libssl3
backend
echo "raw figures in $keep, load $(cut -d' ' -f1-3 /proc/loadavg)"
for round in $(seq "$rounds"); do
	for case in plain p99 tls handshake h2 h3 body bodytls idle10k idle100k; do
		wants "$only" "$case" || continue
		for name in haproxy nginx caddy meridian; do
			wants "$peers" "$name" || continue
			if [ "$case" = h3 ] && [[ $name =~ haproxy|nginx ]]; then continue; fi
			if start "$name"; then
				case $case in
				idle10k) idle "$name" 10000 ;;
				idle100k) idle "$name" 100000 ;;
				*) measure "$name" ;;
				esac
			fi
			stop
		done
	done
	echo "round $round done (${SECONDS}s, load $(cut -d' ' -f1 /proc/loadavg))"
done
"$bin/table" "$keep/raw.txt" | tee "$keep/table.txt"
echo "raw figures in $keep, load $(cut -d' ' -f1-3 /proc/loadavg)"
exit $failed
