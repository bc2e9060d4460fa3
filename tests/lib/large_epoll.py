"""large_epoll.py - clients and servers whose sockets sit in large epoll sets.

  serve ADDR PORT [OPTIONS]     echoes; the first line of a connection is answered with what the
                                server sees of it (JSON); --nap: accepts only after a byte on stdin
  prey ADDR PORT SECRET         two connections, a byte each; serves SECRET on its own loopback
                                until a byte comes on stdin; says who asked for it
  ask ADDR PORT N [OPTIONS]     N connections in turn, each in a set with ITEMS other files; prints
                                what both ends saw (JSON, a line each)
     --items I   others in the set (default 1000)     --blocking
     --listen P  listens on port P itself, too        --until FILE   until that exists, for N
     --bytes B   echoes so many bytes as well         --hold         then waits for stdin's end
     --slowack   with TCP_QUICKACK 0
     --warm A P  the connection before, by which the set is measured, goes there
Everything that is not as TCP would have it ends it with a message."""
import argparse
import errno
import fcntl
import json
import os
import resource
import select
import socket
import struct
import sys

SIOCGIFCONF, SIOCGSKNS = 0x8912, 0x894C


def addresses(s):
    """What SIOCGIFCONF says through the socket."""
    buf = bytearray(4096)
    import ctypes
    c = (ctypes.c_char * len(buf)).from_buffer(buf)
    conf = bytearray(struct.pack("iP", len(buf), ctypes.addressof(c)))
    fcntl.ioctl(s, SIOCGIFCONF, conf)
    n = struct.unpack_from("i", conf)[0]
    return sorted({socket.inet_ntoa(bytes(buf[i + 20:i + 24])) for i in range(0, n, 40)})


def code(call, *args):
    try:
        call(*args)
        return "ok"
    except OSError as e:
        return errno.errorcode[e.errno]


def libc_connect(s, sa):
    import ctypes
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.connect(s.fileno(), sa, len(sa)) < 0:
        raise OSError(ctypes.get_errno(), "connect")


def facts(s):
    return {
        "name": s.getsockname()[:2],
        "peer": s.getpeername()[:2],
        "family": s.family.name,
        "nodelay": s.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0,
        "keepidle": s.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
        "keepalive": s.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) != 0,
        "mark": s.getsockopt(socket.SOL_SOCKET, 36),
        "transparent": s.getsockopt(socket.IPPROTO_IP, 19),
        "ifconf": addresses(s),
        "namespace": code(fcntl.ioctl, s, SIOCGSKNS),
    }


def served(s, a):
    line = s.makefile("rb").readline()
    seen = facts(s)
    seen["accepted"] = a[:2]
    # not to be led out of the connection, and into its client's namespace
    seen["again"] = code(libc_connect, s, struct.pack("=H14x", socket.AF_UNSPEC))
    seen["bind"] = code(s.bind, ("", 0) if s.family == socket.AF_INET else ("::", 0))
    seen["listen"] = code(s.listen)
    s.sendall(json.dumps(seen).encode() + b"\n")
    left = int(line)
    while left > 0:
        data = s.recv(65536)
        if not data:
            return
        left -= len(data)
        s.sendall(data)


def serve(o):
    family = socket.AF_INET6 if ":" in o.addr else socket.AF_INET
    with socket.socket(family) as l:
        l.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        l.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        l.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        l.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 77)
        l.bind((o.addr, o.port))
        l.listen(64)
        if o.nap:
            print("listens", flush=True)
            sys.stdin.read(1)
            return
        if o.nonblocking:
            l.setblocking(False)
        while True:
            if o.nonblocking:
                select.select([l], [], [])
            try:
                s, a = l.accept()
            except BlockingIOError:
                continue
            with s:
                s.setblocking(True)
                try:
                    served(s, a)
                except (ConnectionError, OSError) as e:
                    if e.errno != errno.ECONNRESET:
                        raise


class Set:
    def __init__(self, items):
        self.epoll = select.epoll()
        self.others = [socket.socketpair() for _ in range(items)]
        for a, _ in self.others:
            self.epoll.register(a, select.EPOLLIN)

    def wait(self, s, want):
        got = self.epoll.poll(20)
        if not got or got[0][0] != s.fileno() or not got[0][1] & want:
            sys.exit(f"epoll says {got}, not {want} of {s.fileno()}")


def ask_once(o, st):
    family = socket.AF_INET6 if ":" in o.addr else socket.AF_INET
    with socket.socket(family) as s:
        s.setblocking(o.blocking)
        if o.slowack:
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 0)
        if o.blocking:
            # registered only to be in the set: a fresh socket is ready (HUP) at once
            st.epoll.register(s, select.EPOLLIN | select.EPOLLET)
        else:
            st.epoll.register(s, select.EPOLLOUT)
        r = s.connect_ex((o.addr, o.port))
        if r != (0 if o.blocking else errno.EINPROGRESS):
            return {"connect": errno.errorcode[r]}
        if not o.blocking:
            st.wait(s, select.EPOLLOUT)
            r = s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if r != 0:
                return {"connect": errno.errorcode[r]}
            r = s.connect_ex((o.addr, o.port))
            if r not in (0, errno.EISCONN):
                sys.exit(f"the second connect() says {errno.errorcode[r]}")
        r = s.connect_ex((o.addr, o.port))
        if r != errno.EISCONN:
            sys.exit(f"connect() of a connected socket says {errno.errorcode.get(r, r)}")
        s.sendall(b"%d\n" % o.bytes)
        st.epoll.modify(s, select.EPOLLIN)
        st.wait(s, select.EPOLLIN)
        mine = facts(s)
        s.setblocking(True)
        f = s.makefile("rwb")
        line = f.readline()
        if not line:
            sys.exit("the server closed")
        theirs = json.loads(line)
        for _ in range(0, o.bytes, 10000):
            data = os.urandom(10000)
            f.write(data)
            f.flush()
            if f.read(len(data)) != data:
                sys.exit("the echo differs")
        if o.hold:
            print(json.dumps({"client": mine, "server": theirs}), flush=True)
            sys.stdin.read()
        return {"client": mine, "server": theirs}


def prey(o):
    st = Set(o.items)
    own = socket.create_server(("127.0.0.1", o.n))
    kept = []
    for _ in range(2):
        s = socket.socket()
        st.epoll.register(s, select.EPOLLIN)
        s.connect((o.addr, o.port))
        s.sendall(b"x")
        kept.append(s)
    print("connected", flush=True)
    waits = select.poll()
    waits.register(own, select.POLLIN)
    waits.register(0, select.POLLIN)
    while True:
        for fd, _ in waits.poll():
            if fd == 0:
                return
            with own.accept()[0] as c:
                c.sendall(b"secret")


def ask(o):
    st = Set(o.items)
    # the first one is put back into the set, and the set is measured by it
    warm = {**vars(o), "bytes": 0, "hold": False}
    if o.warm:
        warm.update(addr=o.warm[0], port=int(o.warm[1]))
    result = ask_once(argparse.Namespace(**warm), st)
    if o.listen:
        own = socket.create_server(("", o.listen))
    done = 0
    while done < o.n or (o.until and not os.path.exists(o.until)):
        result = ask_once(o, st)
        if not o.until and not o.hold:
            print(json.dumps(result), flush=True)
        elif "connect" in result:
            sys.exit(f"connect() after {done}: {result}")
        done += 1
    if o.until:
        print(f"ok {done}")
    if o.listen:
        own.close()


p = argparse.ArgumentParser()
p.add_argument("what", choices=("serve", "ask", "prey"))
p.add_argument("addr")
p.add_argument("port", type=int)
p.add_argument("n", type=int, nargs="?", default=1)
p.add_argument("--items", type=int, default=1000)
p.add_argument("--listen", type=int, default=0)
p.add_argument("--bytes", type=int, default=0)
p.add_argument("--until")
p.add_argument("--warm", nargs=2)
for flag in ("slowack", "blocking", "nonblocking", "nap", "hold"):
    p.add_argument("--" + flag, action="store_true")
options = p.parse_args()
resource.setrlimit(resource.RLIMIT_NOFILE, (8192, 8192))
{"serve": serve, "ask": ask, "prey": prey}[options.what](options)
