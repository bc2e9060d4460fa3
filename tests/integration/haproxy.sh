#!/bin/bash
# haproxy in front of two nginx, all three on port 80 of their own VIP.
. "${0%/*}/../lib/lib.sh"
need haproxy nginx curl wrk jq
require_seccomp_notify
start_daemon
chmod 711 "$T" # root's nginx workers are another user
for n in 1 2; do
	d=$T/ng$n
	mkdir "$d" "$T/www$n"
	echo "backend $n" >"$T/www$n/who"
	head -c 400000 /dev/zero | tr '\0' "$n" >"$T/www$n/big"
	cat >"$d/conf" <<-END
		worker_processes 2; daemon off; pid $d/pid; error_log stderr;
		events { worker_connections 1024; }
		http { log_format f '\$remote_addr \$http_x_forwarded_for'; access_log $d/access f;
			root $T/www$n; $(nginx_temp "$d") server { listen 80; } }
	END
	app ng$n --ip 10.0.0.1$n -- nginx -e stderr -p "$d" -c "$d/conf"
	wait_port 10.0.0.1$n 80
done
cat >"$T/ha.cfg" <<END
global
	nbthread 2
	maxconn 1000
	stats socket $T/ha.sock mode 600
defaults
	mode http
	timeout connect 5s
	timeout client 20s
	timeout server 20s
	option forwardfor
	option redispatch
frontend f
	bind :80
	default_backend b
frontend raw
	mode tcp
	bind 10.0.0.10:81
	default_backend t
backend b
	balance roundrobin
	option httpchk GET /who
	server one 10.0.0.11:80 check inter 100ms fall 2 rise 2
	server two 10.0.0.12:80 check inter 100ms fall 2 rise 2
backend t
	mode tcp
	balance roundrobin
	server one 10.0.0.11:80
	server two 10.0.0.12:80
END
app ha --ip 10.0.0.10 -- haproxy -db -f "$T/ha.cfg"
wait_port 10.0.0.10 80
wait_port 10.0.0.10 81

check "requests alternate between the backends, http and tcp mode"
for port in 80 81; do
	for _ in {1..10}; do
		run --ip 10.0.0.99 -- curl -sSf --max-time 20 http://10.0.0.10:$port/who
	done >"$T/got"
	assert_eq "5 backend 1 5 backend 2" "$(sort "$T/got" | uniq -c | xargs)" "port $port"
done

check "addresses are kept through the chain"
grep -q '^10\.0\.0\.10 10\.0\.0\.99$' "$T/ng1/access" || fail "$(tail -n 3 "$T/ng1/access")"

check "content"
for _ in 1 2; do
	run -- curl -sSf --max-time 20 http://10.0.0.10/big >"$T/big"
	cmp "$T/big" "$T/www$(head -c 1 "$T/big")/big"
done

for close in '' 'Connection: close'; do
	check "wrk through haproxy, ${close:-keep-alive}: no errors"
	run -- wrk -t2 -c16 -d3 --timeout 20s ${close:+-H "$close"} http://10.0.0.10/who >"$T/wrk"
	! grep -E 'Socket errors|Non-2xx' "$T/wrk" || fail "wrk had errors"
	grep Requests/sec "$T/wrk"
done

check "a backend that ends is taken out, and comes back"
state_is() { [ "$(run -- curl -sS --max-time 20 http://10.0.0.10/who http://10.0.0.10/who |
	sort -u | xargs)" = "$1" ]; }
stop ng1
wait_for "backend 2 only" state_is "backend 2"
for _ in {1..10}; do
	state_is "backend 2" || fail "a request went wrong"
done
app ng1 --ip 10.0.0.11 -- nginx -e stderr -p "$T/ng1" -c "$T/ng1/conf"
wait_for "both backends" state_is "backend 1 backend 2"
