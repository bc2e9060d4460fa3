#!/bin/bash
# nginx with several workers, SO_REUSEPORT off and on, against curl and wrk.
. "${0%/*}/../lib/lib.sh"
need nginx curl wrk jq
require_seccomp_notify
start_daemon
mkdir "$T/www"
chmod 711 "$T" # root's workers are another user
for k in 1 100 3000; do
	head -c ${k}000 /dev/urandom >"$T/www/$k"
done

for reuse in '' reuseport; do
	vip=10.0.0.5${#reuse}
	d=$T/ng$reuse
	mkdir "$d"
	cat >"$d/conf" <<-END
		worker_processes 3; daemon off; pid $d/pid; error_log stderr warn;
		events { worker_connections 1024; }
		http { access_log off; root $T/www; $(nginx_temp "$d") keepalive_requests 100000;
			log_format who '\$remote_addr';
			server {
				access_log $d/who who;
				listen 80 $reuse; listen [::]:80 ipv6only=on $reuse;
				location = /who { return 200 "\$remote_addr \$remote_port \$server_addr \$server_port\n"; }
			} }
	END
	check "nginx, 3 workers, ${reuse:-no reuseport}: curl gets the content"
	app "ng$reuse" --ip "$vip" --ip "fd00::5${#reuse}" -- nginx -e stderr -p "$d" -c "$d/conf"
	wait_port "$vip" 80
	wait_port "fd00::5${#reuse}" 80
	for k in 1 100 3000; do
		run -- curl -sSf --max-time 20 "http://$vip/$k" | cmp - "$T/www/$k"
		run -- curl -sSfg --max-time 20 "http://[fd00::5${#reuse}]/$k" | cmp - "$T/www/$k"
	done
	read -r raddr rport saddr sport <<<"$(run --ip 10.0.0.77 -- curl -sS --max-time 20 "http://$vip/who")"
	assert_eq "10.0.0.77 $vip 80" "$raddr $saddr $sport"
	assert_between 1 65535 "$rport"

	check "200 requests over one connection, and 200 over 200"
	run -- curl -sSf --max-time 40 -w '%{num_connects}\n' -o /dev/null "http://$vip/1?[1-200]" >"$T/out"
	assert_eq 1 "$(awk '{ n += $1 } END { print n }' "$T/out")" "connections"
	run -- curl -sSf --max-time 40 -H 'Connection: close' -w '%{num_connects}\n' -o /dev/null \
		"http://$vip/1?[1-200]" >"$T/out"
	assert_eq 200 "$(awk '{ n += $1 } END { print n }' "$T/out")" "connections"

	for close in '' 'Connection: close'; do
		check "wrk ${close:-keep-alive}: no socket error, all 2xx"
		run --ip 10.0.0.78 -- wrk -t2 -c32 -d3 --timeout 20s ${close:+-H "$close"} \
			"http://$vip/1" >"$T/wrk"
		! grep -E 'Socket errors|Non-2xx' "$T/wrk" || fail "wrk had errors"
		grep 'Requests/sec' "$T/wrk"
		[ "$(awk '/requests in/ { print $1 }' "$T/wrk")" -gt 200 ] || fail "few requests: $(cat "$T/wrk")"
	done
	check "all of wrk's requests came from its own address"
	assert_eq 10.0.0.78 "$(sort "$d/who" | uniq -c | sort -n | tail -n 1 | awk '{ print $2 }')"

	check "reload: new workers serve, the listeners stay"
	sed -i 's/return 200 "/&again /' "$d/conf"
	kill -HUP "${PID[ng$reuse]}"
	reloaded() { [[ $(run -- curl -sS --max-time 20 "http://$vip/who") == again* ]]; }
	wait_for "the new configuration" reloaded

	check "graceful stop: exit status 0, then refused"
	stop "ng$reuse" QUIT
	assert_eq 0 "$STATUS"
	expect_status 7 run -- curl -sS --max-time 20 "http://$vip/1"
done
