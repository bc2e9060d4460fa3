#!/bin/bash
# The daemon as a program: ready fd, socket, configuration, signals.
. "${0%/*}/../lib/lib.sh"
need jq
need_switch "about the daemon's own command line"
require_seccomp_notify

check "--ready-fd comes when it serves; the socket is the owner's only"
start_daemon --node here
assert_eq 'socket' "$(stat -c %F "$APPSWITCH_SOCKET")"
mode=$(stat -c %a "$APPSWITCH_SOCKET")
[ $((0$mode & 077)) = 0 ] || fail "mode $mode of the socket lets others in"
assert_eq here "$(get nodes | jq -r '.[0].name')" "name of the node"

check "run uses it"
assert_eq hello "$(run --no-embedded -- echo hello)"

check "a second daemon on the same socket is refused and the first goes on"
expect_fail timeout 20 "$APPSWITCH" daemon
assert_eq 1 "$(wc -l <"$T/err")" "lines of the message: $(cat "$T/err")"
assert_eq here "$(get nodes | jq -r '.[0].name')"

for sig in TERM INT; do
	check "SIG$sig ends it with status 0 and the socket is gone"
	stop daemon $sig
	assert_eq 0 "$STATUS" "exit status"
	[ ! -e "$APPSWITCH_SOCKET" ] || fail "socket left"
	start_daemon
done
stop_daemon

check "a file that is in the way is left alone: one line"
for there in "$T/mine" "$T/mine.holder" "$T/mine.lock"; do
	echo precious >"$there"
	expect_fail timeout 20 "$APPSWITCH" daemon --socket "$T/mine"
	assert_eq 1 "$(wc -l <"$T/err")" "lines of the message: $(cat "$T/err")"
	assert_contains "$(cat "$T/err")" "choose another --socket"
	assert_eq precious "$(cat "$there")" "$there"
	assert_eq "$there" "$(echo "$T"/mine*)" "files"
	rm "$there"
done

check "so is a socket that another program serves"
bg other /usr/bin/python3 -c 'import socket, sys, time
s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(); time.sleep(60)' "$T/other"
wait_for "its socket" test -S "$T/other"
expect_fail timeout 20 "$APPSWITCH" daemon --socket "$T/other"
assert_contains "$(cat "$T/err")" "choose another --socket"
[ -S "$T/other" ] || fail "the other program's socket is gone"
stop other
rm "$T/other"

check "a relative --socket: nothing is left, and nothing elsewhere is touched"
mkdir "$T/rel" && cd "$T/rel"
start_ready rel "$APPSWITCH" daemon --socket r.sock --ready-fd 3
bg relapp "$APPSWITCH" run --socket r.sock -- sleep 60
wait_for "the app" bash -c '"$0" get apps --socket r.sock -o json | jq -e "length == 1"' "$APPSWITCH"
stop rel
stop relapp
empty() { [ -z "$(ls -A "$T/rel")" ]; }
wait_for "the holder's end" empty
cd - >/dev/null

check "a socket left by a killed daemon is taken over"
start_daemon
kill_daemon
[ -S "$APPSWITCH_SOCKET" ] || fail "kill -9 should have left the socket file"
start_daemon
assert_eq hi "$(run --no-embedded -- echo hi)"
kill_daemon
check "... and by an embedded one"
assert_eq hi "$(run -- echo hi)"
wait_no_daemon

check "--no-embedded without a daemon: one line, exit 125"
expect_status 125 "$APPSWITCH" run --no-embedded -- true
assert_eq 1 "$(wc -l <"$T/err")" "lines of the message"

check "--config: the same names; unknown keys and bad values are errors"
printf '{"node": "fromfile", "log": "debug", "socket": "%s/s2"}' "$T" >"$T/c.json"
start_ready daemon "$APPSWITCH" daemon --config "$T/c.json" --ready-fd 3
assert_eq fromfile "$("$APPSWITCH" get nodes --socket "$T/s2" -o json | jq -r '.[0].name')"
stop daemon
assert_eq 0 "$STATUS"
[ ! -e "$T/s2" ] || fail "socket left"
printf '{"ready-fd": 3, "socket": "%s/s3"}' "$T" >"$T/c.json"
start_ready daemon "$APPSWITCH" daemon --config "$T/c.json"
assert_eq 1 "$("$APPSWITCH" get nodes --socket "$T/s3" -o json | jq length)" "nodes: ready-fd was believed"
stop daemon
assert_eq 0 "$STATUS"
for bad in '{"ready-fd": "3"}' '{"ready-fd": 99}' '{"ready-fd": -1}' '{"nodename": "x"}' '{"node": 3}' '[' '[]' '{"log": "loud"}'; do
	echo "$bad" >"$T/c.json"
	expect_fail timeout 20 "$APPSWITCH" daemon --config "$T/c.json"
	assert_eq 1 "$(wc -l <"$T/err")" "lines of the message for $bad: $(cat "$T/err")"
done
expect_fail timeout 20 "$APPSWITCH" daemon --config "$T/missing.json"
expect_fail timeout 20 "$APPSWITCH" daemon --no-such-option
expect_fail timeout 20 "$APPSWITCH" daemon --log loud
expect_fail timeout 20 "$APPSWITCH" daemon surplus

check "the default socket of an ordinary user is below XDG_RUNTIME_DIR"
if [ "$(id -u)" != 0 ]; then
	(
		unset APPSWITCH_SOCKET
		run -- stat -c %F "$T/run/appswitch/appswitch.sock" >"$T/out"
		assert_eq socket "$(cat "$T/out")"
		wait_for "the end of the embedded daemon" test ! -e "$T/run/appswitch/appswitch.sock"
	)
	rmdir "$T/run/appswitch" 2>/dev/null || :
fi
