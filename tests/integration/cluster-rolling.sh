#!/bin/bash
# Every node is drained, its daemon restarted and undrained, one after the other, under load: no
# connect fails and none is reset. Then the same without draining: what it costs is counted.
. "${0%/*}/../lib/lib.sh"
. "${0%/*}/../lib/hosts.sh"
need python3
need_cluster
ROUNDS=${ROUNDS:-3}
hosts 3
for k in 1 2 3; do
	start_daemon $k
done
wait_all_nodes 3
for k in 1 2; do
	app_on $k "server$k" --ip 10.0.0.5 -- "$TCP" serve 80 "server$k"
done
wait_all_services 10.0.0.5 80 2

mkfifo "$T/lines"
exec {lines}<>"$T/lines"
at 3
"${AT[@]}" "$APPSWITCH" run --no-embedded -- "$TCP" hold 10.0.0.5 80 <"$T/lines" >"$T/hold.out" &
PID[hold]=$!
ORDER+=(hold)
wait_line hold.out '^server'

start_clients() # FILE [OPTIONS]: on all hosts, until FILE is there
{
	local file=$1
	shift
	for k in 1 2 3; do
		app_on $k "client$k" -- "$TCP" loop 10.0.0.5 80 --until "$file" "$@"
	done
	for k in 1 2 3; do
		wait_for "client $k to be an app" is_app $k "${PID[client$k]}"
	done
}
is_app() # K PID
{
	get_on "$1" apps | jq -e --argjson p "$2" 'any(.[]; .pid == $p)'
}
draining() # HOST NODE: HOST knows that NODE takes no new connections
{
	get_on "$1" services >"$T/services$1.log"
	jq -e --arg n "$2" '[.[] | select(.node == $n and .state == "up")] | length == 0' "$T/services$1.log"
}

check "$ROUNDS rounds of drain, restart, undrain on each of three nodes: no client notices"
start_clients "$T/done"
for ((round = 1; round <= ROUNDS; round++)); do
	for k in 1 2 3; do
		on $k "$APPSWITCH" drain
		for other in 1 2 3; do
			wait_for "host $other to know that h$k drains" draining $other "h$k"
		done
		stop_daemon $k
		start_daemon $k
		on $k "$APPSWITCH" undrain
		wait_all_nodes 3
		wait_all_services 10.0.0.5 80 2
		for c in 1 2 3; do
			alive "client$c" || fail "round $round, node $k: client $c: $(cat "$T/client$c.log")"
		done
	done
done
touch "$T/done"
for c in 1 2 3; do
	await "client$c" 30000
	assert_eq 0 "$STATUS" "client $c: $(cat "$T/client$c.log")"
	n=$(sed -n 's/^ok \([0-9]*\)$/\1/p' "$T/client$c.log")
	say "client $c: $n connections"
	assert_between 100 1000000000 "${n:-0}" "connections of client $c"
done
echo "still here" >&"$lines"
wait_line hold.out '^still here$'

check "one app is drained, not its node"
id=$(get_on 1 apps | jq --argjson p "${PID[server1]}" '.[] | select(.pid == $p) | .id')
on 1 "$APPSWITCH" drain "$id"
wait_for "host 3 to know" draining 3 h1
assert_eq "server2=20" "$(run_on 3 -- "$TCP" count 10.0.0.5 80 20)"
assert_eq "server2=20" "$(run_on 1 -- "$TCP" count 10.0.0.5 80 20)" "from the drained app's own host"
on 1 "$APPSWITCH" undrain "$id"
wait_all_services 10.0.0.5 80 2
assert_contains "$(run_on 1 -- "$TCP" count 10.0.0.5 80 20)" "server1="

check "without draining: some may fail, none gets a wrong byte, all go on afterwards"
start_clients "$T/done2" --go-on
for k in 1 2 3; do
	stop_daemon $k
	start_daemon $k
	wait_all_nodes 3
	wait_all_services 10.0.0.5 80 2
done
touch "$T/done2"
for c in 1 2 3; do
	await "client$c" 30000
	assert_eq 0 "$STATUS" "client $c: $(cat "$T/client$c.log")"
	say "client $c: $(cat "$T/client$c.log")"
	[[ $(cat "$T/client$c.log") != *wrong* ]] || fail "client $c got wrong bytes"
	read -r _ n _ <"$T/client$c.log"
	assert_between 100 1000000000 "$n" "connections of client $c"
done
for k in 1 2 3; do
	got=$(run_on $k -- "$TCP" count 10.0.0.5 80 20)
	[[ $got != *connect-* && $got != *read-* ]] || fail "host $k afterwards: $got"
done
