#!/usr/bin/python3
"""canary.py CMD... - runs CMD beside services of the host that nobody must reach.

The services: TCP on 127.0.0.1 and [::1], one port; abstract UNIX sockets of one name, stream,
seqpacket and datagram. They send "C" to whoever comes and count. CMD finds them by CANARY_PORT
and CANARY_NAME; on the UNIX socket GIFT_FD it may ask for sockets of the host: "fresh", "connected".

stdout: CMD's, then "contacts: N". Exit status: CMD's."""
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading

CONTACTS = []
DONE = threading.Event()


def tcp_pair():
    while True:
        v4 = socket.create_server(("127.0.0.1", 0))
        try:
            v6 = socket.create_server(("::1", v4.getsockname()[1]), family=socket.AF_INET6)
            return v4, v6
        except OSError:
            v4.close()


def watch(services, stop):
    """Counts and greets until @stop is readable."""
    sel = selectors.DefaultSelector()
    open_conns = []
    for s in services:
        s.setblocking(False)
        sel.register(s, selectors.EVENT_READ)
    sel.register(stop, selectors.EVENT_READ)
    while True:
        for key, _events in sel.select():
            s = key.fileobj
            if s is stop:
                if len(s.recv(1)) == 0:
                    return
                continue
            try:
                if s.type == socket.SOCK_DGRAM:
                    s.recv(100)
                    CONTACTS.append("dgram")
                    continue
                c, peer = s.accept()
                CONTACTS.append(f"{s.family.name} {peer}")
                c.send(b"C")
                open_conns.append(c)  # closing it with unread data would reset it
            except OSError as e:
                CONTACTS.append(f"{s.family.name} {e}")


def give(sock):
    kept = []
    while True:
        want = sock.recv(100)
        if not want:
            return
        if want == b"fresh":
            s = socket.socket()
            socket.send_fds(sock, [b"f"], [s.fileno()])
            s.close()
        elif want == b"connected":
            a = socket.create_server(("127.0.0.1", 0))
            b = socket.create_connection(a.getsockname())
            c, _ = a.accept()
            kept.append(c)

            def echo(c=c):
                data = c.recv(10)
                if data:
                    c.sendall(data)

            socket.send_fds(sock, [b"f"], [b.fileno()])
            b.close()
            a.close()
            threading.Thread(target=echo, daemon=True).start()


def main():
    v4, v6 = tcp_pair()
    name = f"canary-{os.getpid()}-{os.urandom(4).hex()}"
    services = [v4, v6]
    for kind in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET, socket.SOCK_DGRAM):
        s = socket.socket(socket.AF_UNIX, kind)
        # a name belongs to one socket whatever its type
        s.bind("\0" + name + ("" if kind == socket.SOCK_STREAM else f"-{kind.name}"))
        if kind != socket.SOCK_DGRAM:
            s.listen(64)
        services.append(s)
    stop_r, stop_w = socket.socketpair()
    watcher = threading.Thread(target=watch, args=(services, stop_r), daemon=True)
    watcher.start()

    # it counts, or its silence would mean nothing
    with socket.create_connection(v4.getsockname()) as c:
        assert c.recv(1) == b"C"
    with socket.socket(socket.AF_UNIX) as c:
        c.connect("\0" + name)
        assert c.recv(1) == b"C"
    assert len(CONTACTS) == 2, CONTACTS
    CONTACTS.clear()

    ours, theirs = socket.socketpair()
    threading.Thread(target=give, args=(ours,), daemon=True).start()
    env = dict(os.environ, CANARY_PORT=str(v4.getsockname()[1]), CANARY_NAME=name)
    env["GIFT_FD"] = str(theirs.fileno())
    child = subprocess.Popen(sys.argv[1:], env=env, pass_fds=[theirs.fileno()])
    theirs.close()
    signal.signal(signal.SIGTERM, lambda *_: child.terminate())
    status = child.wait()
    stop_w.close()
    watcher.join(10)
    for c in CONTACTS:
        print("contact: " + c)
    print(f"contacts: {len(CONTACTS)}", flush=True)
    os._exit(status if status >= 0 else 128 - status)


main()
