#!/bin/bash
# `appswitch get`: what it shows, as JSON and as a table.
. "${0%/*}/../lib/lib.sh"
need python3 jq
need_switch "about the output of get"
require_seccomp_notify
start_daemon --node thisnode

check "nothing yet: empty arrays, and one node"
for what in services apps connections; do
	assert_eq "[]" "$(get $what | jq -c .)"
done
assert_eq 1 "$(get nodes | jq length)"
assert_eq thisnode "$(get nodes | jq -r '.[0].name')"

before=$(date +%s)
app web --ip 10.0.0.5 --ip fd00::5 --name web --tag tier=front --tag zone=a --network blue -- \
	"$TCP" serve 80 web --bind ::
app web2 --ip 10.0.0.5 --ip fd00::5 --name web --network blue -- "$TCP" serve 80 web2 --bind ::
wait_port 10.0.0.5 80 2
wait_port fd00::5 80 2
mkfifo "$T/lines"
exec {lines}<>"$T/lines"
"$APPSWITCH" run --ip 10.0.0.6 --network blue -- "$TCP" hold 10.0.0.5 80 <"$T/lines" >"$T/hold.out" &
PID[hold]=$!
ORDER+=(hold)
wait_line hold.out '^web'

is() # WHAT FILTER
{
	get "$1" >"$T/json"
	jq -e "$2" "$T/json" >/dev/null || fail "get $1: not so: $2: $(jq -c . "$T/json")"
}

has() { get "$1" | jq -e "$2"; }

check "apps: fields and values"
is apps 'length == 3'
is apps 'all(.[]; keys - ["user","node","uid"] ==
	["command","id","ips","name","network","pid","started","tags"])'
is apps "any(.[]; .pid == ${PID[web]} and .name == \"web\" and .network == \"blue\")"
is apps "any(.[]; .pid == ${PID[web]} and (.ips | tostring |
	(contains(\"10.0.0.5\") and contains(\"fd00::5\"))))"
is apps "any(.[]; .pid == ${PID[web]} and (.tags | tostring |
	(contains(\"tier=front\") and contains(\"zone=a\"))))"
is apps "any(.[]; .pid == ${PID[web]} and (.command | contains(\"serve 80 web\")))"
is apps '[.[].id] | unique | length == 3'
is apps 'all(.[].started; . != null)'
is apps 'all(.[]; all(.[]; type | . == "string" or . == "number" or . == "boolean" or . == "array"))'
started=$(get apps | jq -r '.[0].started')
case $started in
*[!0-9.]*) started=$(date -d "$started" +%s) ;;
esac
assert_between "$((before - 1))" "$(date +%s)" "${started%.*}" "started"

check "services: fields and values"
is services 'length == 4'
is services 'all(.[]; keys - ["ref","lb"] ==
	["app","connections","name","network","node","pid","port","proto","state","vip"])'
is services 'all(.[]; .port == 80 and .proto == "tcp" and .network == "blue" and
	.node == "thisnode" and .name == "web")'
is services '[.[].vip] | sort == ["10.0.0.5","10.0.0.5","fd00::5","fd00::5"]'
is services "[.[].pid] | unique | sort == ([${PID[web]}, ${PID[web2]}] | sort)"
is services '[.[].app] | unique | length == 2'
wait_for "one connection counted" has services '[.[].connections] | add == 1'

check "connections: fields and values"
wait_for "one row" has connections 'length == 1'
is connections 'all(.[]; keys - ["proto"] ==
	["age_s","client","client_app","kind","network","node","server","server_app"])'
is connections '.[0] | .kind == "unix" and .network == "blue" and .node == "thisnode" and
	.server == "10.0.0.5:80" and (.client | startswith("10.0.0.6:")) and .age_s >= 0'
is apps "any(.[]; .pid == ${PID[hold]})"
capp=$(get apps | jq ".[] | select(.pid == ${PID[hold]}) | .id")
sapp=$(get connections | jq '.[0].server_app')
is connections ".[0].client_app == $capp"
is apps "any(.[]; .id == $sapp and .name == \"web\")"
peer=$(sed -n 's/.*peer=::ffff:\([^ ]*\) .*/\1/p' "$T/hold.out")
is connections ".[0].client == \"${peer/,/:}\""

check "a closed connection and an ended app disappear"
kill "${PID[hold]}"
await hold
exec {lines}>&-
wait_for "no connection" has connections 'length == 0'
wait_for "two apps" has apps 'length == 2'
stop web
is services 'length == 2'

check "an IPv6 endpoint is written in brackets"
mkfifo "$T/lines6"
exec {lines}<>"$T/lines6"
"$APPSWITCH" run --ip fd00::6 --network blue -- "$TCP" hold fd00::5 80 <"$T/lines6" >"$T/hold6.out" &
PID[hold]=$!
wait_line hold6.out '^web2'
wait_for "one row" has connections 'length == 1'
is connections '.[0] | .server == "[fd00::5]:80" and (.client | startswith("[fd00::6]:"))'
kill "${PID[hold]}"
await hold
exec {lines}>&-

check "tables: a heading and one line per row"
for what in services apps connections nodes; do
	timeout 20 "$APPSWITCH" get $what >"$T/table"
	rows=$(get $what | jq length)
	assert_eq $((rows + 1)) "$(wc -l <"$T/table")" "lines of get $what"
	timeout 20 "$APPSWITCH" get $what -o table | diff - "$T/table"
done
timeout 20 "$APPSWITCH" get services | grep -q '10\.0\.0\.5' || fail "no VIP in the table"

check "wrong use: not status 0"
expect_fail timeout 20 "$APPSWITCH" get
expect_fail timeout 20 "$APPSWITCH" get everything
expect_fail timeout 20 "$APPSWITCH" get apps -o yaml

check "300 apps' worth of rows (more than one message)"
app many --ip 10.0.0.7 --name "$(printf 'n%.0s' {1..60})" -- /usr/bin/python3 -c '
import socket, signal
ls = []
for p in range(1000, 2000):
    s = socket.socket(); s.bind(("", p)); s.listen(1); ls.append(s)
print("ready", flush=True)
signal.pause()'
wait_line many.log ready
is services "[.[] | select(.vip == \"10.0.0.7\")] | length == 1000 and ([.[].port] | unique | length == 1000)"
