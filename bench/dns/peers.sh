# The nameservers of bench/dns.sh, which sources this. Each function writes a
# server's configuration into $dir and sets command: to listen at $addr, port
# $port, by $workers threads, with what the case asks for:
#
#	mix, subnet   www is steered by the geo database where the server can that
#	do            the signed zone, static but for Meridian
#
# Nothing is tuned but the number of threads; rate limits are off, and answers are as short as each
# server makes them. $data, $bin and $interface come from bench/dns.sh.

zone=example.test

echo-c() { command=("$bin/echo-c" "$port"); }
echo-go() { command=(env GOMAXPROCS="$workers" "$bin/echo-go" "$port"); }

# echo-xdp runs in the kernel; the process is there to be stopped.
echo-xdp() {
	ip -n "$ns_server" link set dev "$interface" xdpdrv obj "$bin/echo-xdp.o" sec xdp
	command=(sleep infinity)
}

# static FILE is the zone's file for servers that do not steer.
static() { if [ "$case" = do ]; then echo "$data/signed.zone"; else echo "$data/plain.zone"; fi; }

nsd() {
	cat >"$dir/nsd.conf" <<-END
		server:
		  ip-address: $addr@$port
		  username: ""
		  chroot: ""
		  zonesdir: "$dir"
		  database: ""
		  pidfile: "$dir/nsd.pid"
		  xfrdfile: "$dir/xfrd.state"
		  zonelistfile: "$dir/zone.list"
		  xfrdir: "$dir"
		  server-count: $workers
		  rrl-ratelimit: 0
		  minimal-responses: yes
		remote-control:
		  control-enable: no
		zone:
		  name: $zone
		  zonefile: "$(static)"
	END
	command=("$(command -v nsd)" -d -c "$dir/nsd.conf")
}

# knot [xdp]
knot() {
	local listen="listen: $addr@$port" xdp='' geo='' modules=''
	if [ "${1:-}" = xdp ]; then
		listen='' xdp="xdp:
  listen: $interface@$port"
	fi
	if [ "$case" != do ]; then
		modules='  module: mod-geoip/www'
		geo="mod-geoip:
- id: www
  config-file: $data/knot.geo
  ttl: 60
  mode: geodb
  geodb-file: $data/geo.mmdb
  geodb-key: continent/code"
	fi
	cat >"$dir/knot.conf" <<-END
		server:
		  rundir: "$dir"
		  udp-workers: $workers
		  tcp-workers: 1
		  background-workers: 1
		  edns-client-subnet: on
		  $listen
		$xdp
		control:
		  listen: "$dir/knot.sock"
		log:
		- target: stderr
		  any: warning
		database:
		  storage: "$dir"
		$geo
		zone:
		- domain: $zone
		  storage: "$dir"
		  file: "$(static)"
		  journal-content: none
		  zonefile-sync: -1
		$modules
	END
	command=("$(command -v knotd)" -c "$dir/knot.conf")
}
knot-xdp() { knot xdp; }

gdnsd() {
	mkdir -p "$dir/etc/zones" "$dir/run" "$dir/state"
	cp "$data/gdnsd.zone" "$dir/etc/zones/$zone"
	cat >"$dir/etc/config" <<-END
		options => {
		  listen => $addr, dns_port => $port, udp_threads => $workers, tcp_threads => 1
		  run_dir => $dir/run, state_dir => $dir/state
		}
		plugins => { geoip => {
		  maps => { world => {
		    geoip2_db => $data/geo.mmdb
		    datacenters => [ $(sites '%s ' | tr A-Z a-z) ]
		    map => { $(sites '%s => [ %s ] ') default => [ eu ] }
		  } }
		  resources => { www => { map => world, service_types => up, dcmap => { $(sites '%s => %s ' address | tr A-Z a-z) } } }
		} }
	END
	command=("$(command -v gdnsd)" -c "$dir/etc" start)
}

# sites FORMAT [address] prints the continents, each with its site's name or address.
sites() {
	local name i=0
	for name in AF AN AS EU NA OC SA; do
		i=$((i + 1))
		case $1/${2:-} in
		*%s*%s*/address) printf -- "$1" $name 198.51.100.$i ;;
		*%s*%s*/) printf -- "$1" $name "$(tr A-Z a-z <<<$name)" ;;
		*) printf -- "$1" $name ;;
		esac
	done
}

powerdns() {
	cat >"$dir/pdns.conf" <<-END
		launch=geoip
		geoip-database-files=mmdb:$data/geo.mmdb
		geoip-zones-file=$data/powerdns.yaml
		edns-subnet-processing=yes
		local-address=$addr
		local-port=$port
		receiver-threads=$workers
		distributor-threads=1
		socket-dir=$dir
		daemon=no
		guardian=no
		disable-syslog=yes
		write-pid=no
		loglevel=3
	END
	command=("$(command -v pdns_server)" --config-dir="$dir")
}

bind() {
	cat >"$dir/named.conf" <<-END
		options {
		  directory "$dir"; pid-file "$dir/named.pid"; session-keyfile "$dir/session.key"; lock-file none; managed-keys-directory "$dir";
		  listen-on port $port { $addr; }; listen-on-v6 { none; };
		  recursion no; dnssec-validation no; notify no; minimal-responses yes;
		};
		controls {};
		zone "$zone" { type primary; file "$(static)"; };
	END
	command=("$(command -v named)" -f -n "$workers" -c "$dir/named.conf")
}

coredns() {
	printf '%s:%s {\n  bind %s\n  file %s\n}\n' "$zone" "$port" "$addr" "$(static)" >"$dir/Corefile"
	command=(env GOMAXPROCS="$workers" "$bin/coredns" -conf "$dir/Corefile")
}

# meridian [xdp]: www is steered in every case, in the signed zone too.
meridian() {
	{
		echo 'regions:'
		sites '- {id: %s, vips: {v4: [%s]}, location: {latitude: 0, longitude: 0}}\n' address | tr A-Z a-z
		echo 'services:'
		echo '- service: www'
		echo '  protocol: http'
		echo '  ports: [80]'
		echo '  pools: [{id: a, endpoints: [{address: "192.0.2.80:80"}]}]'
		echo '  steering:'
		echo '    policy: geo'
		echo '    geo:'
		sites '    - {continents: [%s], regions: [%s]}\n'
		echo 'nodes:'
		echo "- {name: one, region: eu, roles: [dns], addresses: {v4: $addr}}"
		echo 'zones:'
		echo "- zone: $zone"
		echo "  file: rest.zone"
		if [ "$case" = do ]; then echo '  dnssec: default'; fi
		echo '  steered: [{name: www, service: www, ttl: 60s}]'
	} >"$dir/spec.yaml"
	cp "$data/rest.zone" "$dir/rest.zone"
	admin=$(free_port)
	command=(env GOMAXPROCS="$workers" "$bin/gslb" serve --node one --roles dns --gossip off --data "$dir/data" --spec "$dir/spec.yaml"
		--geo "$data/geo.mmdb" --listen "$addr:$port" --admin "$addr:$admin" --log-level warn)
	if [ "${1:-}" = xdp ]; then command+=(--xdp "$interface" --xdp-mode native); fi # the other end of the pair has kxdpgun's program
}
meridian-xdp() { meridian xdp; }
