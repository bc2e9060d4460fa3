#!/bin/bash
# memcached, several threads, text protocol from two other apps.
. "${0%/*}/../lib/lib.sh"
need memcached python3 jq
require_seccomp_notify
start_daemon
user=()
[ "$(id -u)" != 0 ] || user=(-u nobody)
app mc --ip 10.0.0.5 -- memcached -p 11211 -t 4 -c 2000 -U 0 "${user[@]}"
wait_port 10.0.0.5 11211
cat >"$T/mc.py" <<'END'
import os, socket, sys, threading

def client(n, rounds):
    s = socket.create_connection(("10.0.0.5", 11211), timeout=30)
    f = s.makefile("rwb")
    def cmd(line, data=None):
        f.write(line.encode() + b"\r\n" + (data + b"\r\n" if data is not None else b""))
        f.flush()
        return f.readline().rstrip()
    for i in range(rounds):
        data = os.urandom(1 + i * 37 % 20000)
        assert cmd(f"set {n}:{i} {i} 0 {len(data)}", data) == b"STORED"
        head = cmd(f"get {n}:{i}")
        assert head == f"VALUE {n}:{i} {i} {len(data)}".encode(), head
        assert f.read(len(data)) == data and f.readline() == b"\r\n" and f.readline() == b"END\r\n"
    assert cmd(f"incr sum 1").isdigit()
    s.close()

who, threads, rounds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
failed = []
def guard(*a):
    try:
        client(*a)
    except BaseException as e:
        failed.append(repr(e))
ts = [threading.Thread(target=guard, args=(f"{who}{t}", rounds)) for t in range(threads)]
for t in ts: t.start()
for t in ts: t.join()
assert not failed, failed
print("ok")
END
ask() { printf '%s\r\nquit\r\n' "$1" | run -- bash -c 'exec 3<>/dev/tcp/10.0.0.5/11211; cat >&3; cat <&3' |
	tr -d '\r'; }
assert_eq STORED "$(ask $'set sum 0 0 1\r\n0')"

check "two apps with 20 connections each, 200 values of up to 20 kB per connection"
app c1 --ip 10.0.0.6 -- /usr/bin/python3 "$T/mc.py" a 20 200
app c2 --ip 10.0.0.7 -- /usr/bin/python3 "$T/mc.py" b 20 200
for c in c1 c2; do
	await $c 60000
	assert_eq "0 ok" "$STATUS $(cat "$T/$c.log")" "$c"
done
assert_eq 40 "$(ask 'get sum' | sed -n 2p)" "the counter that all incremented"

check "500 connections open at once, one thread each would not do"
run --ip 10.0.0.8 -- /usr/bin/python3 -c '
import socket
cs = [socket.create_connection(("10.0.0.5", 11211), timeout=30) for _ in range(500)]
for c in cs: c.sendall(b"get sum\r\n")
for c in cs:
    f = c.makefile("rb")
    assert [f.readline() for _ in range(3)][1] == b"40\r\n"
print("ok")' >"$T/out"
assert_eq ok "$(cat "$T/out")"
stats=$(ask stats)
assert_contains "$stats" "STAT threads 4"
total=$(sed -n 's/STAT total_connections //p' <<<"$stats")
[ "$total" -ge 540 ] || fail "total_connections $total"
stop mc
assert_eq 0 "$STATUS"
