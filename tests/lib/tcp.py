#!/usr/bin/python3
"""tcp.py - the small TCP programs of the integration tests.

serve PORT TEXT [--bind ADDR] [--v6only N] [--backlog N] [--ready FD]
                       blocking accept, one thread per connection; says
                       "TEXT peer=ADDR,PORT local=ADDR,PORT" and then echoes until EOF.
                       SIGUSR1: closes the listener and stays alive.
ask ADDR PORT [-n N]   connects N times one after the other, prints each first line, or the name of
                       the errno ("connect ECONNREFUSED").
count ADDR PORT N [--slowest]
                       the same, prints each distinct first word with its number, and how many ms
                       the slowest took.
until ADDR PORT TEXT   connects until the answer begins with TEXT, whatever comes before; prints
                       the wall clock in ms.
hold ADDR PORT         connects, then for each line of stdin: sends it and prints the echo.
loop ADDR PORT [--seconds S | --until FILE] [--go-on]
                       connect, read, echo, close over and over; any error ends it with status 1
                       and a line that says which call failed; else prints "ok N". With --go-on
                       errors are counted: "ok N", then "CALL-ERRNO=N" for each.
"""
import argparse
import collections
import errno
import os
import signal
import socket
import sys
import threading
import time


def name(e):
    return errno.errorcode.get(e.errno, str(e)) if e.errno else type(e).__name__


def show(addr):
    return f"{addr[0]},{addr[1]}"


def line(f):
    s = f.readline()
    if not s.endswith("\n"):
        raise EOFError
    return s.rstrip("\n")


def listen(a):
    family = socket.AF_INET6 if ":" in a.bind else socket.AF_INET
    s = socket.socket(family, socket.SOCK_STREAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if a.v6only is not None:
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, a.v6only)
    s.bind((a.bind, a.port))
    s.listen(a.backlog)
    return s


def talk(c, peer, text):
    with c:
        try:
            c.sendall(f"{text} peer={show(peer)} local={show(c.getsockname())}\n".encode())
            while True:
                b = c.recv(65536)
                if not b:
                    return
                c.sendall(b)
        except OSError:
            pass


def serve(a):
    s = listen(a)
    if a.ready is not None:
        os.write(a.ready, b"\n")
    usr1 = threading.Event()

    # A handler that raised could do so when accept() has a number and no object yet: lost to all.
    def on_usr1(_sig, _frame):
        usr1.set()
        s.close()

    signal.signal(signal.SIGUSR1, on_usr1)
    while True:
        try:
            c, peer = s.accept()
        except OSError as e:
            if usr1.is_set():
                break
            print("accept", name(e), flush=True)
            sys.exit(1)
        threading.Thread(target=talk, args=(c, peer, a.text), daemon=True).start()
    print("closed", flush=True)
    while True:
        signal.pause()


def ask_once(a, what):
    """(line, connection): raises OSError with what[0] naming the call."""
    what[0] = "connect"
    c = socket.create_connection((a.addr, a.port), timeout=a.timeout)
    what[0] = "read"
    with c:
        f = c.makefile("r")
        s = line(f)
        what[0] = "peername"
        return f"{s} server={show(c.getpeername())} me={show(c.getsockname())}"


def ask(a):
    rc = 0
    for _ in range(a.n):
        what = [""]
        try:
            print(ask_once(a, what), flush=True)
        except (OSError, EOFError) as e:
            print(what[0], name(e) if isinstance(e, OSError) else "EOF", flush=True)
            rc = 1
    sys.exit(rc)


def count(a):
    seen = collections.Counter()
    slowest = 0
    for _ in range(a.times):
        what = [""]
        t0 = time.monotonic()
        try:
            seen[ask_once(a, what).split()[0]] += 1
        except (OSError, EOFError) as e:
            seen[what[0] + "-" + (name(e) if isinstance(e, OSError) else "EOF")] += 1
        if a.file:
            with open(a.file, "w", encoding="utf-8") as f:
                f.write("x")
            a.file = None
        slowest = max(slowest, time.monotonic() - t0)
    if a.slowest:
        seen["slowest"] = int(slowest * 1000)
    print(" ".join(f"{k}={v}" for k, v in sorted(seen.items())))


def until(a):
    while True:
        try:
            if ask_once(a, [""]).startswith(a.text + " "):
                break
        except (OSError, EOFError):
            pass
        time.sleep(0.005)
    print(int(time.time() * 1000), flush=True)


def hold(a):
    c = socket.create_connection((a.addr, a.port))
    f = c.makefile("r")
    print(line(f), flush=True)
    for s in sys.stdin:
        c.sendall(s.encode())
        print(line(f), flush=True)


def loop(a):
    n = 0
    failed = collections.Counter()
    end = time.monotonic() + a.seconds
    payload = b"0123456789abcdef" * 64 + b"\n"
    while time.monotonic() < end and not (a.until and os.path.exists(a.until)):
        what = "socket"
        try:
            c = socket.socket(socket.AF_INET6 if ":" in a.addr else socket.AF_INET)
            with c:
                what = "connect"
                c.connect((a.addr, a.port))
                what = "read"
                f = c.makefile("rb")
                first = f.readline()
                assert first.endswith(b"\n"), f"greeting cut short: {first!r}"
                what = "write"
                c.sendall(payload)
                what = "echo"
                got = f.readline()
                assert got == payload, f"echo differs: {len(got)} bytes"
        except (OSError, AssertionError) as e:
            if not a.go_on:
                print(f"failed after {n}: {what}: {e}", flush=True)
                sys.exit(1)
            failed[what + "-" + (name(e) if isinstance(e, OSError) else "wrong")] += 1
            continue
        n += 1
    print(" ".join([f"ok {n}"] + [f"{k}={v}" for k, v in sorted(failed.items())]), flush=True)


def main():
    p = argparse.ArgumentParser()
    sub = p.add_subparsers(required=True)
    q = sub.add_parser("serve")
    q.add_argument("port", type=int)
    q.add_argument("text")
    q.add_argument("--bind", default="0.0.0.0")
    q.add_argument("--v6only", type=int)
    q.add_argument("--backlog", type=int, default=128)
    q.add_argument("--ready", type=int)
    q.set_defaults(f=serve)
    for f in (ask, count, hold, loop, until):
        q = sub.add_parser(f.__name__)
        q.add_argument("addr")
        q.add_argument("port", type=int)
        q.add_argument("--timeout", type=float)  # with one Python connects without blocking
        q.set_defaults(f=f)
        if f is ask:
            q.add_argument("-n", type=int, default=1)
        if f is count:
            q.add_argument("times", type=int)
            q.add_argument("--file")
            q.add_argument("--slowest", action="store_true")
        if f is loop:
            q.add_argument("--seconds", type=float, default=1e9)
            q.add_argument("--until")
            q.add_argument("--go-on", action="store_true")
        if f is until:
            q.add_argument("text")
    a = p.parse_args()
    a.f(a)


main()
