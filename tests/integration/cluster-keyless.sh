#!/bin/bash
# Without --key-file a node hears this host only: also a hello that is signed as its own would be.
. "${0%/*}/../lib/lib.sh"
. "${0%/*}/../lib/hosts.sh"
need python3
need_cluster
hosts 2
at 1
start_ready daemon1 "${AT[@]}" "$APPSWITCH" daemon --ready-fd 3 --listen 0.0.0.0 --advertise 127.0.0.1 \
	--node h1 --state-dir "$T/h1/state"
app_on 1 srv --ip 10.0.0.5 -- "$TCP" serve 80 srv
wait_service 1 10.0.0.5 80

# hello.py STATE ADDR: connects as a node with the key of zeros would (remote/hello.h, remote/mac.h)
cat >"$T/hello.py" <<'EOP'
import hashlib, hmac, os, socket, struct, sys, time
node = dict(line.split() for line in open(sys.argv[1] + "/node"))
key = bytes(32)
of_key = lambda what: hmac.new(key, what, hashlib.sha256).digest()
addr = lambda a: bytes(10) + b"\xff\xff" + socket.inet_aton(a)
network = 2166136261
for c in b"default":
    network = (network ^ c) * 16777619 & 0xffffffff
hello = (b"ASH1" + bytes([1, 1, 0, 4]) + of_key(b"appswitch hello key id")[:4] +
         struct.pack(">IQIQIII", network, int(node["id"], 16), int(node["generation"]), 1, 1, 1, 0) +
         struct.pack(">q", time.time_ns() // 1000) + os.urandom(7) + b"\1" + bytes(8) +
         addr("10.0.0.5") + addr("10.0.7.7") + struct.pack(">H", 4000) +
         addr("10.0.0.5") + struct.pack(">H", 80) + bytes(4))
hello += hmac.new(of_key(b"appswitch hello\1"), hello, hashlib.sha256).digest()[:16]
try:
    s = socket.create_connection((sys.argv[2], 6660), 20)
    s.settimeout(20)
    s.sendall(hello + b"x\n")
    print(s.recv(200).decode().split(" local=")[0])
except OSError as e:
    print(e.strerror)
EOP
hello() { on "$1" /usr/bin/python3 "$T/hello.py" "$T/h1/state" "$2"; }

check "from a loopback address the hello is good"
assert_eq "srv peer=10.0.7.7,4000" "$(hello 1 127.0.0.1)"
check "the same from another host, or to another address of this one, is reset"
assert_eq "Connection reset by peer" "$(hello 2 10.99.0.1)"
assert_eq "Connection reset by peer" "$(hello 1 10.99.0.1)"
check "the log says why"
wait_line daemon1.log "was reset: without --key-file only this host is heard"
check "the app was not bothered, and goes on"
assert_eq "srv=3" "$(run_on 1 -- "$TCP" count 10.0.0.5 80 3)"
