#!/usr/bin/python3
"""both_ends.py - what the two ends of a TCP connection between two hosts see of each other.

server                    serves checks on port 7000 until SIGTERM
client GROUP SERVER SERVER6
                          runs the checks of GROUP against it, prints "CHECK END WHAT = VALUE"

The same program runs between two plain hosts and under the switch; what it prints must be the
same. So nothing is printed that two runs need not agree on: times only as bounds, ports by name.
"""
import array
import ctypes
import errno
import fcntl
import hashlib
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
import time

CTL, CLOSED = 7000, 7001
# A service has a port of its own in each check: rows of one that ended may still be on their way.
NEXT = iter(range(7100, 9000))
LIMIT = 8
LIBC = ctypes.CDLL(None, use_errno=True)
CLIENT, SERVER = {}, {}
GROUPS = {}

S = socket
SOL, TCP, IP, IP6 = S.SOL_SOCKET, S.IPPROTO_TCP, S.IPPROTO_IP, S.IPPROTO_IPV6
MSG_ERRQUEUE = 0x2000
SIOCOUTQ, SIOCINQ, SIOCATMARK, SIOCGIFCONF = termios.TIOCOUTQ, termios.FIONREAD, 0x8905, 0x8912


def err(number):
    return errno.errorcode.get(number, str(number))


def outcome(f, *args):
    """The value, or the name of the errno."""
    try:
        return f(*args)
    except OSError as e:
        return "timed out" if isinstance(e, TimeoutError) and not e.errno else err(e.errno)


def client(group):
    def register(f):
        CLIENT[f.__name__] = f
        GROUPS.setdefault(group, []).append(f.__name__)
        return f
    return register


def server(*names):
    def register(f):
        for n in names:
            SERVER[n] = f
        return f
    return register


class World:
    """One end of one check."""

    def __init__(self, end, name, ctl, addr=None, addr6=None):
        self.end, self.name, self.ctl = end, name, ctl
        self.r, self.f = ctl.makefile("r"), ctl.makefile("w")
        self.addr, self.addr6 = addr, addr6
        self.lines, self.ports, self.open = [], {}, []
        self.listening, self.port = None, 0

    def say(self, what, value):
        self.lines.append(f"{self.name} {self.end} {what} = {value}")

    def go(self, what="go"):
        self.f.write(json.dumps(what) + "\n")
        self.f.flush()

    def wait(self):
        line = self.r.readline()
        if not line:
            raise EOFError("the other end is gone")
        got = json.loads(line)
        if isinstance(got, list):
            self.port, six = got
            self.ports[self.port] = "service"
            self.until_known(six)
        return got

    def until_known(self, six):
        """What has just begun to listen the other hosts know a moment later."""
        if "ASK_SERVICES" not in os.environ:
            return
        end = time.monotonic() + LIMIT
        while time.monotonic() < end:
            got = subprocess.run([os.environ["ASK_SERVICES"], "get", "services", "-o", "json"],
                                 stdout=subprocess.PIPE, check=True).stdout
            if [x["port"] for x in json.loads(got)].count(self.port) == 1 + six:
                return
            time.sleep(0.005)
        raise EOFError("the service does not appear")

    def keep(self, s):
        self.open.append(s)
        s.settimeout(LIMIT)
        return s

    def endpoint(self, a):
        if not isinstance(a, tuple):
            return a
        return f"{a[0]} {self.ports.setdefault(a[1], 'port' + str(len(self.ports)))}"

    def names(self, s, when):
        self.say(f"getsockname {when}", self.endpoint(outcome(s.getsockname)))
        self.say(f"getpeername {when}", self.endpoint(outcome(s.getpeername)))

    # the client's
    def ask(self, what):
        print(what, flush=True)
        sys.stdin.readline()

    def hush(self):
        self.ask("HUSH")

    def heal(self):
        self.ask("HEAL")

    def socket(self, family=S.AF_INET):
        return self.keep(S.socket(family, S.SOCK_STREAM))

    def at(self, port=0, family=S.AF_INET):
        return (self.addr if family == S.AF_INET else self.addr6, port or self.port)

    def connect(self, family=S.AF_INET, opts=(), wait=True):
        if wait:
            self.wait()
        s = self.socket(family)
        for level, name, value in opts:
            s.setsockopt(level, name, value)
        s.connect(self.at(family=family))
        return s

    # the server's
    def listen(self, family=S.AF_INET, opts=(), backlog=128):
        s = self.keep(S.socket(family, S.SOCK_STREAM))
        s.setsockopt(SOL, S.SO_REUSEADDR, 1)
        for level, name, value in opts:
            s.setsockopt(level, name, value)
        self.port = next(NEXT)
        self.ports[self.port] = "service"
        s.bind(("" if family == S.AF_INET else "::", self.port))
        s.listen(backlog)
        self.listening = s
        self.go([self.port, family == S.AF_INET6])
        return s

    def accept(self, family=S.AF_INET, opts=()):
        if not self.listening:
            self.listen(family, opts)
        s, _ = self.listening.accept()
        return self.keep(s)

    def done(self):
        for s in self.open:
            s.close()


def events(mask):
    names = ["IN", "PRI", "OUT", "ERR", "HUP", "RDHUP"]
    return "|".join(n for n in names if mask & getattr(select, "POLL" + n)) or "none"


def poll(s, mask=select.POLLIN | select.POLLOUT | select.POLLPRI | select.POLLRDHUP, ms=5000):
    p = select.poll()
    p.register(s, mask)
    got = p.poll(ms)
    return events(got[0][1]) if got else "none"


def until(s, bit, ms=5000):
    """Polls until @bit is there, says what else is."""
    poll(s, bit, ms)
    return poll(s, ms=0)


def everything(s):
    data = b""
    while True:
        part = s.recv(65536)
        if not part:
            return data
        data += part


def exactly(s, n):
    data = b""
    while len(data) < n:
        part = s.recv(n - len(data))
        if not part:
            raise EOFError
        data += part
    return data


def c_connect(fd, family, host, port):
    """connect(2) as it is: without Python's own going on after a signal."""
    if family == S.AF_INET:
        a = struct.pack("=H", S.AF_INET) + struct.pack("!H", port) + S.inet_aton(host) + bytes(8)
    else:
        a = struct.pack("=H", family) + struct.pack("!HI", port, 0) + S.inet_pton(family, host) + bytes(4)
    r = LIBC.connect(fd, a, len(a))
    return "0" if r == 0 else err(ctypes.get_errno())


def unspec(s):
    r = LIBC.connect(s.fileno(), struct.pack("=H", S.AF_UNSPEC) + bytes(14), 16)
    return "0" if r == 0 else err(ctypes.get_errno())


def so_error(s):
    e = s.getsockopt(SOL, S.SO_ERROR)
    return err(e) if e else "0"


def tcp_state(s):
    return s.getsockopt(TCP, S.TCP_INFO, 8)[0]


# ---- addresses ----

def see_names(w, s):
    """One end after the other, so that each look is at a state that stays."""
    w.names(s, "connected")
    if w.end == "server":
        w.wait()
        w.say("end of file", everything(s))
        w.names(s, "after the peer's SHUT_WR")
        w.say("poll", poll(s))
        w.go()
        w.wait()
        s.shutdown(S.SHUT_WR)
        until(s, select.POLLHUP)
        w.go()
    else:
        s.shutdown(S.SHUT_WR)
        w.names(s, "after SHUT_WR")
        w.go()
        w.wait()
        w.go()
        w.wait()
        w.say("end of file", everything(s))
    w.say("poll at the end", until(s, select.POLLHUP))
    w.names(s, "after both ended")
    w.say("shutdown again", outcome(s.shutdown, S.SHUT_RDWR))
    w.say("recv at the end", outcome(s.recv, 1))


@client("names")
def names4(w):
    see_names(w, w.connect())


@client("names")
def names6(w):
    see_names(w, w.connect(S.AF_INET6))


@client("names")
def names_mapped(w):
    w.wait()
    s = w.socket(S.AF_INET6)
    s.connect(("::ffff:" + w.addr, w.port))
    w.say("domain", s.getsockopt(SOL, S.SO_DOMAIN))
    see_names(w, s)


@client("names")
def names_both(w):
    see_names(w, w.connect())


@server("names4", "names6", "names_mapped", "names_both")
def s_names(w):
    family = S.AF_INET if w.name in ("names4", "names_mapped") else S.AF_INET6
    w.listen(family)
    s, a = w.listening.accept()
    w.keep(s)
    w.say("accept", w.endpoint(a[:2]))
    w.say("domain", s.getsockopt(SOL, S.SO_DOMAIN))
    see_names(w, s)


@client("names")
def after_reset(w):
    s = w.connect()
    w.go()
    w.wait()
    w.say("poll", until(s, select.POLLHUP))
    w.say("SO_PEERNAME", str(outcome(s.getsockopt, SOL, 28, 16))[:8])
    w.names(s, "after a reset")
    w.say("SO_ERROR", so_error(s))
    w.say("SO_ERROR again", so_error(s))
    w.say("recv", outcome(s.recv, 1))
    w.say("send", outcome(s.send, b"x"))
    w.say("poll later", poll(s))
    w.say("state", tcp_state(s))


@client("names")
def after_reset_recv(w):
    s = w.connect()
    w.go()
    w.wait()
    until(s, select.POLLHUP)
    w.say("recv", outcome(s.recv, 1))
    w.say("recv again", outcome(s.recv, 1))
    w.say("connect again", outcome(s.connect, w.at(CLOSED)))


@server("after_reset", "after_reset_recv")
def s_reset(w):
    s = w.accept()
    w.wait()
    s.setsockopt(SOL, S.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()
    w.go()


@client("names")
def source_port(w):
    w.wait()
    s = w.socket()
    s.bind(("", 45678))
    s.connect(w.at())
    w.say("own port", s.getsockname()[1])
    w.wait()
    t = w.socket()
    w.say("bind of the same port", outcome(t.bind, ("", 45678)))
    u = w.socket(S.AF_INET6)
    u.bind(("::", 45679))
    u.connect(w.at(family=S.AF_INET6))
    w.say("own port, IPv6", u.getsockname()[1])


@server("source_port")
def s_source_port(w):
    w.listen(S.AF_INET6)
    for _ in range(2):
        s, a = w.listening.accept()
        w.keep(s)
        w.say("peer's port", a[1])
        w.go()


@client("names")
def wrong_calls(w):
    s = w.connect()
    s.setblocking(False)  # or Python waits for data before it calls accept()
    w.say("bind", outcome(s.bind, ("", 0)))
    w.say("bind a port", outcome(s.bind, ("", 4000)))
    w.say("listen", outcome(s.listen))
    w.say("accept", outcome(s.accept))
    w.say("connect", outcome(s.connect, w.at()))
    w.say("connect elsewhere", outcome(s.connect, w.at(CLOSED)))
    w.say("connect ::", c_connect(s.fileno(), S.AF_INET6, "::", 1))
    w.say("SO_ACCEPTCONN", s.getsockopt(SOL, S.SO_ACCEPTCONN))
    w.say("sendto with an address", outcome(s.sendto, b"x", w.at(CLOSED)))
    s.settimeout(LIMIT)
    w.say("recvfrom", outcome(s.recvfrom, 3))
    w.wait()


@server("wrong_calls")
def s_wrong_calls(w):
    s = w.accept()
    s.setblocking(False)
    w.say("bind", outcome(s.bind, ("", 0)))
    w.say("listen", outcome(s.listen))
    w.say("accept", outcome(s.accept))
    w.say("connect", outcome(s.connect, ("127.0.0.1", CLOSED)))
    s.send(b"abc")
    w.go()


@client("names")
def disconnect(w):
    s = w.connect()
    w.say("AF_UNSPEC", unspec(s))
    w.names(s, "after AF_UNSPEC")


@server("disconnect")
def s_disconnect(w):
    s = w.accept()
    w.say("recv", outcome(s.recv, 1))


# ---- connect() ----

@client("connect")
def non_blocking(w):
    w.wait()
    s = w.socket()
    s.setblocking(False)
    w.say("connect", err(s.connect_ex(w.at())))
    w.say("poll", poll(s))
    w.say("SO_ERROR", so_error(s))
    w.say("connect again", err(s.connect_ex(w.at())))
    w.say("connect a third time", err(s.connect_ex(w.at())))
    w.say("O_NONBLOCK", bool(fcntl.fcntl(s, fcntl.F_GETFL) & os.O_NONBLOCK))
    w.say("recv", outcome(s.recv, 1))
    w.names(s, "connected")
    w.go()


@client("connect")
def level_before(w):
    epoll_before(w, 0)


@client("connect")
def edge_before(w):
    epoll_before(w, select.EPOLLET)


def epoll_before(w, flags):
    w.wait()
    s = w.socket()
    s.setblocking(False)
    with select.epoll() as e:
        e.register(s, select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | flags)
        w.say("before", [events(m) for _, m in e.poll(0)])
        w.say("connect", err(s.connect_ex(w.at())))
        seen = 0
        while not seen & select.EPOLLOUT:
            got = e.poll(5)
            if not got:
                break
            seen |= got[0][1]
        w.say("connected", events(seen))
        w.say("at once again", bool(e.poll(0)))
        s.send(b"x")
        w.wait()
        seen = 0
        end = time.monotonic() + 5
        while not seen & select.EPOLLIN and time.monotonic() < end:
            for _, m in e.poll(1):
                seen |= m
        w.say("data", events(seen & (select.EPOLLIN | select.EPOLLERR | select.EPOLLHUP)))
        w.say("recv", s.recv(5))
        e.modify(s, select.EPOLLRDHUP | flags)
        w.go()
        w.say("end", [events(m) for _, m in e.poll(5)])
        e.unregister(s)
        w.say("unregistered", e.poll(0))


@server("level_before", "edge_before")
def s_epoll(w):
    s = w.accept()
    s.recv(1)
    s.send(b"hello")
    w.go()
    w.wait()
    s.close()


@server("non_blocking")
def s_hold(w):
    w.accept()
    w.wait()


@client("connect")
def refused(w):
    w.wait()
    for family in S.AF_INET, S.AF_INET6:
        s = w.socket(family)
        w.say("blocking", outcome(s.connect, w.at(CLOSED, family)))
        w.say("SO_ERROR", so_error(s))
        w.say("again", outcome(s.connect, w.at(CLOSED, family)))
        w.say("to one that listens", outcome(s.connect, w.at(family=family)))
        s = w.socket(family)
        s.setblocking(False)
        w.say("non-blocking", err(s.connect_ex(w.at(CLOSED, family))))
        w.say("poll", poll(s))
        w.say("SO_ERROR", so_error(s))
        w.say("SO_ERROR again", so_error(s))
        s = w.socket(family)
        s.setblocking(False)
        s.connect_ex(w.at(CLOSED, family))
        poll(s)
        w.say("connect for the error", err(s.connect_ex(w.at(CLOSED, family))))
        s.setblocking(True)
        s.settimeout(LIMIT)
        w.say("then one that listens", outcome(s.connect, w.at(family=family)))
        s = w.socket(family)
        s.setblocking(False)
        with select.epoll() as e:
            e.register(s, select.EPOLLIN | select.EPOLLOUT | select.EPOLLET)
            e.poll(0)
            s.connect_ex(w.at(CLOSED, family))
            seen = 0
            while not seen & select.EPOLLERR:
                got = e.poll(5)
                if not got:
                    break
                seen |= got[0][1]
            w.say("edge", events(seen))
    w.go()


@server("refused")
def s_refused(w):
    w.listen(S.AF_INET6)
    w.wait()


@client("connect")
def unreachable(w):
    for to, family in ("10.77.0.1", S.AF_INET), ("fd77::1", S.AF_INET6):
        s = w.socket(family)
        w.say("blocking", outcome(s.connect, (to, 80)))
        w.say("SO_ERROR", so_error(s))
        s.setblocking(False)
        w.say("non-blocking", err(s.connect_ex((to, 80))))
        w.say("poll", poll(s))
        w.say("SO_ERROR", so_error(s))
    s = w.socket(S.AF_INET6)
    s.setsockopt(IP6, S.IPV6_V6ONLY, 1)
    w.say("mapped, but IPv6 only", outcome(s.connect, ("::ffff:" + w.addr, w.port)))
    s = w.socket()
    w.say("wrong family", c_connect(s.fileno(), S.AF_INET6, w.addr6, w.port))


@client("connect")
def copies(w):
    w.wait()
    s = w.socket()
    t = w.keep(s.dup())
    os.set_inheritable(s.fileno(), True)
    s.connect(w.at())
    t.send(b"dup")
    w.names(t, "of the copy")
    w.say("recv of the copy", t.recv(3))
    w.say("close-on-exec", [bool(fcntl.fcntl(x, fcntl.F_GETFD) & 1) for x in (s, t)])
    pid = os.fork()
    if pid == 0:
        s.send(b"fork")
        os._exit(0 if s.recv(3) == b"bar" else 1)
    w.say("child", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    s.close()
    t.send(b"end")
    w.say("the copy after close", t.recv(3))


@server("copies")
def s_copies(w):
    s = w.accept()
    w.say("dup", exactly(s, 3))
    s.send(b"foo")
    w.say("fork", exactly(s, 4))
    s.send(b"bar")
    w.say("end", exactly(s, 3))
    s.send(b"baz")


@client("connect")
def forked_before(w):
    w.wait()
    s = w.socket()
    r, go = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(go)
        os.read(r, 1)
        os._exit(0 if outcome(s.send, b"x") == 1 else 1)
    s.connect(w.at())
    os.close(go)
    w.say("send in a child forked before connect()", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


@server("forked_before")
def s_forked_before(w):
    s = w.accept()
    w.say("recv", outcome(s.recv, 1))


@client("connect")
def sigio(w):
    got = []
    signal.signal(signal.SIGIO, lambda *_: got.append(1))
    w.wait()
    s = w.socket()
    fcntl.fcntl(s, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(s, fcntl.F_SETFL, fcntl.fcntl(s, fcntl.F_GETFL) | os.O_ASYNC | os.O_NONBLOCK)
    s.connect_ex(w.at())
    poll(s)
    w.go()
    poll(s, select.POLLIN)
    end = time.monotonic() + 5
    while not got and time.monotonic() < end:
        time.sleep(0.01)
    w.say("SIGIO", bool(got))
    w.say("O_ASYNC", bool(fcntl.fcntl(s, fcntl.F_GETFL) & os.O_ASYNC))
    w.say("owner", fcntl.fcntl(s, fcntl.F_GETOWN) == os.getpid())
    signal.signal(signal.SIGIO, signal.SIG_IGN)


@server("sigio")
def s_sigio(w):
    s = w.accept()
    w.wait()
    s.send(b"x")


@client("connect")
def listener_times(w):
    w.wait()
    w.wait()


@server("listener_times")
def s_listener_times(w):
    s = w.listen(opts=[(SOL, S.SO_RCVTIMEO, struct.pack("ll", 0, 200000))])
    s.setblocking(True)
    t = time.monotonic()
    w.say("accept with SO_RCVTIMEO", outcome(s.accept))
    w.say("in time", 0.15 < time.monotonic() - t < 2)
    s.setsockopt(SOL, S.SO_RCVTIMEO, struct.pack("ll", 0, 0))
    r = LIBC.accept
    signal.siginterrupt(signal.SIGALRM, True)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    w.say("accept and a signal", "fd" if r(s.fileno(), None, None) >= 0 else err(ctypes.get_errno()))
    s.setblocking(False)
    w.say("accept, non-blocking", outcome(s.accept))
    w.go()


# ---- options ----

def opt(level, name, value, size=4):
    return level, name, value, size


TIME = struct.pack("ll", 3, 0)
OPTIONS = {
    "NODELAY": opt(TCP, S.TCP_NODELAY, 1), "KEEPALIVE": opt(SOL, S.SO_KEEPALIVE, 1),
    "KEEPIDLE": opt(TCP, S.TCP_KEEPIDLE, 77), "KEEPINTVL": opt(TCP, S.TCP_KEEPINTVL, 13),
    "KEEPCNT": opt(TCP, S.TCP_KEEPCNT, 5), "MAXSEG": opt(TCP, S.TCP_MAXSEG, 1000),
    "USER_TIMEOUT": opt(TCP, S.TCP_USER_TIMEOUT, 12345),
    "CONGESTION": opt(TCP, S.TCP_CONGESTION, b"reno", 16),
    "SYNCNT": opt(TCP, S.TCP_SYNCNT, 3), "LINGER2": opt(TCP, S.TCP_LINGER2, 30),
    "DEFER_ACCEPT": opt(TCP, S.TCP_DEFER_ACCEPT, 0),
    "WINDOW_CLAMP": opt(TCP, S.TCP_WINDOW_CLAMP, 30000),
    "NOTSENT_LOWAT": opt(TCP, S.TCP_NOTSENT_LOWAT, 20000),
    "THIN_LINEAR": opt(TCP, 16, 1), "SAVE_SYN": opt(TCP, 27, 1),
    "TX_DELAY": opt(TCP, 37, 0), "RTO_MAX_MS": opt(TCP, 44, 5000),
    "RCVBUF": opt(SOL, S.SO_RCVBUF, 50000), "SNDBUF": opt(SOL, S.SO_SNDBUF, 60000),
    "RCVLOWAT": opt(SOL, S.SO_RCVLOWAT, 1), "LINGER": opt(SOL, S.SO_LINGER, struct.pack("ii", 1, 7), 8),
    "PRIORITY": opt(SOL, S.SO_PRIORITY, 5), "OOBINLINE": opt(SOL, S.SO_OOBINLINE, 1),
    "REUSEADDR": opt(SOL, S.SO_REUSEADDR, 1), "REUSEPORT": opt(SOL, S.SO_REUSEPORT, 1),
    "RCVTIMEO": opt(SOL, S.SO_RCVTIMEO, TIME, 16), "SNDTIMEO": opt(SOL, S.SO_SNDTIMEO, TIME, 16),
    "TIMESTAMPNS": opt(SOL, 35, 1), "TIMESTAMPING": opt(SOL, 37, 16), "MAX_PACING": opt(SOL, 47, 10000000),
    "BUSY_POLL": opt(SOL, 46, 0), "BROADCAST": opt(SOL, S.SO_BROADCAST, 1), "DONTROUTE": opt(SOL, S.SO_DONTROUTE, 0),
    "NO_CHECK": opt(SOL, 11, 1), "RXQ_OVFL": opt(SOL, 40, 1), "PEEK_OFF": opt(SOL, 42, -1),
    "WIFI_STATUS": opt(SOL, 41, 1), "SELECT_ERR_QUEUE": opt(SOL, 45, 1), "TXREHASH": opt(SOL, 74, 0),
    "TOS": opt(IP, S.IP_TOS, 0x28), "TTL": opt(IP, S.IP_TTL, 33), "MTU_DISCOVER": opt(IP, 10, 3),
    "RECVERR": opt(IP, 11, 1), "RECVTOS": opt(IP, S.IP_RECVTOS, 1), "RECVTTL": opt(IP, 12, 1),
    "PKTINFO": opt(IP, 8, 1), "MINTTL": opt(IP, 21, 3), "FREEBIND": opt(IP, 15, 1),
    "BIND_NO_PORT": opt(IP, 24, 1), "LOCAL_RANGE": opt(IP, 51, struct.pack("HH", 40000, 50000)), "MULTICAST_TTL": opt(IP, 33, 7),
}
OPTIONS6 = {
    "TCLASS": opt(IP6, S.IPV6_TCLASS, 0x28), "UNICAST_HOPS": opt(IP6, S.IPV6_UNICAST_HOPS, 33),
    "MTU_DISCOVER6": opt(IP6, 23, 3), "RECVERR6": opt(IP6, 25, 1), "RECVTCLASS": opt(IP6, S.IPV6_RECVTCLASS, 1),
    "RECVHOPLIMIT": opt(IP6, S.IPV6_RECVHOPLIMIT, 1), "RECVPKTINFO": opt(IP6, S.IPV6_RECVPKTINFO, 1),
    "DONTFRAG": opt(IP6, S.IPV6_DONTFRAG, 1), "V6ONLY": opt(IP6, S.IPV6_V6ONLY, 1), "AUTOFLOWLABEL": opt(IP6, 70, 0),
    "MINHOPCOUNT": opt(IP6, 73, 3), "ADDR_PREFERENCES": opt(IP6, 72, 2), "FLOWINFO_SEND": opt(IP6, 33, 0),
    "MULTICAST_HOPS": opt(IP6, 18, 7),
}
READ = {
    "TYPE": (SOL, S.SO_TYPE, 4), "DOMAIN": (SOL, S.SO_DOMAIN, 4), "PROTOCOL": (SOL, S.SO_PROTOCOL, 4),
    "ACCEPTCONN": (SOL, S.SO_ACCEPTCONN, 4), "BUF_LOCK": (SOL, 72, 4), "MARK": (SOL, S.SO_MARK, 4),
    "BINDTODEVICE": (SOL, S.SO_BINDTODEVICE, 16), "PEERCRED": (SOL, S.SO_PEERCRED, 12),
    "PASSCRED": (SOL, S.SO_PASSCRED, 4), "PEERSEC": (SOL, S.SO_PEERSEC, 64), "PEERGROUPS": (SOL, 59, 64),
    "LOCK_FILTER": (SOL, 44, 4), "GET_FILTER": (SOL, 26, 64), "SNDLOWAT": (SOL, 19, 4), "ERROR": (SOL, 4, 4),
    "ULP": (TCP, 31, 16), "MD5SIG": (TCP, 14, 4), "FASTOPEN": (TCP, 23, 4), "FASTOPEN_CONNECT": (TCP, 30, 4),
    "FASTOPEN_NO_COOKIE": (TCP, 34, 4), "FASTOPEN_KEY": (TCP, 33, 16), "REPAIR": (TCP, 19, 4), "INQ": (TCP, 36, 4),
    "IS_MPTCP": (TCP, 43, 4), "MTU": (IP, 14, 4), "OPTIONS": (IP, 4, 40), "PKTOPTIONS": (IP, 9, 64),
    "TRANSPARENT": (IP, 19, 4), "PEERNAME": (SOL, 28, 2), "ZEROCOPY": (SOL, 60, 4), "INCOMING_NAPI": (SOL, 56, 0),
    "MTU6": (IP6, 24, 4), "ADDRFORM": (IP6, 1, 4), "TXTIME": (SOL, 61, 8),
}


def value(s, level, name, size):
    v = outcome(s.getsockopt, level, name, size)
    if not isinstance(v, bytes):
        return v
    return v.rstrip(b"\0") if level == TCP and size == 16 else v.hex()


def tell_options(w, s, which, when):
    for n, (level, name, _, size) in which.items():
        w.say(f"{when} {n}", value(s, level, name, size))


def tell_read(w, s):
    for n, (level, name, size) in READ.items():
        w.say(f"reads {n}", value(s, level, name, size))
    info = s.getsockopt(TCP, S.TCP_INFO, 256)
    w.say("TCP_INFO state, options", (info[0], info[5]))
    w.say("TCP_INFO mss", struct.unpack_from("II", info, 16))
    w.say("TCP_INFO pmtu", struct.unpack_from("I", info, 60))
    w.say("SO_COOKIE", len(set(s.getsockopt(SOL, 57, 8))) > 1)
    w.say("SO_NETNS_COOKIE", s.getsockopt(SOL, 71, 8) == w.ctl.getsockopt(SOL, 71, 8))


@client("options")
def defaults4(w):
    s = w.connect()
    tell_options(w, s, OPTIONS, "default")
    tell_read(w, s)
    w.go()
    w.wait()


@client("options")
def defaults6(w):
    s = w.connect(S.AF_INET6)
    tell_options(w, s, {**OPTIONS, **OPTIONS6}, "default")
    tell_read(w, s)
    w.go()
    w.wait()


@server("defaults4", "defaults6")
def s_defaults(w):
    six = w.name == "defaults6"
    s = w.accept(S.AF_INET6 if six else S.AF_INET)
    tell_options(w, s, {**OPTIONS, **OPTIONS6} if six else OPTIONS, "default")
    tell_read(w, s)
    w.wait()
    w.go()


def set_all(w, s, which, when):
    for n, (level, name, v, _) in which.items():
        r = outcome(s.setsockopt, level, name, v)
        w.say(f"{when} set {n}", r)


def options_one(w, family, which):
    """Each by itself, on a connection of its own."""
    for n in which:
        w.wait()
        s = w.socket(family)
        level, name, v, size = which[n]
        r = outcome(s.setsockopt, level, name, v)
        before = value(s, level, name, size)
        s.connect(w.at(family=family))
        w.say(f"{n} set, before, connected", (r, before, value(s, level, name, size)))
        w.go()
        s.close()


def s_options_one(w, family, which):
    w.listen(family)
    for n in which:
        level, name, _, size = which[n]
        s, _ = w.listening.accept()
        w.say(f"{n} at the other end", value(s, level, name, size))
        w.wait()
        s.close()
        w.go()


@client("options")
def before4(w):
    options_one(w, S.AF_INET, OPTIONS)


@client("options")
def before6(w):
    options_one(w, S.AF_INET6, {**OPTIONS, **OPTIONS6})


@server("before4")
def s_before4(w):
    s_options_one(w, S.AF_INET, OPTIONS)


@server("before6")
def s_before6(w):
    s_options_one(w, S.AF_INET6, {**OPTIONS, **OPTIONS6})


@client("options")
def inherited4(w):
    for _ in OPTIONS:
        w.connect().recv(1)


@client("options")
def inherited6(w):
    for _ in {**OPTIONS, **OPTIONS6}:
        w.connect(S.AF_INET6).recv(1)


@server("inherited4", "inherited6")
def s_inherited(w):
    six = w.name == "inherited6"
    family = S.AF_INET6 if six else S.AF_INET
    for n, (level, name, v, size) in ({**OPTIONS, **OPTIONS6} if six else OPTIONS).items():
        l = S.socket(family, S.SOCK_STREAM)
        l.setsockopt(SOL, S.SO_REUSEADDR, 1)
        r = outcome(l.setsockopt, level, name, v)
        port = next(NEXT)
        l.bind(("" if family == S.AF_INET else "::", port))
        l.listen()
        w.go([port, six and n != "V6ONLY"])
        s, _ = l.accept()
        w.say(f"{n} set, listener, accepted", (r, value(l, level, name, size), value(s, level, name, size)))
        l.close()
        s.close()


@client("options")
def live4(w):
    s = w.connect()
    set_all(w, s, OPTIONS, "live")
    tell_options(w, s, OPTIONS, "live")
    w.wait()


@client("options")
def live6(w):
    s = w.connect(S.AF_INET6)
    set_all(w, s, {**OPTIONS, **OPTIONS6}, "live")
    tell_options(w, s, {**OPTIONS, **OPTIONS6}, "live")
    w.wait()


@server("live4", "live6")
def s_live(w):
    six = w.name == "live6"
    s = w.accept(S.AF_INET6 if six else S.AF_INET)
    which = {**OPTIONS, **OPTIONS6} if six else OPTIONS
    set_all(w, s, which, "live")
    tell_options(w, s, which, "live")
    w.go()


@client("options")
def small_buffer(w):
    w.wait()
    for size in 1, 2304, 4608, 8192:
        s = w.socket()
        s.setsockopt(SOL, S.SO_SNDBUF, size)
        s.connect(w.at())
        s.sendall(b"y" * 5000)
        w.say(f"SO_SNDBUF {size}", (s.getsockopt(SOL, S.SO_SNDBUF), s.recv(4)))
        s = w.socket()
        s.setblocking(False)
        s.setsockopt(SOL, S.SO_SNDBUF, size)
        w.say("non-blocking", err(s.connect_ex(w.at())))
        w.say("poll", until(s, select.POLLOUT))
        s.setblocking(True)
        s.settimeout(LIMIT)
        s.sendall(b"z" * 5000)
        w.say("non-blocking, answer", s.recv(4))


@server("small_buffer")
def s_small_buffer(w):
    w.listen()
    for _ in range(8):
        s = w.accept()
        w.say("got", len(exactly(s, 5000)))
        s.send(b"done")


# ---- data ----

@client("data")
def flags(w):
    s = w.connect()
    s.settimeout(None)
    w.say("recv MSG_DONTWAIT", outcome(s.recv, 1, S.MSG_DONTWAIT))
    w.say("recv MSG_ERRQUEUE", outcome(s.recv, 1, MSG_ERRQUEUE))
    w.go()
    until(s, select.POLLIN)
    w.wait()
    w.say("SIOCINQ", struct.unpack("i", fcntl.ioctl(s, SIOCINQ, bytes(4)))[0])
    w.say("MSG_PEEK", s.recv(4, S.MSG_PEEK))
    w.say("MSG_PEEK again", s.recv(4, S.MSG_PEEK))
    n = LIBC.recv(s.fileno(), None, 3, S.MSG_TRUNC)
    w.say("MSG_TRUNC", n if n >= 0 else err(ctypes.get_errno()))
    w.say("MSG_WAITALL", s.recv(6, S.MSG_WAITALL))
    w.say("recvmsg", s.recvmsg(1, 100))
    w.go()
    w.say("urgent", poll(s, select.POLLPRI))
    w.wait()
    w.say("SIOCATMARK", struct.unpack("i", fcntl.ioctl(s, SIOCATMARK, bytes(4)))[0])
    w.say("before it", s.recv(100))
    w.say("SIOCATMARK", struct.unpack("i", fcntl.ioctl(s, SIOCATMARK, bytes(4)))[0])
    w.say("MSG_OOB", outcome(s.recv, 1, S.MSG_OOB))
    w.say("MSG_OOB again", outcome(s.recv, 1, S.MSG_OOB))
    w.say("after it", s.recv(100))
    with open("/dev/null", "rb") as f:
        w.say("SCM_RIGHTS", outcome(s.sendmsg, [b"r"], [(SOL, S.SCM_RIGHTS, array.array("i", [f.fileno()]))]))
    w.say("sendmsg with an unknown one", outcome(s.sendmsg, [b"r"], [(SOL, 200, b"xxxx")]))
    w.say("MSG_MORE", s.send(b"m", S.MSG_MORE))
    w.say("MSG_EOR", s.send(b"e", S.MSG_EOR))
    w.say("MSG_ZEROCOPY", outcome(s.send, b"z", 0x4000000))


@server("flags")
def s_flags(w):
    s = w.accept()
    w.wait()
    s.send(b"0123456789")
    w.go()
    w.wait()
    s.send(b"ab!", S.MSG_OOB)
    s.send(b"cd")
    w.go()
    data, anc, _, a = s.recvmsg(1, 100)
    w.say("SCM_RIGHTS", (data, anc, a))
    w.say("rest", sorted(everything(s)))


@client("data")
def queues(w):
    s = w.connect()
    w.say("SIOCOUTQ, nothing sent", struct.unpack("i", fcntl.ioctl(s, SIOCOUTQ, bytes(4)))[0])
    s.send(b"x" * 1000)
    w.go()
    w.wait()
    end = time.monotonic() + 5
    while struct.unpack("i", fcntl.ioctl(s, SIOCOUTQ, bytes(4)))[0] and time.monotonic() < end:
        time.sleep(0.01)
    w.say("SIOCOUTQ, all acknowledged", struct.unpack("i", fcntl.ioctl(s, SIOCOUTQ, bytes(4)))[0])
    w.say("SIOCOUTQNSD", struct.unpack("i", fcntl.ioctl(s, 0x894b, bytes(4)))[0])
    w.say("SIOCGIFCONF", "ok" if struct.unpack_from("i", fcntl.ioctl(s, SIOCGIFCONF, bytes(16)))[0] > 0 else "none")
    w.say("SIOCGIFFLAGS of lo", outcome(lambda: fcntl.ioctl(s, 0x8913, b"lo" + bytes(38))[16] & 1))
    w.say("SIOCGSTAMP", outcome(fcntl.ioctl, s, 0x8906, bytes(16)))
    w.say("FIOASYNC", outcome(fcntl.ioctl, s, 0x5452, struct.pack("i", 0)) is not None)
    w.say("SIOCGPGRP", struct.unpack("i", fcntl.ioctl(s, 0x8904, bytes(4)))[0])
    w.say("unknown", outcome(fcntl.ioctl, s, 0x89ff, bytes(64)))
    w.say("fstat", oct(os.fstat(s.fileno()).st_mode))
    w.go()


@server("queues")
def s_queues(w):
    s = w.accept()
    w.wait()
    exactly(s, 1000)
    w.go()
    w.wait()


@client("data")
def linger_zero(w):
    s = w.connect()
    s.send(b"bye")
    w.wait()
    s.setsockopt(SOL, S.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()
    w.go()
    s = w.connect()
    w.wait()
    s.close()  # with data unread
    w.go()
    s = w.connect()
    s.shutdown(S.SHUT_RD)
    w.say("recv after SHUT_RD", outcome(s.recv, 1))
    w.wait()
    w.say("send after SHUT_RD", s.send(b"still"))
    w.wait()


@server("linger_zero")
def s_linger_zero(w):
    s = w.accept()
    w.say("data", s.recv(3))
    w.go()
    w.wait()
    w.say("poll", until(s, select.POLLHUP))
    w.say("recv", outcome(s.recv, 1))
    w.say("recv again", outcome(s.recv, 1))
    w.go()
    s = w.accept()
    s.send(b"unread")
    w.go()
    w.wait()
    w.say("unread: poll", until(s, select.POLLHUP))
    w.say("unread: recv", outcome(s.recv, 1))
    w.say("unread: send", outcome(s.send, b"x"))
    w.go()
    s = w.accept()
    w.go()
    w.say("from one that reads no more", s.recv(10))
    w.say("send to it", outcome(s.send, b"x"))
    w.go()


@client("data")
def half_close(w):
    s = w.connect()
    s.sendall(b"question" * 1000)
    s.shutdown(S.SHUT_WR)
    w.say("send after SHUT_WR", outcome(s.send, b"x", S.MSG_NOSIGNAL))
    w.say("answer", hashlib.md5(everything(s)).hexdigest())
    s = w.connect()
    w.say("end of file", s.recv(1))
    w.say("poll", poll(s))
    s.sendall(b"late" * 1000)


@server("half_close")
def s_half_close(w):
    s = w.accept()
    data = everything(s)
    w.say("question", len(data))
    w.say("poll", poll(s))
    s.sendall(data * 5)
    s.close()
    w.go()
    s = w.accept()
    s.shutdown(S.SHUT_WR)
    w.say("late", len(everything(s)))


def block(i):
    return hashlib.sha256(str(i).encode()).digest() * 32768  # 1 MiB


def pump(w, s, n):
    """n MiB out and in at once; the digest of what came in."""
    def out():
        for i in range(n):
            s.sendall(block(i))
        s.shutdown(S.SHUT_WR)
    t = threading.Thread(target=out)
    t.start()
    h, size = hashlib.md5(), 0
    while True:
        part = s.recv(1 << 20)
        if not part:
            break
        h.update(part)
        size += len(part)
    t.join()
    w.say("received", (size, h.hexdigest()))


@client("data")
def bulk(w):
    pump(w, w.connect(), 100)


@client("data")
def bulk_small(w):
    pump(w, w.connect(opts=[(SOL, S.SO_SNDBUF, 4096), (SOL, S.SO_RCVBUF, 4096)]), 3)


@server("bulk", "bulk_small")
def s_bulk(w):
    pump(w, w.accept(), 100 if w.name == "bulk" else 3)


@client("data")
def files(w):
    s = w.connect()
    s.settimeout(None)
    with open(os.environ["TMPDIR"] + "/both-ends", "w+b") as f:
        os.unlink(f.name)
        f.write(block(1))
        f.flush()
        at = 0
        while at < 1 << 20:
            at += os.sendfile(s.fileno(), f.fileno(), at, (1 << 20) - at)
        w.say("sendfile", at)
        f.seek(0)
        r, p = os.pipe()
        left = 1 << 20
        while left:
            n = LIBC.splice(f.fileno(), None, p, None, min(left, 65536), 0)
            while n > 0:
                m = LIBC.splice(r, None, s.fileno(), None, n, 0)
                n -= m
                left -= m
        s.shutdown(S.SHUT_WR)
        h = hashlib.md5()
        while LIBC.splice(s.fileno(), None, p, None, 65536, 0) > 0:
            h.update(os.read(r, 65536))
        w.say("splice back", h.hexdigest())


@server("files")
def s_files(w):
    s = w.accept()
    data = everything(s)
    w.say("got", (len(data), hashlib.md5(data).hexdigest()))
    s.sendall(data)


@client("data")
def many(w):
    w.wait()
    bad = []

    def some(k):
        all_ = []
        for i in range(100):
            s = S.socket()
            s.settimeout(LIMIT)
            try:
                s.connect(w.at())
            except OSError as e:
                bad.append(f"connect {err(e.errno)}")
                return
            s.send(f"{k:02}{i:03}".encode())
            all_.append(s)
        for i, s in enumerate(all_):
            got = outcome(s.recv, 5)
            if got != f"{k:02}{i:03}".encode():
                bad.append(f"recv {got}")
            s.close()
    ts = [threading.Thread(target=some, args=(k,)) for k in range(10)]
    for t in ts:
        t.start()
    for t in ts:
        t.join()
    w.say("wrong", sorted(set(bad)))


@server("many")
def s_many(w):
    w.listen(backlog=1024)
    e, open_, n = select.epoll(), {}, 0
    e.register(w.listening, select.EPOLLIN)
    while n < 1000:
        for fd, _ in e.poll(LIMIT) or exit_late():
            if fd == w.listening.fileno():
                s, _ = w.listening.accept()
                open_[s.fileno()] = s
                e.register(s, select.EPOLLIN)
                continue
            s = open_[fd]
            data = s.recv(5)
            if data:
                s.send(data)
            else:
                del open_[fd]
                s.close()
                n += 1
    w.say("served", n)


def exit_late():
    raise EOFError("no more connections")


# ---- a host that does not answer ----

def silent(w, f, *args):
    t = time.monotonic()
    r = outcome(f, *args)
    return r, time.monotonic() - t


@server("no_answer", "no_answer_in_time", "interrupted", "closed_meanwhile")
def s_silence(w):
    w.listen()
    w.wait()  # in vain: until the other end is gone


@client("silent")
def no_answer(w):
    w.wait()
    w.hush()
    s = w.socket()
    s.setblocking(False)
    r, t = silent(w, lambda: err(s.connect_ex(w.at())))
    w.say("non-blocking", r)
    w.say("without waiting", t < 0.5)
    w.say("again", err(s.connect_ex(w.at())))
    w.say("elsewhere", err(s.connect_ex(w.at(CLOSED))))
    w.say("poll", poll(s, ms=100))
    w.say("SO_ERROR", so_error(s))
    w.say("getpeername", outcome(s.getpeername))
    w.say("getsockname", s.getsockname()[0])
    w.say("state", tcp_state(s))
    w.say("recv", outcome(s.recv, 1))
    w.say("send", outcome(s.send, b"x"))
    w.say("listen", outcome(s.listen))
    w.say("bind", outcome(s.bind, ("", 0)))
    w.say("shutdown", outcome(s.shutdown, S.SHUT_WR))
    w.say("close", outcome(s.close))


@client("silent")
def no_answer_in_time(w):
    w.wait()
    w.hush()
    s = S.socket()
    s.setsockopt(SOL, S.SO_SNDTIMEO, struct.pack("ll", 0, 300000))
    r, t = silent(w, s.connect, w.at())
    w.say("SO_SNDTIMEO", r)
    w.say("in time", 0.25 < t < 1)
    w.say("state", tcp_state(s))
    r, t = silent(w, s.connect, w.at())
    w.say("again", r)
    w.say("poll", poll(s, ms=0))


@client("silent")
def interrupted(w):
    w.wait()
    w.hush()
    s = S.socket()
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.siginterrupt(signal.SIGALRM, True)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    w.say("connect and a signal", c_connect(s.fileno(), S.AF_INET, w.addr, w.port))
    s.setblocking(False)
    w.say("again", err(s.connect_ex(w.at())))
    w.say("poll", poll(s, ms=50))
    w.say("SO_ERROR", so_error(s))
    s = S.socket()
    signal.siginterrupt(signal.SIGALRM, False)
    t = threading.Timer(0.5, w.heal)
    t.start()
    signal.setitimer(signal.ITIMER_REAL, 0.2, 0.1)
    w.say("connect that signals restart", c_connect(s.fileno(), S.AF_INET, w.addr, w.port))
    signal.setitimer(signal.ITIMER_REAL, 0)
    t.join()
    w.names(s, "connected")


@client("silent")
def closed_meanwhile(w):
    w.wait()
    w.hush()
    s = S.socket()
    ts = [threading.Timer(0.2, lambda: outcome(s.shutdown, S.SHUT_RDWR)), threading.Timer(1, w.heal)]
    for t in ts:
        t.start()
    w.say("connect and shutdown by another thread", c_connect(s.fileno(), S.AF_INET, w.addr, w.port))
    for t in ts:
        t.join()


@client("heals")
def late_answer(w):
    """The SYNs come through after a while; who asked before is connected by their repetition."""
    w.wait()
    w.hush()
    a = w.socket()
    a.setblocking(False)
    a.connect_ex(w.at())
    b = S.socket()
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.siginterrupt(signal.SIGALRM, True)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    w.say("interrupted", c_connect(b.fileno(), S.AF_INET, w.addr, w.port))
    c = S.socket()
    c.setsockopt(SOL, S.SO_SNDTIMEO, struct.pack("ll", 0, 100000))
    w.say("timed out", outcome(c.connect, w.at()))
    w.heal()
    for n, s in ("non-blocking", a), ("interrupted", b), ("timed out", c):
        w.say(f"{n}: poll", until(s, select.POLLOUT, 8000))
        w.say(f"{n}: SO_ERROR", so_error(s))
        s.setblocking(True)
        s.settimeout(LIMIT)
        w.say(f"{n}: send", outcome(s.send, n[:1].encode()))
        w.say(f"{n}: recv", outcome(s.recv, 1))


@server("late_answer")
def s_late_answer(w):
    w.listen()
    w.listening.settimeout(None)
    for _ in range(3):
        s, _ = w.listening.accept()
        threading.Thread(target=lambda s=s: s.send(s.recv(1))).start()


# ---- fast or slow ----

@client("quick")
def quick(w):
    """How long connections take, in ms: the first, and the slowest of the others."""
    w.wait()
    took = []
    for i in range(10):
        s = w.socket()
        s.setblocking(bool(i % 2))
        t = time.monotonic()
        if i % 2:
            s.connect(w.at())
        else:
            s.connect_ex(w.at())
            until(s, select.POLLOUT)
        s.setblocking(True)
        s.settimeout(LIMIT)
        s.send(b"q")
        if s.recv(1) != b"q":
            raise EOFError
        took.append(int((time.monotonic() - t) * 1000))
        s.close()
    w.go("done")
    print(f"TOOK {took[0]} {max(took[1:])}", flush=True)


@server("quick")
def s_quick(w):
    w.listen()
    for _ in range(10):
        s = w.accept()
        s.send(s.recv(1))
    w.wait()


# ---- both ----

def run(w, f):
    try:
        f(w)
    except (OSError, EOFError, ValueError) as e:
        w.say("ended by", err(e.errno) if isinstance(e, OSError) and e.errno else repr(e))
    w.done()


def serve_one(ctl):
    ctl.settimeout(LIMIT + 4)
    w = World("server", "", ctl)
    w.name = w.wait()
    run(w, SERVER.get(w.name, lambda w: None))
    w.go({"lines": w.lines})
    ctl.close()


def main():
    if sys.argv[1] == "server":
        signal.signal(signal.SIGALRM, lambda *_: None)
        l = S.socket(S.AF_INET6)
        l.setsockopt(SOL, S.SO_REUSEADDR, 1)
        l.bind(("::", CTL))
        l.listen()
        while True:
            serve_one(l.accept()[0])
    group, addr, addr6 = sys.argv[2:5]
    for n in GROUPS[group]:
        w = World("client", n, S.create_connection((addr, CTL), timeout=LIMIT + 4), addr, addr6)
        w.go(n)
        run(w, CLIENT[n])
        if group == "silent":
            w.heal()
            w.go()
        try:
            got = w.wait()
            while not isinstance(got, dict):
                got = w.wait()
            theirs = got["lines"]
        except (OSError, EOFError) as e:
            theirs = [f"{n} server ended = {e!r}"]
        for line in w.lines + theirs:
            print(line, flush=True)


if __name__ == "__main__":
    main()
