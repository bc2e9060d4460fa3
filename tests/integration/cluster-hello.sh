#!/bin/bash
# What is said first on a connection between nodes: who has the key and says it right gets to the app,
# everything else is reset, counted, and not a byte of it reaches the app.
. "${0%/*}/../lib/lib.sh"
. "${0%/*}/../lib/hosts.sh"
need python3
need_cluster
hosts 3
HELLO=$LIB/hello.py
LOG=$T/served
GOOD=0

count() { get_on 1 nodes | jq --arg c "$1" '.[0][$c]'; } # accepted, refused, bad_hellos or replays
id_of() { get_on "$1" nodes | jq -r '.[0].id'; }
generation_of() { sed -n 's/^generation //p' "$T/h$1/state/node"; }
learn() { ID=$(id_of 1) GENERATION=$(generation_of 1); }

# hello WHAT...: from host 3, which is no node but has the key
hello()
{
	on 3 python3 "$HELLO" --key "${KEY:-$T/key}" --host "10.99.0.${TO:-1}" --id "${AS:-$ID}" \
		--generation "${FOR:-$GENERATION}" "$@"
}
accepted() # WHAT...
{
	assert_eq "ok 1" "$(hello "$@")" "$*"
	GOOD=$((GOOD + 1))
}
# refused COUNTER N WHAT...: N connections are reset, and the counter says so
refused()
{
	local counter=$1 n=$2 before
	shift 2
	before=$(count "$counter")
	assert_eq "reset $n" "$(hello "$@")" "$*"
	assert_eq "$n" "$(($(count "$counter") - before))" "$counter counted for $*"
}
served() { [ "$(wc -l <"$LOG")" = "$1" ]; }
# The app has seen as many as were good, and nothing else.
app_saw()
{
	wait_for "the app to have seen $GOOD connections: $(sort "$LOG" | uniq -c)" served "$GOOD"
	assert_eq "$GOOD GOOD" "$(sort "$LOG" | uniq -c | sed 's/^ *//')" "what the app was sent"
}
restart_daemon() # apps live on
{
	kill_daemon 1
	start_daemon 1
	learn
}
web()
{
	: >"$LOG"
	GOOD=0
	app_on 1 web --ip 10.0.0.5 -- python3 "$HELLO" serve 80 "$LOG"
	wait_service 1 10.0.0.5 80
}
age_over() { [ "$(count age_s)" -ge "$1" ]; }

# The others are no help here: each node knows the app of host 1 or not, hellos are said by hand.
start_daemon 1
start_daemon 2
wait_all_nodes 2
web
learn

check "a hello that is right gets to the app, at once and byte by byte"
assert_eq "ok 20" "$(hello good 20)"
GOOD=20
accepted trickle 2
app_saw
assert_eq 21 "$(count accepted)" "accepted"
assert_eq 0 "$(count bad_hellos)" "bad_hellos"

check "one that was recorded is not accepted again, nor its nonce in another hello"
accepted record "$T/recorded"
refused replays 1 send "$T/recorded"
refused bad_hellos 1 send "$T/recorded"
refused replays 1 nonce "$T/recorded"

check "nor at another node, nor one of another node here"
assert_eq "reset 1" "$(TO=2 hello send "$T/recorded")"
assert_eq "reset 1" "$(TO=2 hello good 1)"
AS=$(id_of 2) refused bad_hellos 1 good 1
FOR=$((GENERATION + 1)) refused bad_hellos 1 good 1
FOR=$((GENERATION - 1)) refused bad_hellos 1 good 1

check "no bit of it can be another one"
refused bad_hellos 1152 flips

check "a hello that ends early is none"
before=$(count bad_hellos)
assert_eq "reset 144" "$(hello cut)"
assert_eq 143 "$(($(count bad_hellos) - before))" "counted: all but the one without a byte"

check "another key"
"$SWITCH" keygen "$T/other"
KEY=$T/other refused bad_hellos 1 good 1

check "a service, a port, a network that is not there: reset, and nobody is told"
refused refused 1 to 10.0.0.6 80 default
refused refused 1 to 10.0.0.5 81 default
refused refused 1 to 10.0.0.5 80 other
refused refused 1 to 127.0.0.1 80 default
refused refused 1 to 0.0.0.0 80 default
app_saw

check "keys are rotated: the old one is good until it is dropped"
cp "$T/key" "$T/old"
"$SWITCH" keygen "$T/new"
again() { [ "$(grep -c 'was read again' "$T/daemon1.log")" -ge "$1" ]; }
cat "$T/new" "$T/old" >"$T/key"
kill -HUP "${PID[daemon1]}"
wait_for "the keys to be read" again 1
assert_contains "$(cat "$T/daemon1.log")" "was read again: 2 keys"
KEY=$T/old accepted good 1
KEY=$T/new accepted good 1
KEY=$T/old accepted record "$T/old-key"
cat "$T/new" >"$T/key"
kill -HUP "${PID[daemon1]}"
wait_for "the keys to be read" again 2
KEY=$T/old refused bad_hellos 1 good 1
KEY=$T/old refused bad_hellos 1 send "$T/old-key"
accepted good 1
cp "$T/old" "$T/key"
kill -HUP "${PID[daemon1]}"
wait_for "the keys to be read" again 3
KEY=$T/new refused bad_hellos 1 good 1
app_saw

check "10,000 that say nothing, or one byte: a genuine client is served, and what is kept is bounded"
fds() { find "/proc/${PID[daemon1]}/fd" -mindepth 1 | wc -l; }
n=10000
[ "$(ulimit -Hn)" -gt 10100 ] || n=$(($(ulimit -Hn) - 100))
before=$(fds)
at 3
bg crowd "${AT[@]}" python3 "$HELLO" --key "$T/key" --host 10.99.0.1 --id "$ID" \
	--generation "$GENERATION" crowd $n "$T/enough"
wait_line crowd.log crowd
most=0
for i in {1..10}; do
	accepted good 1
	now=$(fds)
	[ "$now" -lt "$most" ] || most=$now
done
assert_eq "10" "$(run_on 2 -- python3 -c '
import socket
n = 0
for _ in range(10):
    s = socket.create_connection(("10.0.0.5", 80), timeout=15)
    s.sendall(b"GOOD\n")
    s.shutdown(socket.SHUT_WR)
    n += s.recv(10) == b"hello\n"
print(n)')" "genuine connections"
GOOD=$((GOOD + 10))
say "$n connections; descriptors of the daemon: $before before, $most at most"
assert_between 0 $((before + 300)) "$most" "descriptors"
touch "$T/enough"
await crowd
assert_eq 0 "$STATUS" "$(cat "$T/crowd.log")"
app_saw

check "5 seconds for a hello, however it comes"
bg one "${AT[@]}" python3 "$HELLO" --key "$T/key" --host 10.99.0.1 --id "$ID" --generation "$GENERATION" silent 1
bg most "${AT[@]}" python3 "$HELLO" --key "$T/key" --host 10.99.0.1 --id "$ID" --generation "$GENERATION" silent 143
bg none "${AT[@]}" python3 "$HELLO" --key "$T/key" --host 10.99.0.1 --id "$ID" --generation "$GENERATION" silent 0
assert_eq "reset 1" "$(hello trickle 100)"
for name in one most none; do
	await $name 60000
	say "$name: $(tr '\n' ' ' <"$T/$name.log")"
	assert_contains "$(cat "$T/$name.log")" "reset 1"
done
assert_between 4 8 "$(sed -n 's/^after //p' "$T/one.log")" "seconds for one byte"
assert_between 4 8 "$(sed -n 's/^after //p' "$T/most.log")" "seconds for 143 bytes"
# the kernel has those that say nothing at first (TCP_DEFER_ACCEPT)
assert_between 4 30 "$(sed -n 's/^after //p' "$T/none.log")" "seconds for nothing"

check "clocks: 14 seconds apart is near enough, 16 are not"
wait_for "the node to be up for longer than that" age_over 16
for seconds in 14 -14; do accepted at $seconds; done
for seconds in 16 -16 1000000 -1000000 -1600000000 9000000000000; do refused bad_hellos 1 at $seconds; done
app_saw

check "after a restart of the daemon under its apps a recorded hello is known, a new one to the start before is good"
accepted record "$T/before"
former=$GENERATION
restart_daemon
[ "$GENERATION" -gt "$former" ] || fail "the same generation after a restart"
FOR=$former accepted good 1
FOR=$former refused replays 1 send "$T/before"
accepted good 1
accepted at -14

check "the start before that is too old"
restart_daemon
FOR=$former refused bad_hellos 1 good 1
refused bad_hellos 1 send "$T/before"
app_saw

check "after a restart without apps nothing that was said to the start before is good, sent or not"
hello make "$T/unsent" >/dev/null
accepted record "$T/sent"
former=$GENERATION
app_saw
stop web
wait_for "the end of the app" no_apps 1
stop_daemon 1
start_daemon 1
web
learn
refused bad_hellos 1 send "$T/sent"
refused bad_hellos 1 send "$T/unsent"
FOR=$former refused bad_hellos 1 good 1
accepted at -14
accepted good 1
app_saw
