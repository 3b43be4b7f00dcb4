# The gateways of bench/l7.sh, which sources this. Each function writes a
# configuration into $dir and sets command: to listen at 127.0.0.1, port $plain
# without TLS and port $secure with it (HTTP/2 and, where there is one, HTTP/3 as well),
# and to ask the backend at port $backend over connections that are kept. All
# give each request an id and tell the endpoint the client's address; all but
# nginx, which cannot, check the endpoint's health; none writes an access log, but
# Meridian one of 1,000 requests.

haproxy() {
	# Bodies: the buffers and the splicing that its manual names for them.
	local more=''
	if [[ $case == body* ]]; then more='tune.bufsize 65536'; fi
	cat >"$dir/haproxy.cfg" <<-END
		global
		  nbthread 1
		  no strict-limits
		  maxconn $(($(ulimit -n) < 121000 ? $(ulimit -n) - 1000 : 120000))
		  $more
		defaults
		  mode http
		  timeout connect 5s
		  timeout client 300s
		  timeout http-keep-alive 300s
		  timeout server 60s
		  option forwardfor
		  option splice-auto
		  http-reuse always
		  unique-id-format %[uuid]
		  unique-id-header X-Request-ID
		frontend f
		  bind 127.0.0.1:$plain backlog 4096
		  bind 127.0.0.1:$secure ssl crt $work/both.pem alpn h2,http/1.1 no-tls-tickets backlog 4096
		  default_backend b
		backend b
		  option httpchk GET /health
		  server s 127.0.0.1:$backend check
	END
	command=(haproxy -db -f "$dir/haproxy.cfg")
}

nginx() {
	cat >"$dir/nginx.conf" <<-END
		daemon off; worker_processes 1; worker_rlimit_nofile 262144; pid $dir/pid; error_log $dir/error.log;
		events { worker_connections 131072; }
		http {
		  access_log off; tcp_nodelay on; keepalive_requests 100000000; keepalive_timeout 300s;
		  client_body_temp_path $dir/b; proxy_temp_path $dir/p; fastcgi_temp_path $dir/f; uwsgi_temp_path $dir/u; scgi_temp_path $dir/s;
		  proxy_buffers 16 32k; proxy_max_temp_file_size 0;
		  upstream b { server 127.0.0.1:$backend; keepalive 256; keepalive_requests 100000000; }
		  server {
		    listen 127.0.0.1:$plain backlog=4096; listen 127.0.0.1:$secure ssl http2 backlog=4096;
		    ssl_certificate $work/cert.pem; ssl_certificate_key $work/key.pem; ssl_protocols TLSv1.2 TLSv1.3; ssl_session_tickets off;
		    location / {
		      proxy_pass http://b; proxy_http_version 1.1; proxy_set_header Connection "";
		      proxy_set_header Host \$host; proxy_set_header X-Request-ID \$request_id; proxy_set_header X-Forwarded-For \$remote_addr;
		    }
		  }
		}
	END
	command=("$(type -P nginx)" -c "$dir/nginx.conf" -e "$dir/error.log")
}

caddy() {
	cat >"$dir/Caddyfile" <<-END
		{
		  admin off
		  auto_https off
		  servers {
		    protocols h1 h2 h3
		  }
		}
		(proxy) {
		  reverse_proxy 127.0.0.1:$backend {
		    header_up X-Request-ID {http.request.uuid}
		    health_uri /health
		    health_interval 10s
		    transport http {
		      keepalive_idle_conns 1024
		      keepalive_idle_conns_per_host 1024
		    }
		  }
		}
		http://127.0.0.1:$plain {
		  import proxy
		}
		https://127.0.0.1:$secure, https://localhost:$secure {
		  tls $work/cert.pem $work/key.pem
		  import proxy
		}
	END
	command=(env GOMAXPROCS=1 HOME="$dir" "$(type -P caddy)" run --config "$dir/Caddyfile" --adapter caddyfile)
}

meridian() {
	cat >"$dir/spec.yaml" <<-END
		regions: [{id: fra, location: {latitude: 50, longitude: 8}, vips: {v4: [127.0.0.1]}}]
		nodes: [{name: n1, region: fra, roles: [l7], addresses: {v4: 127.0.0.1}}]
		certificates: [{id: c1, cert: "file:$work/cert.pem", key: "file:$work/key.pem"}]
		services:
		- {service: plain, protocol: http, ports: [$plain], hosts: [127.0.0.1, localhost], timeouts: {idle: 300s},
		   pools: [{id: main, endpoints: [{address: "127.0.0.1:$backend"}]}]}
		- {service: secure, protocol: https, http3: true, ports: [$secure], hosts: [127.0.0.1, localhost], timeouts: {idle: 300s},
		   pools: [{id: main, endpoints: [{address: "127.0.0.1:$backend"}]}]}
	END
	command=(env GOMAXPROCS=1 "$bin/edge" run --device none --roles l7 --node n1 --spec "$dir/spec.yaml" --data "$dir/data"
		--gossip off --health "127.0.0.1:$(free_port)" --access-log 1000 --pins "")
}
