#!/bin/bash
# Apps with the same VIP are one virtual host: loopback reaches each other's ports.
. "${0%/*}/../lib/lib.sh"
need python3 jq
need_switch "loopback between namespaces"
require_seccomp_notify
start_daemon
ips=(--ip 10.0.0.7 --ip fd00::7)
app a "${ips[@]}" -- "$TCP" serve 8001 a --bind ::
app b "${ips[@]}" -- "$TCP" serve 8002 b --bind ::
app l "${ips[@]}" -- bash -c '(until "$0" ask 127.0.0.1 8003; do sleep 0.05; done) &
	exec "$0" serve 8003 lo --bind 127.0.0.1' "$TCP"
app v "${ips[@]}" -- "$TCP" serve 8004 vip --bind 10.0.0.7
wait_port 10.0.0.7 8001
wait_port 10.0.0.7 8002
wait_port 10.0.0.7 8004
wait_line l.log '^lo peer=127.0.0.1,.* server=127.0.0.1,8003 '

check "every port by 127.0.0.1 and ::1 from another app of the same VIP"
for to in "127.0.0.1 8001 a" "::1 8001 a" "127.0.0.1 8002 b" "::1 8002 b" \
	"127.1.2.3 8001 a" "10.0.0.7 8001 a" "fd00::7 8002 b" "10.0.0.7 8004 vip" \
	"127.0.0.1 8004 vip"; do
	read -r addr port who <<<"$to"
	got=$(run "${ips[@]}" -- "$TCP" ask "$addr" "$port") || fail "$to: $got"
	assert_eq "$who" "${got%% *}" "$to"
	assert_contains "$got" "server=$addr,$port " "getpeername for $to"
done

check "a listener bound to loopback serves no virtual IP: it is its own app's"
assert_eq "connect ECONNREFUSED" "$(run "${ips[@]}" -- "$TCP" ask 127.0.0.1 8003 || :)"
assert_eq "connect ECONNREFUSED" "$(run --ip 10.0.0.8 -- "$TCP" ask 10.0.0.7 8003 || :)"

check "what an app has bound to its own loopback comes before what others serve on that port"
app taken "${ips[@]}" -- "$TCP" serve 8003 other --bind ::
wait_port 10.0.0.7 8003
assert_contains "$(run "${ips[@]}" -- "$TCP" ask 127.0.0.1 8003)" "other "
got=$(run "${ips[@]}" -- bash -c '"$0" serve 8003 own --bind 127.0.0.1 & me=$!
	until [[ $("$0" ask 127.0.0.1 8003) == own* ]]; do sleep 0.05; done
	for i in {1..20}; do "$0" ask 127.0.0.1 8003; done; "$0" ask 10.0.0.7 8003; "$0" ask ::1 8003
	kill $me; wait $me; "$0" ask 127.0.0.1 8003' "$TCP") || :
assert_eq "20 own, 3 other" "$(awk '$1 == "own" { own++ } $1 == "other" { other++ }
	END { printf("%d own, %d other", own, other) }' <<<"$got")" "$got"
stop taken

check "an app of another VIP has another loopback"
for addr in 127.0.0.1 ::1; do
	assert_eq "connect ECONNREFUSED" "$(run --ip 10.0.0.8 --ip fd00::8 -- "$TCP" ask $addr 8001 || :)"
done

check "a port on which nobody listens"
assert_eq "connect ECONNREFUSED" "$(run "${ips[@]}" -- "$TCP" ask 127.0.0.1 8009 || :)"
assert_eq "connect ECONNREFUSED" "$(run "${ips[@]}" -- "$TCP" ask ::1 8003 || :)" "v4-only by ::1"
