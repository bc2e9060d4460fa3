#!/bin/bash
# An app whose memory never comes (userfaultfd) holds up its own traps and nobody else's.
. "${0%/*}/../lib/lib.sh"

need python3 jq
require_seccomp_notify
start_daemon
app web --ip 10.0.0.5 -- "$TCP" serve 80 web
wait_port 10.0.0.5 80

check "an app stalls its own memory in connect(), bind() and getsockopt()"
cat >"$T/stall.py" <<'EOF'
import ctypes, fcntl, mmap, os, socket, struct, threading, time
libc = ctypes.CDLL(None, use_errno=True)
fd = libc.syscall(323, os.O_CLOEXEC)  # userfaultfd
if fd < 0:
    print("skip", os.strerror(ctypes.get_errno()), flush=True)
    raise SystemExit(0)
fcntl.ioctl(fd, 0xc018aa3f, struct.pack("QQQ", 0xaa, 0, 0))  # UFFDIO_API
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int,
                      ctypes.c_long]
mem = libc.mmap(None, 4096 * 32, 3, 0x22, -1, 0)
fcntl.ioctl(fd, 0xc020aa00, bytearray(struct.pack("QQQQ", mem, 4096 * 32, 1, 0)))  # REGISTER
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
stop web
stop_daemon
