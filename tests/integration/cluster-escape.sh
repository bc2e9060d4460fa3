#!/bin/bash
# An app holds a socket of its host's network, connected with another node. It tries to get into that network
# with it, by calls that the daemon looked at with another file at the number: it must not exchange a byte with
# anybody but that node.
. "${0%/*}/../lib/lib.sh"
. "${0%/*}/../lib/hosts.sh"
need python3
need_cluster
[ -x "${LEAVE_NODE:=$REPO/build/tests/integration/leave_node}" ] || skip "no leave_node"
hosts 3
SERVE=(python3 "$LIB/hello.py" serve)
start_daemon 1
start_daemon 2
wait_all_nodes 2

# On the hosts, for nobody: who comes is a line in the file.
for k in 1 3; do
	: >"$T/contacts$k"
	bg_on $k "canary$k" "${SERVE[@]}" 7777 "$T/contacts$k"
	wait_for "the canary" on $k bash -c 'exec 3<>/dev/tcp/127.0.0.1/7777'
done
contacts() { cat "$T/contacts1" "$T/contacts3" | wc -l; }
known() { [ "$(contacts)" = 2 ]; } # those of wait_for
wait_for "what the canaries saw of us" known

# From outside to the port at which the app would listen: a line for each that is let in
knock()
{
	for k in 1 3; do
		bg_on $k "knock$k" python3 -c '
import socket
while True:
    try:
        s = socket.create_connection(("10.99.0.1", 7001), timeout=0.2)
        print("let in", flush=True)
        s.close()
    except OSError:
        pass'
	done
}
knock

# try NAME CANARY: how far leave_node gets
try()
{
	await "$1" 100000
	sed "s/^/# $2: /" "$T/$1.log"
	assert_eq 0 "$STATUS"
	assert_contains "$(cat "$T/$1.log")" "end"
	if grep -q 'got out' "$T/$1.log"; then fail "it got out: $(cat "$T/$1.log")"; fi
	assert_eq 2 "$(contacts)" "contacts of the canaries"
	assert_eq "" "$(cat "$T/knock1.log" "$T/knock3.log")" "who was let in by the app"
	grep -q 'connecting elsewhere: done' "$T/$1.log" || say "the race was not won here"
}

app_on 2 web --ip 10.0.0.5 -- "${SERVE[@]}" 80 "$T/served"
wait_all_services 10.0.0.5 80
check "what the connection tells of the hosts, and what may be changed"
app_on 2 echo --ip 10.0.0.7 -- "$TCP" serve 80 hello
wait_all_services 10.0.0.7 80
run_on 1 -- python3 "$LIB/look_out.py" 10.0.0.7 80 >"$T/look.log" || fail "$(cat "$T/look.log")"
if grep ESCAPED "$T/look.log"; then fail "more than an app may have"; fi
assert_contains "$(cat "$T/look.log")" "connection: hello still there"

for canary in 10.99.0.1 10.99.0.3; do
	check "from the end that connected, to $canary"
	app_on 1 client -- "$LEAVE_NODE" to 10.0.0.5 80 "$canary" 7777 7001
	try client client
	check "from the end that accepted, to $canary"
	app_on 1 server --ip 10.0.0.6 -- "$LEAVE_NODE" at 10.0.0.6 81 "$canary" 7777 7001
	wait_service 2 10.0.0.6 81
	app_on 2 caller -- python3 -c '
import socket
s = socket.create_connection(("10.0.0.6", 81), timeout=15)
s.sendall(b"x")
try:
    while s.recv(100):
        pass
except OSError:
    pass'
	try server server
	await caller 30000
done
