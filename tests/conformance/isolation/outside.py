#!/usr/bin/python3
"""outside.py CMD... - from the host, tries to get at an app's listener in ways that are not the switch.

CMD is `appswitch run ... --`; the app listens on its VIP, port 7777, and counts. Tries: TCP to that port
on loopback; every abstract UNIX name that has appeared on the host since, as a client with a name of
its own, with forged ones and without. Prints "attack: verdict" lines; exit 1 if anybody came."""
import os
import re
import socket
import subprocess
import sys

APP = """
import socket, sys, threading
s = socket.create_server(("10.0.0.5", 7777))
n = []
def serve():
    while True:
        c, peer = s.accept()
        n.append(peer)
        c.close()
threading.Thread(target=serve, daemon=True).start()
with socket.create_connection(("10.0.0.5", 7777)) as c:
    assert c.recv(1) == b""
print("ready", flush=True)
sys.stdin.read()
# who has come so far is in the queue before this one
with socket.create_connection(("10.0.0.5", 7777)) as c:
    assert c.recv(1) == b""
print(len(n) - 2, n[1:-1], flush=True)
"""
FORGED = ["10.0.0.6:1234", "10.0.0.5:7777", "a.10.0.0.6:1234.10.0.0.5:7777"]


def names():
    found = set()
    with open("/proc/net/unix", encoding="utf-8", errors="surrogateescape") as f:
        for line in f:
            m = re.match(r"\S+ \S+ \S+ (\S+) (\S+) \S+ +\d+ @(.*)$", line)
            if m:
                found.add((int(m[2], 16), m[3]))
    return found


def attempt(kind, name, forged):
    for text in (name, name.replace("@", "\0")):
        s = socket.socket(socket.AF_UNIX, kind)
        s.settimeout(2)
        try:
            if forged is not None:
                s.bind(b"\0" + (forged + f".{os.getpid()}").encode())
            s.connect(b"\0" + text.encode(errors="surrogateescape"))
            s.send(b"evil")
            return "connected"
        except OSError as e:
            error = e
        finally:
            s.close()
    return f"refused {error.strerror}"


def main():
    before = names()
    app = subprocess.Popen(
        sys.argv[1:] + ["/usr/bin/python3", "-c", APP],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    line = app.stdout.readline()
    if line != "ready\n":
        sys.exit(f"the app did not start: {line!r}")
    for host in ("127.0.0.1", "::1"):
        try:
            socket.create_connection((host, 7777), 2).close()
            print(f"outside/tcp {host}: ESCAPED connected")
        except OSError as e:
            print(f"outside/tcp {host}: refused {e.strerror}")
    new = sorted(names() - before)
    print(f"outside/names: {len(new)} new")
    for kind, name in new:
        for forged in [None, name] + FORGED:
            if kind in (1, 5):
                print(f"outside/{name!r} as {forged!r}: {attempt(kind, name, forged)}")
    app.stdin.close()
    came = app.stdout.read().strip()
    app.wait()
    print(f"outside/came: {came}")
    sys.exit(0 if came.startswith("0 ") and app.returncode == 0 else 1)


main()
