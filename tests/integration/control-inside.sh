#!/bin/bash
# From inside an app the control socket can be reached (path sockets ignore namespaces):
# it may be asked, it may not be changed.
. "${0%/*}/../lib/lib.sh"
need python3 jq
need_switch "about the control socket"
require_seccomp_notify
start_daemon
app web --ip 10.0.0.5 -- "$TCP" serve 80 web
wait_port 10.0.0.5 80
export APPSWITCH

check "get works inside"
assert_eq 10.0.0.5 "$(run -- "$APPSWITCH" get services -o json | jq -r '.[0].vip')"
assert_eq 2 "$(run -- "$APPSWITCH" get apps -o json | jq length)"

check "... and shows the app's own network only"
app blue --network blue --ip 10.0.0.8 --name blue-secret -- "$TCP" serve 81 blue
wait_port 10.0.0.8 81
app asker --network blue --ip 10.0.0.9 -- /usr/bin/python3 -c \
	'import signal, socket; s = socket.create_connection(("10.0.0.8", 81)); signal.pause()'
in_blue() { get connections | jq -e 'any(.[]; .network == "blue")'; }
wait_for "a connection in blue" in_blue
for what in services apps connections; do
	inside=$(run -- "$APPSWITCH" get $what -o json)
	assert_eq "" "$(jq -r '.[].network | select(. != "default")' <<<"$inside")" "$what of others"
	assert_eq blue "$(run --network blue -- "$APPSWITCH" get $what -o json |
		jq -r '.[].network' | sort -u | xargs)" "networks in $what, asked from blue"
done
assert_eq 2 "$(run -- "$APPSWITCH" get nodes -o json | jq '.[0].apps')" "apps of the network"
assert_eq "blue default" "$(get apps | jq -r '.[].network' | sort -u | xargs)" "networks, outside"
expect_fail run -- unshare -Urn "$APPSWITCH" get apps
assert_eq "" "$(cat "$T/out")"
stop asker
stop blue

check "a nested run: one line, exit 125, CMD does not run"
expect_status 125 run -- "$APPSWITCH" run -- touch "$T/ran"
assert_eq 1 "$(wc -l <"$T/err")" "lines: $(cat "$T/err")"
assert_eq "" "$(cat "$T/out")"
[ ! -e "$T/ran" ] || fail "the nested CMD ran"
expect_status 125 run --ip 10.0.0.6 -- "$APPSWITCH" run --ip 10.0.0.7 -- true
expect_status 125 run -- "$APPSWITCH" run --socket "$T/other" -- true
assert_eq 1 "$(wc -l <"$T/err")" "lines: $(cat "$T/err")"

check "a nested run in a new network namespace made inside"
expect_status 125 run -- unshare -Urn "$APPSWITCH" run -- true
assert_eq 1 "$(wc -l <"$T/err")" "lines: $(cat "$T/err")"

check "register and attach by hand are refused inside, by forked and by detached processes"
cat >"$T/ask.py" <<'END'
import json, os, socket, sys

def ask(*messages):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    s.connect(os.environ["APPSWITCH_SOCKET"])
    s.settimeout(20)
    answers = []
    for m in messages:
        try:
            s.send(json.dumps(m).encode())
            answers.append(json.loads(s.recv(65536) or b'{"ok": false, "error": "closed"}'))
        except (BrokenPipeError, ConnectionResetError):
            answers.append({"ok": False, "error": "closed"})
    return answers

register = {"op": "register", "ips": ["10.0.0.66"], "name": "x", "network": "default",
            "tags": [], "lb": "local-first", "command": "x"}

def battery():
    bad = []
    for ms in ([register], [{"op": "attach", "listener": 0, "probe": 0}],
               [register, {"op": "attach", "listener": 0, "probe": 0}], [{"op": "stop"}],
               [{"op": "leave"}], [{"op": "drain"}], [{"op": "drain", "app": 1}], [{"op": "undrain"}]):
        for a in ask(*ms):
            if a.get("ok") is not False or not a.get("error"):
                bad.append((ms, a))
    a = ask({"op": "get", "what": "services"})[0]
    if a.get("ok") is not True:
        bad.append(("get", a))
    return bad

bad = battery()
r, w = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork():
        os._exit(0)
    os.write(w, repr(battery()).encode())
    os._exit(0)
os.close(w)
late = os.read(r, 65536).decode()
print("bad", bad, late)
END
assert_eq "bad [] []" "$(run -- /usr/bin/python3 "$T/ask.py")"
assert_eq "bad [] []" "$(run --ip 10.0.0.6 -- /usr/bin/python3 "$T/ask.py")"

check "a socket connected outside and inherited is of no use either"
mkfifo "$T/inh"
cat >"$T/inh.py" <<'END'
import json, os, socket, subprocess, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
s.connect(os.environ["APPSWITCH_SOCKET"])
s.set_inheritable(True)
code = '''
import json, socket, sys
s = socket.socket(fileno=int(sys.argv[1]))
s.settimeout(20)
out = []
for m in sys.argv[2:]:
    try:
        s.send(m.encode())
        out.append(json.loads(s.recv(65536) or b'{"ok": false}')["ok"])
    except OSError:
        out.append(False)
print(out[-1])
'''
register = {"op": "register", "ips": ["10.0.0.66"], "name": "x", "network": "default",
            "tags": [], "lb": "local-first", "command": "x"}
subprocess.run([os.environ["APPSWITCH"], "run", "--", "/usr/bin/python3", "-c", code,
                str(s.fileno()), json.dumps(register),
                json.dumps({"op": "attach", "listener": 0, "probe": 0})],
               pass_fds=(s.fileno(),), check=True)
END
assert_eq False "$(timeout 60 /usr/bin/python3 "$T/inh.py")"

check "connections that say nothing, from inside: nobody else is locked out, and they are let go"
cat >"$T/crowd.py" <<'END'
import os, select, socket, sys, time
held = []
for _ in range(400):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    s.connect(os.environ["APPSWITCH_SOCKET"])
    held.append(s)
print("crowd", flush=True)
def is_open(s):
    return not select.select([s], [], [], 0)[0]
time.sleep(0.5)
print("open", sum(is_open(s) for s in held), flush=True)
for s in held[:40]:
    # one that asked is let go as well
    try:
        s.send(b'{"op":"get","what":"nodes"}')
    except OSError:
        pass
end = time.monotonic() + 20
while time.monotonic() < end:
    for s in held:
        if select.select([s], [], [], 0)[0]:
            try:
                if s.recv(65536) == b"":
                    held.remove(s)
            except OSError:
                held.remove(s)
    if not held:
        break
    time.sleep(0.1)
print("left", len(held), flush=True)
time.sleep(30)
END
for i in 1 2 3; do
	app crowd$i --ip 10.0.0.2$i -- /usr/bin/python3 "$T/crowd.py"
	app nested$i --ip 10.0.0.3$i -- unshare -Urn /usr/bin/python3 "$T/crowd.py"
done
for i in 1 2 3; do
	wait_line crowd$i.log crowd
	wait_line nested$i.log crowd
done
t0=$(now_ms)
assert_contains "$(run -- "$TCP" ask 10.0.0.5 80)" web
assert_eq 10.0.0.5 "$(run -- "$APPSWITCH" get services -o json | jq -r '.[0].vip')"
assert_between 0 3000 $(($(now_ms) - t0)) "ms for two runs and a get"
for i in 1 2 3; do
	wait_line crowd$i.log "^open"
	assert_between 1 32 "$(sed -n 's/^open //p' "$T/crowd$i.log")" "open connections of one app"
	wait_line crowd$i.log "^left"
	assert_eq 0 "$(sed -n 's/^left //p' "$T/crowd$i.log")" "connections left"
	stop crowd$i
	stop nested$i
done
apps_are() { get apps | jq -e --argjson n "$1" 'length == $n'; }
wait_for "only the one app" apps_are 1

check "nothing has changed"
assert_eq 1 "$(get apps | jq length)" "apps"
assert_eq 10.0.0.5 "$(get services | jq -r '.[].vip' | xargs)"
