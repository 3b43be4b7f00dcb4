# The part of bench/dns.sh, which sources this, where kxdpgun asks over a pair
# of virtual interfaces between two network namespaces.
#
# Such an interface hands packets over on the sender's processor: kxdpgun's
# carries the kernel's part of receiving queries, and with XDP all of the
# server's work. A real device interrupts the receiver's; so in the second form,
# apart, a kernel thread on the server's processor takes in what comes to the
# server's end. Each end has one queue: kxdpgun hears its first queue alone, and
# of two, the default with two processors, the kernel gives half of what a server's
# sockets send to the other. --queues 2 shows that.

ns_server=bench-dns-s$$ ns_client=bench-dns-c$$ end_server=bds$$ end_client=bdc$$

veth_up() {
	local of="numtxqueues $queues numrxqueues $queues"
	ip netns add "$ns_server"
	ip netns add "$ns_client"
	# shellcheck disable=SC2086
	ip link add name "$end_server" netns "$ns_server" $of type veth peer name "$end_client" netns "$ns_client" $of
	ip -n "$ns_server" address add 10.53.0.1/24 dev "$end_server"
	ip -n "$ns_client" address add 10.53.0.2/24 dev "$end_client"
	ip -n "$ns_server" link set lo up
	ip -n "$ns_server" link set "$end_server" up
	ip -n "$ns_client" link set "$end_client" up
	mac=$(ip netns exec "$ns_server" cat "/sys/class/net/$end_server/address")
	ip -n "$ns_server" neighbor replace 10.53.0.2 dev "$end_server" \
		lladdr "$(ip netns exec "$ns_client" cat "/sys/class/net/$end_client/address")"
}

# part gives the server's end its kernel thread, which is there once a program
# or GRO is.
part() {
	local pid
	ip netns exec "$ns_server" ethtool -K "$end_server" gro on 2>/dev/null || true
	ip netns exec "$ns_server" bash -c "echo 1 >/sys/class/net/$end_server/threaded"
	for pid in $(pgrep "^napi/$end_server"); do taskset -pc 0 "$pid" >/dev/null; done
}

veth_down() {
	ip netns del "$ns_server" 2>/dev/null || true
	ip netns del "$ns_client" 2>/dev/null || true
}

# gun RATE SECONDS sends queries, and prints what it sent and what was answered a
# second, how many answers were neither data nor NXDOMAIN, and the share of NXDOMAIN.
gun() {
	local try out=''
	for try in 1 2 3 4 5; do
		out=$(ip netns exec "$ns_client" timeout -k 1 $(($2 + 10)) "${priority[@]}" kxdpgun -F 1 -t "$2" -Q "$1" -i "$data/mix.txt" -I "$end_client" -l 10.53.0.2 -R "$mac" -p "$port" "$addr" 2>&1) && break
		sleep 1 # what the last run attached is not gone yet; and now and then kxdpgun does not end
	done
	awk -v t="$2" '
		/^total queries/ {sent = $3}
		/^total replies/ {got = $3}
		/^responded/ && !/NOERROR|NXDOMAIN/ {odd += $3}
		/^responded NXDOMAIN/ {none = $3}
		END {printf "sent=%d qps=%d percent=%.2f odd=%d none=%.1f\n", sent / t, got / t, sent ? got / sent * 100 : 0, odd, got ? none / got * 100 : 0}' <<<"$out"
}

# volley RATE sends for a while, keeps the figures, and leaves them in last: CPU
# time is that of the whole machine, since none of XDP's is any process's own.
volley() {
	local try before status=0 after
	for try in $(seq 10); do
		calm
		before=$(busy)
		last=$(gun "$1" "$seconds")
		after=$(busy)
		near && break
	done
	last+=" cpu_us=$(awk -v n="$(value qps "$last")" -v t="$seconds" -v c=$((after - before)) -v hz="$(getconf CLK_TCK)" 'BEGIN {
		printf "%.3f", n ? c / hz * 1e6 / (n * t) : 0}')"
	if [ "$(value odd "$last")" != 0 ] || [ "$(value qps "$last")" = 0 ]; then
		echo "veth $name: wrong or no answers: $last" >&2
		failed=1 status=1
	fi
	note "case=$form server=$name round=$round load=$1/s status=$status $last"
}

# in_kernel prints the share of all queries that Meridian answered in the kernel.
in_kernel() {
	ip netns exec "$ns_server" bash -c "exec 3<>/dev/tcp/$addr/$admin; printf 'GET /metrics HTTP/1.0\r\n\r\n' >&3; cat <&3" | awk '
		/^meridian_dns_kernel_packets_total\{.*verdict="tx"/ {kernel += $2}
		/^meridian_dns_queries_total\{transport="udp"/ {all += $2}
		END {printf "%.2f\n", all ? kernel / all * 100 : 0}'
}

# hit NAME measures one server at all rates, the last more than kxdpgun can send.
# What it tells is of the form, veth or apart.
hit() {
	local name=$1 last rate best=0 cost=0 i admin
	veth_up
	start "$name" veth
	for i in $(seq 30); do
		sleep 1
		kill -0 "$server" 2>/dev/null || break
		last=$(gun 1000 1)
		[ "$(value qps "$last")" -lt 900 ] || break
	done
	if kill -0 "$server" 2>/dev/null && [ "$(value qps "$last")" -ge 900 ]; then
		if [ "$form" = apart ]; then part; fi
		for rate in 800000 1200000 4000000; do
			sleep 1
			volley "$rate"
			if [ "$(value qps "$last")" -gt "$best" ]; then best=$(value qps "$last") cost=$(value cpu_us "$last"); fi
		done
		note "case=$form server=$name round=$round load=most status=0 qps=$best cpu_us=$cost sent=$(value sent "$last") percent=$(value percent "$last")"
		if [ "$name" = meridian-xdp ]; then note "case=$form server=$name round=$round load=kernel status=0 share=$(in_kernel)"; fi
	else
		echo "veth $name: does not start or answer, see $keep/veth-$name.log" >&2
		failed=1
	fi
	stop
	veth_down
}

# veth FORM measures all servers in all rounds.
veth() {
	local form=$1 name round help workers=1 addr=10.53.0.1 fixed_port=53 interface=$end_server mac place=(ip netns exec "$ns_server" "${priority[@]}" taskset -c 0)
	help=$("$bin/gslb" serve --help 2>&1)
	for round in $(seq "$rounds"); do
		for name in echo-xdp knot knot-xdp meridian meridian-xdp; do
			wants "$servers" "$name" || continue
			if [ "$name" = meridian-xdp ] && ! grep -q -- '^ *-xdp ' <<<"$help"; then
				[ "$round" != 1 ] || echo 'veth meridian-xdp: gslb serve has no flag --xdp yet: not measured'
				continue
			fi
			hit "$name"
		done
		echo "round $round over veth ($form) done (${SECONDS}s, load $(cut -d' ' -f1 /proc/loadavg))"
	done
}
