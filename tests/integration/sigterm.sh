#!/bin/bash
# The daemon ends on SIGTERM while apps live: open connections go on, calls that trap wait,
# a new daemon serves them.
. "${0%/*}/../lib/lib.sh"
need python3 jq
need_switch "about the daemon"
require_seccomp_notify
start_daemon
app server --ip 10.0.0.5 -- "$TCP" serve 80 server
wait_port 10.0.0.5 80

mkfifo "$T/lines"
exec {lines}<>"$T/lines"
"$APPSWITCH" run --ip 10.0.0.6 -- "$TCP" hold 10.0.0.5 80 <"$T/lines" >"$T/hold.out" &
PID[hold]=$!
ORDER+=(hold)
wait_line hold.out '^server'
# A client that is already inside and connects when told.
mkfifo "$T/go"
app late --ip 10.0.0.7 -- bash -c \
	'echo inside; read -r _ <"$0"; exec "$1" ask 10.0.0.5 80' "$T/go" "$TCP"
wait_line late.log '^inside'

for round in 1 2 3; do
	check "round $round: SIGTERM ends the daemon cleanly although apps live"
	stop_daemon
	wait_for "nobody answers" ended

	check "an open connection goes on"
	echo "line $round" >&"$lines"
	wait_line hold.out "^line $round\$"

	if [ $round = 1 ]; then
		check "a call that traps waits"
		echo >"$T/go"
		trapped() { grep -q seccomp "/proc/${PID[late]}/wchan" ||
			grep -q '^42 ' "/proc/${PID[late]}/syscall"; }
		if [ "$(id -u)" = 0 ]; then
			wait_for "the late client is in connect()" trapped
		fi
		alive late || fail "the late client ended: $(cat "$T/late.log")"
		assert_eq inside "$(cat "$T/late.log")"
	fi

	start_daemon
	if [ $round = 1 ]; then
		check "a new daemon answers it"
		await late
		assert_eq 0 "$STATUS" "the late client: $(cat "$T/late.log")"
		assert_contains "$(cat "$T/late.log")" "server peer=10.0.0.7,"
	fi
	check "the listener and the connection are known again"
	wait_port 10.0.0.5 80
	assert_contains "$(run -- "$TCP" ask 10.0.0.5 80)" "server "
	echo "again $round" >&"$lines"
	wait_line hold.out "^again $round\$"
	has_conn() { get connections | jq -e 'any(.[]; .client | startswith("10.0.0.6:"))'; }
	wait_for "the connection in get" has_conn
done

check "apps that end while there is no daemon leave nothing"
stop_daemon
stop server
kill "${PID[hold]}"
await hold
start_daemon
wait_for "no apps" bash -c '[ "$("$APPSWITCH" get apps -o json | jq length)" = 0 ]'
