#!/bin/bash
# An app whose memory never comes (userfaultfd), or an epoll set of which is locked while events are
# copied there, holds up its own traps and nobody else's.
. "${0%/*}/../lib/lib.sh"

need python3 jq
require_seccomp_notify
export PYTHONPATH=$LIB PYTHONDONTWRITEBYTECODE=1 # stalling.py
start_daemon
app web --ip 10.0.0.5 -- "$TCP" serve 80 web
wait_port 10.0.0.5 80

check "an app stalls its own memory in connect(), bind() and getsockopt()"
cat >"$T/stall.py" <<'EOF'
import ctypes, socket, stalling, threading, time
libc = stalling.libc
try:
    mem, fd = stalling.pages(32)
except OSError as e:
    print("skip", e.strerror, flush=True)
    raise SystemExit(0)
def call(i):
    s = socket.socket()
    at = ctypes.c_void_p(mem + 4096 * i)
    if i % 3 == 0:
        libc.connect(s.fileno(), at, 16)
    elif i % 3 == 1:
        libc.bind(s.fileno(), at, 16)
    else:
        libc.setsockopt(s.fileno(), 6, 4, at, 4)
for i in range(24):
    threading.Thread(target=call, args=(i,), daemon=True).start()
print("stalled", flush=True)
time.sleep(60)
EOF
app stall --ip 10.0.0.6 -- /usr/bin/python3 "$T/stall.py"
wait_line stall.log '^s'
if grep -q '^skip' "$T/stall.log"; then
	skip "userfaultfd cannot be had: $(cat "$T/stall.log")"
fi

check "every other app is served meanwhile"
for _ in $(seq 20); do
	out=$(run -- "$TCP" ask 10.0.0.5 80)
	assert_contains "$out" web
done

check "it can be killed, and nothing is left of it"
kill -9 "${PID[stall]}"
gone() { [ "$(get apps | jq length)" = 1 ]; }
wait_for "the app to be gone" gone
out=$(run -- "$TCP" ask 10.0.0.5 80)
assert_contains "$out" web

check "apps that lock their epoll set, each when another step of a connect() needs it"
cat >"$T/lock.py" <<'EOF'
import ctypes, errno, fcntl, os, resource, select, socket, stalling, struct, sys, threading, time
passes, number = int(sys.argv[1]), int(sys.argv[2])
libc = stalling.libc
resource.setrlimit(resource.RLIMIT_NOFILE, (4000, 4000))
PAGES = 64
mem, uffd = stalling.pages(PAGES)
s = socket.socket()
os.dup2(s.fileno(), number)
s.close()
s = socket.socket(fileno=number)
ep = libc.epoll_create1(0)
r, w = os.pipe()
os.write(w, b"x")
event = struct.pack("=IQ", select.EPOLLIN, 1)
assert libc.epoll_ctl(ep, 1, r, event) == 0
assert libc.epoll_ctl(ep, 1, number, struct.pack("=IQ", select.EPOLLRDHUP, 2)) == 0
def lock_it():
    for i in range(PAGES):
        libc.epoll_wait(ep, ctypes.c_void_p(mem + 4096 * i), 8, -1)
threading.Thread(target=lock_it, daemon=True).start()
os.read(uffd, 32)  # the set is locked
threading.Thread(target=lambda: s.connect(("10.0.0.5", 80)), daemon=True).start()
for i in range(passes):
    time.sleep(0.03)
    fcntl.ioctl(uffd, 0xc020aa04, bytearray(struct.pack("QQQq", mem + 4096 * i, 4096, 0, 0)))
    os.read(uffd, 32)  # who waited for it had it, now it is locked again
time.sleep(0.1)
print("stalled", flush=True)
time.sleep(60)
EOF
for passes in 0 1 2 3 4; do
	for number in 50 2500; do
		app lock$passes.$number --ip 10.0.0.7 -- /usr/bin/python3 "$T/lock.py" $passes $number
		wait_line lock$passes.$number.log '^stalled'
	done
done

check "every other app is served meanwhile, also those that need the same number of an epoll set"
cat >"$T/ep.py" <<'EOF'
import os, resource, select, socket
resource.setrlimit(resource.RLIMIT_NOFILE, (4000, 4000))
for number in (50, 2500) * 10:
    s = socket.socket()
    os.dup2(s.fileno(), number)
    s.close()
    s = socket.socket(fileno=number)
    ep = select.epoll()
    ep.register(number, select.EPOLLIN)
    s.connect(("10.0.0.5", 80))
    assert ep.poll(10) == [(number, select.EPOLLIN)]
    assert s.recv(100).startswith(b"web")
    s.close()
print("well")
EOF
t0=$(now_ms)
for _ in 1 2 3; do
	assert_eq well "$(run -- /usr/bin/python3 "$T/ep.py")"
done
assert_between 0 5000 $(($(now_ms) - t0)) "ms for it"
for passes in 0 1 2 3 4; do
	for number in 50 2500; do
		kill -9 "${PID[lock$passes.$number]}"
	done
done
wait_for "the apps to be gone" gone
assert_contains "$(run -- "$TCP" ask 10.0.0.5 80)" web

check "apps that lock the epoll set in which their listeners were, and close these"
cat >"$T/close.py" <<'EOF'
import ctypes, os, select, socket, stalling, struct, threading, time
libc = stalling.libc
mem, uffd = stalling.pages(1)
ep = libc.epoll_create1(0)
r, w = os.pipe()
os.write(w, b"x")
assert libc.epoll_ctl(ep, 1, r, struct.pack("=IQ", select.EPOLLIN, 1)) == 0
ls = []
for port in range(90, 170):
    s = socket.socket()
    s.bind(("", port))
    # the item of the socket as it was before listen() stays; that of the stand-in would hold up
    # close() here
    assert libc.epoll_ctl(ep, 1, s.fileno(), struct.pack("=IQ", 0, 2)) == 0
    s.listen()
    assert libc.epoll_ctl(ep, 2, s.fileno(), None) == 0
    ls.append(s)
threading.Thread(target=lambda: libc.epoll_wait(ep, ctypes.c_void_p(mem), 8, -1), daemon=True).start()
os.read(uffd, 32)
for s in ls:
    s.close()
print("stalled", flush=True)
time.sleep(60)
EOF
for i in 1 2; do
	app close$i --ip 10.0.0.7 -- /usr/bin/python3 "$T/close.py"
	wait_line close$i.log '^stalled'
done
closed() { get services | jq -e 'all(.[]; .vip != "10.0.0.7")'; }
wait_for "the listeners to be gone" closed
t0=$(now_ms)
for _ in 1 2 3; do
	assert_eq well "$(run -- /usr/bin/python3 "$T/ep.py")"
	# a port that is closed is free at once
	run --ip 10.0.0.8 -- /usr/bin/python3 -c '
import socket
for _ in range(50):
    with socket.socket() as s:
        s.bind(("", 90))
        s.listen()'
done
assert_between 0 5000 $(($(now_ms) - t0)) "ms for it"
kill -9 "${PID[close1]}" "${PID[close2]}"
wait_for "the apps to be gone" gone
assert_contains "$(run -- "$TCP" ask 10.0.0.5 80)" web

check "beyond 64 apps: one that stalls, of those that share a reader, does not hold up the others"
cat >"$T/client.py" <<'EOF'
import socket, sys, time
print("ready", flush=True)
open(sys.argv[1]).readline()
time.sleep(0.03)
# both are to be resumed while the reader is held up by the other call
a = socket.create_connection(("10.0.0.6", 81))
slowest = 0
for _ in range(50):
    t0 = time.monotonic()
    with socket.create_connection(("10.0.0.5", 80), timeout=10) as c:
        assert c.recv(100).startswith(b"web")
    slowest = max(slowest, time.monotonic() - t0)
print(f"slowest {slowest * 1000:.0f} ms", flush=True)
assert slowest < 2
print("well", flush=True)
time.sleep(60)
EOF
cat >"$T/share.py" <<'EOF'
import ctypes, socket, stalling, sys, threading, time
libc = stalling.libc
mem, uffd = stalling.pages(3)
ls = socket.create_server(("", 81))
addr = ctypes.c_void_p(mem), ctypes.c_void_p(mem + 4096)
threading.Thread(target=lambda: libc.accept(ls.fileno(), *addr), daemon=True).start()
time.sleep(0.3)
s = socket.socket()
with open(sys.argv[1], "w") as go:
    go.write("\n")
libc.setsockopt(s.fileno(), 6, 4, ctypes.c_void_p(mem + 8192), 4)
EOF
mkfifo "$T/go"
app client --ip 10.0.0.7 -- /usr/bin/python3 "$T/client.py" "$T/go"
wait_line client.log '^ready'
for i in $(seq 62); do
	app "fill$i" -- sleep 60
done
full() { [ "$(get apps | jq length)" = 64 ]; }
wait_for "64 apps" full
app share --ip 10.0.0.6 -- /usr/bin/python3 "$T/share.py" "$T/go" # its reader is web's
wait_line client.log '^well'
say "$(grep slowest "$T/client.log")"
for i in $(seq 62); do
	stop "fill$i" KILL
done 2>/dev/null
stop share KILL
stop client KILL
wait_for "the apps to be gone" gone
stop web
stop_daemon
