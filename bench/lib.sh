# What scripts that measure share: they source this. versions needs keep; the rest
# work, keep, rough, server and pids.

# wants LIST NAME says whether a list with commas holds a name.
wants() { [[ ,$1, == *,$2,* ]]; }

# versions PACKAGE... says what is measured on what, and keeps it.
versions() {
	{
		echo "date $(date -u +%F), commit $(git rev-parse --short HEAD 2>/dev/null || echo unknown)$(git diff --quiet HEAD 2>/dev/null || echo ', changed since')"
		echo "kernel $(uname -r), $(nproc) processors,$(sed -n '/^model name/{s/.*://p;q}' /proc/cpuinfo), $(go version | cut -d' ' -f3)"
		[ $# = 0 ] || dpkg-query -W "$@"
	} | tee "$keep/versions.txt"
}

# install_packages installs those that are not there, and starts no service; policy
# names the file that has to go in the end.
install_packages() {
	local p missing=()
	for p in "$@"; do
		[ "$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null)" = installed ] || missing+=("$p")
	done
	[ ${#missing[@]} -gt 0 ] || return 0
	echo "installing ${missing[*]}"
	if [ ! -e /usr/sbin/policy-rc.d ]; then
		policy=/usr/sbin/policy-rc.d
		printf '#!/bin/sh\nexit 101\n' >"$policy"
		chmod +x "$policy"
	fi
	export DEBIAN_FRONTEND=noninteractive
	apt-get update -qq
	apt-get install -y -qq --no-install-recommends "${missing[@]}" >"$keep/install.log" 2>&1 || { cat "$keep/install.log" >&2; return 1; }
}

free_port() {
	local p
	while p=$((20000 + RANDOM % 10000)); do
		grep -qi ":$(printf %04x $p) " /proc/net/{udp,tcp} || { echo "$p"; return; }
	done
}

# tree PID gives a process and all below it, separated by commas.
tree() {
	local all=$1 next=$1
	while next=$(pgrep -d, -P "$next") && [ -n "$next" ]; do all=$all,$next; done
	echo "$all"
}

# stop ends the server, all of its processes, by their numbers.
stop() {
	local p i
	[ -n "$server" ] || return 0
	pids=$(tree "$server"),$pids
	kill "$server" 2>/dev/null || true
	for i in $(seq 50); do
		kill -0 "$server" 2>/dev/null || break
		sleep 0.1
	done
	for p in ${pids//,/ }; do kill -9 "$p" 2>/dev/null || true; done
	wait "$server" 2>/dev/null || true
	server='' pids=''
}

# spent PIDS is their CPU time, user and system, in clock ticks.
spent() {
	local p sum=0 line
	for p in ${1//,/ }; do
		line=$(cat "/proc/$p/stat" 2>/dev/null) || continue
		set -- ${line##*) }
		sum=$((sum + ${12} + ${13}))
	done
	echo "$sum"
}

# resident PIDS is their resident memory in megabytes.
resident() {
	local p
	for p in ${1//,/ }; do cat "/proc/$p/status" 2>/dev/null; done | awk '/^VmRSS/ { kb += $2 } END { printf "%.1f", kb * 1024 / 1e6 }'
}

# busy is the machine's CPU time in clock ticks.
busy() { awk '/^cpu / {print $2 + $3 + $4 + $7 + $8 + $9}' /proc/stat; }

# near says whether what else a measurement needs of the machine is given; scripts
# that need more say so by one of their own.
near() { true; }

# calm waits until other work takes less than 8 % of a processor, and for near, at
# most 10 minutes.
calm() {
	local before after i
	[ -z "$rough" ] || return 0
	for i in $(seq 600); do
		before=$(busy)
		sleep 1
		after=$(busy)
		[ $((after - before)) -lt $(($(getconf CLK_TCK) * 8 / 100)) ] && near && return 0
	done
	echo 'the machine does not become calm, or its processors do not come near each other: measuring all the same' >&2
	rough=yes
}

note() { echo "$*" >>"$keep/raw.txt"; }
value() { sed -n "s/.* $1=\([0-9.]*\).*/\1/p" <<<" $2"; }
