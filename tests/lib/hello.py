#!/usr/bin/python3
"""hello.py - speaks to the port of a node as another node does, or as an attacker.

serve PORT LOG      the app: greets who comes with "hello\\n"; what it was sent is a line of LOG
good N              N connections with a hello that is right
record FILE         the same once; the hello is kept in FILE
make FILE           one that is made, but sent to nobody
send FILE           what is in FILE
nonce FILE          another hello with the nonce of the one in FILE
flips               each bit of a good hello flipped, one after the other
at SECONDS          a hello of a clock that is so far off
to VIP PORT NETWORK a hello for that service
cut                 every length that is too short, then the end
trickle MS          byte by byte, with so long a pause in between
silent BYTES        only so many bytes of a hello: prints for how many seconds it was let wait
crowd N FILE        N connections that say nothing or one byte, until FILE is there; says "crowd" when
                    they are there

Prints "ok N" for greetings and "reset N" for connections that ended without a byte, as far as there
were any. After every hello comes what the app would log: GOOD if it is right, EVIL if not.
"""
import argparse
import collections
import hashlib
import hmac
import os
import resource
import select
import socket
import struct
import threading
import time

SIZE = 144
MAC_AT = 128


def v6(text):
    try:
        return b"\0" * 10 + b"\xff\xff" + socket.inet_pton(socket.AF_INET, text)
    except OSError:
        return socket.inet_pton(socket.AF_INET6, text)


def network_id(name):
    h = 2166136261
    for b in name.encode():
        h = (h ^ b) * 16777619 & 0xFFFFFFFF
    return h


def keyed(key, data):
    return hmac.new(key, data, hashlib.sha256).digest()


class Hello:
    def __init__(self, a):
        with open(a.key, encoding="ascii") as f:
            lines = [x.strip() for x in f if x.strip() and not x.startswith("#")]
        self.key = bytes.fromhex(lines[0])
        self.nonce = os.urandom(8)
        self.time = time.time()
        self.vip, self.port, self.network = a.vip, a.port, network_id("default")
        self.dest = (int(a.id, 16), a.generation)

    def encode(self):
        head = b"ASH1" + bytes([1, 1, 0, 4]) + keyed(self.key, b"appswitch hello key id")[:4]
        head += struct.pack(">IQIQIII", self.network, *self.dest, 0x1234, 1, 77, 0)
        head += struct.pack(">q", int(self.time * 1e6)) + self.nonce + bytes(8) + v6(self.vip)
        head += v6("10.0.9.9") + struct.pack(">H", 40000)
        head += v6(self.vip) + struct.pack(">H", self.port)
        head += bytes(MAC_AT - len(head))
        return head + keyed(keyed(self.key, b"appswitch hello\1"), head)[:16]


class Client:
    def __init__(self, a):
        self.a = a
        self.seen = collections.Counter()

    def connect(self):
        return socket.create_connection((self.a.host, 6660), timeout=15)

    def outcome(self, s):
        """What became of it: the app's greeting, or the end."""
        try:
            got = s.recv(100)
        except socket.timeout:
            self.seen["waits"] += 1
            return
        except ConnectionError:
            got = b""
        self.seen["ok" if got == b"hello\n" else "reset" if got == b"" else f"answer {got!r}"] += 1

    def say(self, data, behind=b"EVIL\n"):
        with self.connect() as s:
            try:
                s.sendall(data + behind)
                if behind == b"GOOD\n":
                    s.shutdown(socket.SHUT_WR)
            except OSError:
                pass
            self.outcome(s)

    def show(self):
        for what, n in sorted(self.seen.items()):
            print(what, n)


def serve(port, path):
    lock = threading.Lock()

    def talk(c):
        with c:
            got = b""
            try:
                c.sendall(b"hello\n")
                while len(got) < 1000:
                    more = c.recv(1000)
                    if not more:
                        break
                    got += more
            except OSError:
                pass
            with lock, open(path, "ab") as f:
                f.write((got.rstrip(b"\n") or b"nothing") + b"\n")

    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(("0.0.0.0", port))
    s.listen(1024)
    while True:
        threading.Thread(target=talk, args=(s.accept()[0],), daemon=True).start()


def silent(client, data):
    with client.connect() as s:
        s.settimeout(60)
        begin = time.monotonic()
        s.sendall(data)
        client.outcome(s)
    print("after", int(time.monotonic() - begin))


def crowd(client, n, path):
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    poll = select.epoll()
    conns = {}
    refused = 0
    for i in range(n):
        s = socket.socket()
        s.setblocking(False)
        s.connect_ex((client.a.host, 6660))
        conns[s.fileno()] = s
        poll.register(s, select.EPOLLOUT if i % 2 else select.EPOLLIN)
    print("crowd", flush=True)
    while not os.path.exists(path):
        for fd, events in poll.poll(0.05):
            if events & (select.EPOLLHUP | select.EPOLLERR | select.EPOLLIN):
                poll.unregister(fd)
                conns.pop(fd).close()
                refused += 1
            else:
                poll.modify(fd, select.EPOLLIN)
                try:
                    conns[fd].send(b"A")
                except OSError:
                    pass
    print("ended", refused)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--key")
    p.add_argument("--host")
    p.add_argument("--id")
    p.add_argument("--generation", type=int)
    p.add_argument("--vip", default="10.0.0.5")
    p.add_argument("--port", type=int, default=80)
    p.add_argument("what")
    p.add_argument("args", nargs="*")
    a = p.parse_args()
    if a.what == "serve":
        serve(int(a.args[0]), a.args[1])
    client = Client(a)
    hello = Hello(a)
    good = hello.encode()
    if a.what == "good":
        for _ in range(int(a.args[0])):
            client.say(Hello(a).encode(), b"GOOD\n")
    elif a.what in ("record", "make"):
        with open(a.args[0], "wb") as f:
            f.write(good)
        if a.what == "record":
            client.say(good, b"GOOD\n")
    elif a.what == "send":
        with open(a.args[0], "rb") as f:
            client.say(f.read())
    elif a.what == "nonce":
        with open(a.args[0], "rb") as f:
            hello.nonce = f.read()[56:64]
        client.say(hello.encode())
    elif a.what == "flips":
        for bit in range(SIZE * 8):
            data = bytearray(Hello(a).encode())
            data[bit // 8] ^= 1 << bit % 8
            client.say(bytes(data))
    elif a.what == "at":
        hello.time += float(a.args[0])
        client.say(hello.encode(), b"GOOD\n")
    elif a.what == "to":
        hello.vip, hello.port, hello.network = a.args[0], int(a.args[1]), network_id(a.args[2])
        client.say(hello.encode())
    elif a.what == "cut":
        for n in range(SIZE):
            with client.connect() as s:
                s.sendall(Hello(a).encode()[:n])
                s.shutdown(socket.SHUT_WR)
                client.outcome(s)
    elif a.what == "trickle":
        with client.connect() as s:
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                for i in range(SIZE):
                    s.sendall(good[i : i + 1])
                    time.sleep(float(a.args[0]) / 1000)
                s.sendall(b"GOOD\n")
                s.shutdown(socket.SHUT_WR)
            except OSError:
                pass
            client.outcome(s)
    elif a.what == "silent":
        silent(client, good[: int(a.args[0])])
    elif a.what == "crowd":
        crowd(client, int(a.args[0]), a.args[1])
    client.show()


main()
