#!/bin/bash
# connect() of a socket that is in a large epoll set: by TCP inside the client's own namespace
# (traphandler/conn/carry.h), and nobody sees a difference but `get connections`.
. "${0%/*}/../lib/lib.sh"
need python3 jq
need_switch "about the switch's own ways"
require_seccomp_notify
LARGE=(/usr/bin/python3 "$LIB/large_epoll.py")
KILLS=${KILLS:-15}
start_daemon --node n1

app v4 --ip 10.0.0.5 --ip fd00::5 -- "${LARGE[@]}" serve 0.0.0.0 80
app v6 --ip 10.0.0.5 --ip fd00::5 -- "${LARGE[@]}" serve :: 81 --nonblocking
wait_port 10.0.0.5 80
wait_port fd00::5 81

# ends FAMILY-OF-SERVER CLIENT SERVER: of every line of $T/got
ends()
{
	local mapped=""
	[ "$1" != AF_INET6 ] || [[ $3 == *:* ]] || mapped=::ffff:
	jq -e --arg f "$1" --arg c "$2" --arg s "$3" --arg m "$mapped" '
		.client.name[0] == $c and .client.peer[0] == $s and
		.server.family == $f and .server.name[0] == $m + $s and
		.server.peer == [$m + $c, .client.name[1]] and .server.accepted == .server.peer and
		.server.name[1] == .client.peer[1] and
		.server.nodelay and .server.keepalive and .server.keepidle == 77 and
		(.client.nodelay | not) and
		([.client, .server] | all(.mark == 0 and .transparent == 0 and .namespace == "EPERM"))' \
		"$T/got" >/dev/null || fail "not as it should be: $(cat "$T/got")"
}

for target in "10.0.0.5 80 AF_INET 10.0.0.9" "10.0.0.5 81 AF_INET6 10.0.0.9" \
	"fd00::5 81 AF_INET6 fd00::9"; do
	read -r vip port family client <<<"$target"
	for mode in "" --blocking; do
		check "$vip port $port ${mode:-non-blocking}: addresses, options, events as TCP's"
		run --ip 10.0.0.9 --ip fd00::9 -- "${LARGE[@]}" ask "$vip" "$port" 20 --bytes 100000 ${mode:+"$mode"} >"$T/got"
		assert_eq 20 "$(wc -l <"$T/got")" "answers"
		ends "$family" "$client" "$vip"
	done
done

check "the server's end is no way into the client's namespace"
jq -e '.server | .again == "EINVAL" and .bind == "EINVAL" and .listen == "EINVAL" and
	(.ifconf | index("10.0.0.9") | not)' "$T/got" >/dev/null || fail "$(head -n 1 "$T/got")"

check "a client that delays its handshake (TCP_QUICKACK 0) is connected as well"
run --ip 10.0.0.9 -- "${LARGE[@]}" ask 10.0.0.5 80 20 --slowack >"$T/got"
assert_eq 20 "$(wc -l <"$T/got")" "answers"

check "a server end that its app gets out of the connection hears nobody in the client's namespace"
mkfifo "$T/fed"
exec {fed}<>"$T/fed"
app hunter --ip 10.0.0.6 -- "$LEAVE_CONNECTION" 80 7777
wait_port 10.0.0.6 80
"$APPSWITCH" run --ip 10.0.0.9 -- "${LARGE[@]}" prey 10.0.0.6 80 7777 <"$T/fed" >"$T/prey.log" 2>&1 &
PID[prey]=$!
ORDER+=(prey)
wait_line prey.log '^connected'
await hunter 60000
assert_eq 0 "$STATUS" "$(cat "$T/hunter.log")"
say "$(paste -sd ';' "$T/hunter.log")"
! grep -q '^read' "$T/hunter.log" || fail "it read from the client's loopback"
echo >&"$fed"
await prey

check "a client that listens on the same port itself"
run --ip 10.0.0.9 -- "${LARGE[@]}" ask 10.0.0.5 80 5 --listen 80 --bytes 10000 >"$T/got"
assert_eq 5 "$(wc -l <"$T/got")" "answers"
ends AF_INET 10.0.0.9 10.0.0.5

check "it is what was meant: get connections says tcp, and who is connected"
mkfifo "$T/end"
exec {end}<>"$T/end"
"$APPSWITCH" run --ip 10.0.0.9 -- "${LARGE[@]}" ask 10.0.0.5 80 1 --hold <"$T/end" >"$T/hold.log" 2>&1 &
PID[hold]=$!
ORDER+=(hold)
wait_line hold.log '^{'
port=$(jq '.client.name[1]' "$T/hold.log")
held()
{
	get connections | jq -e --arg c "10.0.0.9:$port" '[.[] | select(.kind == "tcp")] |
		length == 1 and (.[0] | .client == $c and .server == "10.0.0.5:80" and
		.network == "default" and .client_app != .server_app and .server_app > 0)'
}
held >/dev/null || fail "$(get connections)"
get services | jq -e '.[] | select(.port == 80) | .connections == 1' >/dev/null ||
	fail "$(get services)"

check "... and so it does after a kill -9"
kill_daemon
start_daemon --node n1
held >/dev/null || fail "$(get connections)"
stop hold KILL
none() { get connections | jq -e 'length == 0'; }
wait_for "the end of the connection" none

check "nobody there: refused as ever"
run --ip 10.0.0.9 -- "${LARGE[@]}" ask 10.0.0.5 99 2 >"$T/got"
assert_eq '{"connect": "ECONNREFUSED"}' "$(sort -u "$T/got")"
run --ip 10.0.0.9 -- "${LARGE[@]}" ask 10.0.0.5 99 2 --blocking >"$T/got"
assert_eq '{"connect": "ECONNREFUSED"}' "$(sort -u "$T/got")"

check "a listener that ends with the connection not accepted: its client sees the end"
mkfifo "$T/nap"
exec {nap}<>"$T/nap"
"$APPSWITCH" run --ip 10.0.0.6 -- "${LARGE[@]}" serve 0.0.0.0 80 --nap <"$T/nap" >"$T/nap.log" 2>&1 &
PID[nap]=$!
ORDER+=(nap)
wait_line nap.log '^listens'
app client --ip 10.0.0.9 -- "${LARGE[@]}" ask 10.0.0.6 80 1 --warm 10.0.0.5 80
waits() { get connections | jq -e 'map(.kind) == ["tcp"]'; }
wait_for "the connection" waits
echo >&"$nap"
await nap
await client
[ "$STATUS" != 0 ] || fail "the client did not notice: $(cat "$T/client.log")"

check "kills of the daemon at random instants: no connect fails, nothing is lost; small sets, too"
app again --ip 10.0.0.9 -- "${LARGE[@]}" ask 10.0.0.5 80 1 --until "$T/done" --bytes 20000
app again6 --ip 10.0.0.10 -- "${LARGE[@]}" ask 10.0.0.5 81 1 --until "$T/done" --blocking
app small --ip 10.0.0.11 -- "${LARGE[@]}" ask 10.0.0.5 80 1 --until "$T/done" --items 20
for ((k = 0; k < KILLS; k++)); do
	sleep "$(printf 0.%03d $((RANDOM % 300)))" # the random instant
	kill_daemon
	start_daemon --node n1
	for c in again again6 small v4 v6; do
		alive "$c" || fail "kill $k: $c ended: $(tail -n 3 "$T/$c.log")"
	done
done
touch "$T/done"
for c in again again6 small; do
	await "$c" 30000
	assert_eq 0 "$STATUS" "$c: $(tail -n 3 "$T/$c.log")"
	say "$c: $(cat "$T/$c.log")"
done
