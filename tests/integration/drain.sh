#!/bin/bash
# drain and undrain on one host: who drains gets no new connections from others, and keeps the old.
. "${0%/*}/../lib/lib.sh"
need python3 jq
need_switch "about the daemon"
require_seccomp_notify
start_daemon --node n1

app a --ip 10.0.0.5 --ip fd00::5 --lb round-robin -- "$TCP" serve 80 a --bind ::
app b --ip 10.0.0.5 --ip fd00::5 --lb round-robin -- "$TCP" serve 80 b --bind ::
mkfifo "$T/lines" "$T/go"
# a third one of the same address, which asks itself when it is told to
app self --ip 10.0.0.5 -- bash -c '"$0" serve 81 self & read -r _ <"$1"
	"$0" ask 10.0.0.5 81; "$0" ask 127.0.0.1 81; "$0" ask 127.0.0.1 80; kill $!' "$TCP" "$T/go"
wait_port 10.0.0.5 80 2
wait_port fd00::5 80 2
wait_port 10.0.0.5 81
id_of() { get apps | jq ".[] | select(.pid == ${PID[$1]}) | .id"; }
a=$(id_of a)
b=$(id_of b)
self=$(id_of self)

# who ADDR: the instances that 6 connections reach, or what connect() says
who() { run -- "$TCP" ask "$1" 80 -n 6 | sed 's/ peer=.*//' | sort -u | paste -sd, || :; }
states() { get services | jq -r --argjson i "$1" '[.[] | select(.app == $i) | .state] | unique | join(",")'; }
quiet() # CMD...: succeeds and says nothing
{
	expect_status 0 timeout 20 "$APPSWITCH" "$@"
	assert_eq "" "$(cat "$T/out" "$T/err")" "output of $*"
}
refused() # STATUS PART CMD...
{
	local status=$1 part=$2
	shift 2
	expect_status "$status" timeout 20 "$APPSWITCH" "$@"
	assert_eq 1 "$(wc -l <"$T/err")" "lines of the message: $(cat "$T/err")"
	assert_contains "$(cat "$T/err")" "$part"
}

check "before: both get connections"
assert_eq "a,b" "$(who 10.0.0.5)"
assert_eq up "$(states "$a")"

check "drain APP: new connections go to the other one, an open one goes on"
exec {lines}<>"$T/lines"
quiet drain "$b"
assert_eq a "$(who 10.0.0.5)"
"$APPSWITCH" run --ip 10.0.0.6 -- "$TCP" hold 10.0.0.5 80 <"$T/lines" >"$T/hold.out" &
PID[hold]=$!
ORDER+=(hold)
wait_line hold.out '^a '
quiet undrain "$b"
quiet drain "$a"
assert_eq b "$(who 10.0.0.5)"
assert_eq b "$(who fd00::5)"
echo "still there" >&"$lines"
wait_line hold.out '^still there$'
assert_eq draining "$(states "$a")"
assert_eq up "$(states "$b")"
quiet drain "$a"

check "all drain: refused at once, as where nobody listens"
quiet drain "$b"
assert_eq "connect ECONNREFUSED" "$(who 10.0.0.5)"
assert_eq "connect ECONNREFUSED" "$(who fd00::5)"

check "what drains survives a kill of the daemon"
kill_daemon
start_daemon --node n1
assert_eq draining,draining "$(states "$a"),$(states "$b")"
assert_eq "connect ECONNREFUSED" "$(who 10.0.0.5)"

check "undrain reverts; twice is no error"
quiet undrain "$a"
quiet undrain "$a"
assert_eq a "$(who 10.0.0.5)"

check "drain: the whole node, with who comes later; also over a kill"
quiet drain
assert_eq "connect ECONNREFUSED" "$(who 10.0.0.5)"
app late --ip 10.0.0.8 -- "$TCP" serve 80 late
wait_port 10.0.0.8 80
assert_eq "connect ECONNREFUSED" "$(who 10.0.0.8)"
kill_daemon
start_daemon --node n1
assert_eq '["draining"]' "$(get services | jq -c '[.[].state] | unique')"
assert_eq "connect ECONNREFUSED" "$(who 10.0.0.8)"
refused 1 "the whole node drains" undrain "$a"

check "an app that drains reaches itself, but nobody of its address who drains"
echo >"$T/go"
await self
assert_eq "self,self,connect ECONNREFUSED" "$(sed 's/ peer=.*//' "$T/self.log" | paste -sd,)"

check "undrain: the node; an app that was drained by itself drains on"
quiet undrain
assert_eq late "$(who 10.0.0.8)"
assert_eq a "$(who 10.0.0.5)"
quiet undrain "$b"
assert_eq "a,b" "$(who 10.0.0.5)"
assert_eq '["up"]' "$(get services | jq -c '[.[].state] | unique')"
echo "to the end" >&"$lines"
wait_line hold.out '^to the end$'

check "wrong use, and what is not there"
refused 1 "there is no app $self" drain "$self"
refused 1 "there is no app 4294967295" undrain 4294967295
for bad in 0 -1 4294967296 x 1x "" 99999999999; do
	refused 2 "" drain -- "$bad"
done
refused 2 "unexpected argument 'c'" drain 1 c
refused 2 "unexpected argument" leave now
refused 2 "unknown option" drain --force
refused 1 "there is nothing to leave" leave
refused 1 "no daemon at" drain --socket "$T/none"
refused 1 "no daemon at" leave --socket "$T/none"
assert_eq '["up"]' "$(get services | jq -c '[.[].state] | unique')"

check "requests are looked at whole"
cat >"$T/ask.py" <<'END'
import json, os, socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
s.settimeout(20)
s.connect(os.environ["APPSWITCH_SOCKET"])
bad = []
for op in "drain", "undrain":
    for app in 0, -1, 1.0, "1", None, [1], {}, True, 2**32, 2**63 - 1:
        bad.append({"op": op, "app": app})
    bad += [{"op": op, "all": True}, {"op": op, "app": int(sys.argv[1]), "now": 1}]
bad += [{"op": "leave", "app": 1}, {"op": "leave", "now": True}]
for m in bad:
    s.send(json.dumps(m).encode())
    a = json.loads(s.recv(65536))
    if a.get("ok") is not False or "take" not in a["error"]:
        print(m, a)
END
assert_eq "" "$(/usr/bin/python3 "$T/ask.py" "$a")"
assert_eq '["up"]' "$(get services | jq -c '[.[].state] | unique')"

check "not from inside an app"
for op in "drain $b" drain undrain leave; do
	# shellcheck disable=SC2086 # an op and its app
	expect_status 1 run -- "$APPSWITCH" $op
	assert_contains "$(cat "$T/err")" "inside an app"
done
assert_eq '["up"]' "$(get services | jq -c '[.[].state] | unique')"
kill "${PID[hold]}"
await hold
exec {lines}>&-
